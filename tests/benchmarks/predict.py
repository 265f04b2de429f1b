"""Is `predict` held up by inference alone, and how long does an hour of video take?

    python -m tests.benchmarks.predict [frames]

A video of 128x128 pixels is made, of so many frames (default 1024). Its frames are decoded alone,
encoded alone from memory, and both by turns and at the same time, as `predict` does. Each is timed
twice in turn; the smaller time counts. CPU seconds tell what the work costs where other work keeps
the machine busy. It takes two minutes on two quiet cores.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.data.label_scaler import LabelScaler
from psvae_tune.models.batch import DataShape
from psvae_tune.models.encoding import encode, iter_batches, split_frames
from psvae_tune.models.model import Model
from psvae_tune.models.model_file import SavedModel
from psvae_tune.models.registry import build_model
from psvae_tune.results.predictions import predict_recording
from psvae_tune.results.recording_frames import RecordingFrames, open_recording

SIZE, FPS, N_AT_ONCE, N_REPEATS = 128, 30, 64, 2
NETWORKS = {
    "published": None,
    "small": {
        "ae_encoding_n_channels": [16, 32, 64],
        "ae_encoding_kernel_size": [5, 5, 5],
        "ae_encoding_stride_size": [2, 2, 2],
    },
}


def make_video(path: Path, n_frames: int) -> None:
    """Write a textured disk that moves over noise, in H.264."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 90, (SIZE, SIZE)).astype(np.uint8)
    y, x = np.mgrid[:SIZE, :SIZE]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for t in range(n_frames):
            centre = SIZE / 2 + 40 * np.sin(t / 9), SIZE / 2 + 40 * np.cos(t / 13)
            disk = np.hypot(y - centre[0], x - centre[1]) < 20
            picture = np.where(disk, 160 + noise, noise + rng.integers(0, 20, noise.shape))
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="gray")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())


def make_model(architecture: dict | None) -> Model:
    """Return a model of the published or of a small network, with six latents."""
    weights = {"ps_vae.alpha": 10.0, "ps_vae.beta": 1.0}
    config = MODEL_CONFIGS["ps-vae"].model_validate(
        {"model_class": "ps-vae", "n_ae_latents": 6, "ae_arch_json": architecture, **weights}
    )
    return build_model(config, DataShape(1, SIZE, SIZE, 4, 1)).eval()


def measure(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds, and the CPU seconds of all threads, that a call takes."""
    began, used = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began, time.process_time() - used


def compare(name: str, model: Model, video: Path) -> None:
    """Print a row: decoding, encoding, by turns, at the same time."""
    opened = open_recording(video)
    n_frames, frames = opened.n_frames, read(opened, model)
    saved = SavedModel(model, LabelScaler.identity(4), {})
    ways: list[Callable[[], object]] = [
        lambda: read(opened, model),
        lambda: encode(model, iter_batches(model, split_frames(frames, N_AT_ONCE))),
        lambda: encode(model, iter_batches(model, opened._read(model, N_AT_ONCE))),
        lambda: predict_recording(saved, video, n_at_once=N_AT_ONCE),
    ]
    times = np.array([[measure(way) for way in ways] for _ in range(N_REPEATS)]).min(axis=0)
    cells = [f"{n_frames / wall:.0f} ({1000 * cpu / n_frames:.2f} s)" for wall, cpu in times]
    hour = 3600 * FPS * times[-1] / n_frames / 60
    print(f"| {name} | {' | '.join(cells)} | {hour[0]:.0f} min ({hour[1]:.0f} min) |", flush=True)


def read(opened: RecordingFrames, model: Model) -> np.ndarray:
    """Return all frames of a recording as they are decoded."""
    return np.concatenate(list(opened._read(model, N_AT_ONCE)))


def main() -> None:
    """Print the table."""
    n_frames = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    models = {name: make_model(architecture) for name, architecture in NETWORKS.items()}
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        make_video(video, n_frames)
        print("| network | decoding | encoding | by turns | `predict` | an hour at 30 Hz |")
        print("|---|---|---|---|---|---|")
        for name, model in models.items():
            compare(name, model, video)


if __name__ == "__main__":
    main()
