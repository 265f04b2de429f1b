"""How long does an import take beside decoding alone, and how much memory does an hour need?

    python -m tests.benchmarks.import_speed video.mp4 [pose file] [minutes]

Decoding alone is what PyAV needs to decode the frames and size them to those that are stored:
by `reformat`, and by the filters that the import uses. Each is timed five times in turn; the
smallest counts, and ratios are to the faster of the two. Then a synthetic recording of so many
minutes (default 60) at 30 Hz is imported in a process of its own, whose peak memory is told.
"""

import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from psvae_tune.data.importers.plan import plan_import
from psvae_tune.data.importers.request import ImportRequest, Source
from psvae_tune.data.importers.write import import_session
from psvae_tune.data.video import Crop, View, probe_video
from psvae_tune.data.video_frames import iterate_frames

N_REPEATS = 5
FPS = 30
SIZE = (128, 128)


def decode(path: Path) -> float:
    """Return the seconds that decoding and sizing take, nothing stored."""
    began = time.perf_counter()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            frame.reformat(*SIZE, format="gray", interpolation="AREA").to_ndarray()
    return time.perf_counter() - began


def decode_by_filters(path: Path) -> float:
    """Return the same by the filters of the import."""
    info = probe_video(path)
    view = View(Crop(info.width, info.height, 0, 0), *SIZE)
    began = time.perf_counter()
    for _ in iterate_frames(info, view, range(info.n_frames), []):
        pass
    return time.perf_counter() - began


def compare(video: Path, poses: Path | None) -> None:
    """Print decoding alone, storing, and all of an import."""
    stored, whole, alone, filtered = [], [], [], []
    for _ in range(N_REPEATS):
        alone.append(decode(video))
        filtered.append(decode_by_filters(video))
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            plan = plan_import(ImportRequest((Source(video, poses),), size=SIZE))
            planned = time.perf_counter()
            import_session(plan, Path(folder) / "session.h5")
            stored.append(time.perf_counter() - planned)
            whole.append(time.perf_counter() - began)
    n = len(plan.frames)
    rows = {"reformat": alone, "filters": filtered, "storing": stored, "import": whole}
    for what, seconds in rows.items():
        best, baseline = min(seconds), min(alone + filtered)
        print(f"{what:<9} {best:6.2f} s  {n / best:7.0f} frames/s  {best / baseline:5.2f} x")


def write_recording(path: Path, minutes: float) -> None:
    """Write a moving square on noise."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (8, 240, 320), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "35"}
        stream.codec_context.time_base = Fraction(1, FPS)
        for i in range(int(minutes * 60 * FPS)):
            image = noise[i % len(noise)].copy()
            x, y = int(150 + 100 * np.sin(i / 40)), int(110 + 80 * np.cos(i / 55))
            image[y : y + 20, x : x + 20] = 230
            frame = av.VideoFrame.from_ndarray(image, format="gray").reformat(format="yuv420p")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def measure_memory(minutes: float) -> None:
    """Print the peak memory of importing a long recording in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "long.mp4"
        write_recording(video, minutes)
        began = time.perf_counter()
        arguments = [sys.executable, "-m", "tests.benchmarks.import_speed", "--import", str(video)]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        print(f"{minutes:g} minutes at {FPS} Hz: {seconds:.0f} s, {done.stdout.strip()}")


def import_alone(video: Path) -> None:
    """Import a video and print the peak memory of this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan = plan_import(ImportRequest((Source(video),), size=SIZE))
    path = video.with_suffix(".h5")
    import_session(plan, path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"peak memory {peak / 1024:.0f} MB ({before / 1024:.0f} MB before), "
        f"session {path.stat().st_size / 1e6:.0f} MB of {len(plan.frames)} frames"
    )


if __name__ == "__main__":
    if sys.argv[1] == "--import":
        import_alone(Path(sys.argv[2]))
    else:
        compare(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
        measure_memory(float(sys.argv[3]) if len(sys.argv) > 3 else 60)
