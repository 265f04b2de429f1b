"""How quick is a training step, against a plain loop and against the machine?

    python -m tests.benchmarks.training_step [--rounds 3]

Trains the PS-VAE with the published network on generated clips of 200 frames, in turn by a plain
loop (float32, the convolutions as PyTorch has them, the HDF5 file opened for every clip, every
loss read at once) and by `train.fit`, in float32 and in the precision that ``auto`` picks, each in
processes of its own. Then holds what `train.fit` computes against the quickest matrix product of
the machine. Prints two Markdown tables and writes ``training_step.json``. Uses the GPU if there is
one; ten minutes on two cores.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from psvae_tune.cluster.ray_session import WORKER_ENVIRONMENT
from psvae_tune.config.study import parse_study
from psvae_tune.config.trial import TrialConfig
from psvae_tune.data.demo import write_demo
from psvae_tune.data.session_file import read_session
from psvae_tune.models.batch import Batch
from psvae_tune.models.layers import matmul_conv, transposed_conv
from psvae_tune.models.layers.architecture import FrameSize
from psvae_tune.models.registry import build_model
from psvae_tune.training.batches import PreparedData, prepare_data
from psvae_tune.training.fit import fit, start
from psvae_tune.training.precision import pick_dtype
from tests.support.command import ROOT
from tests.support.mirror_camera import add_mirror_camera

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZES = ((64, 1), (64, 2), (128, 1), (128, 2))
N_LABELS, N_CLIPS, N_FRAMES, N_EPOCHS = 4, 10, 200, 2
LOOPS = ("plain", "float32", "auto")
MATRIX_SIZES = (1024, 2048, 4096)


def write_recording(folder: Path, size: int, n_channels: int) -> Path:
    """Write a generated recording of one camera, or of two."""
    path = folder / f"{size}-{n_channels}.h5"
    write_demo(path, n_clips=N_CLIPS, clip_length=N_FRAMES, size=size)
    if n_channels == 2:
        add_mirror_camera(path)
    return path


def make_config(precision: str, network: str = "published") -> TrialConfig:
    """Return the shipped PS-VAE, which trains and never validates.

    Its network is the ``small`` one of that file, or the ``published`` one.
    """
    raw = yaml.safe_load((ROOT / "search_spaces" / "ps_vae_published.yaml").read_text())
    if network == "published":
        raw["model"]["ae_arch_json"] = None
    raw["training"] |= {"max_n_epochs": 10**6, "val_check_interval": 10**6}
    base = parse_study(raw, "ps_vae_published.yaml", n_labels=N_LABELS).base
    return base.with_params({"precision": precision})


def transposed_convolution(
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, before: FrameSize, outer: FrameSize
) -> Tensor:
    """Return what `transposed_conv.grow` does, for frames of even sizes."""
    return F.conv_transpose2d(x, weight, bias, stride, before)[..., : outer[0], : outer[1]]


def use_plain_convolutions() -> None:
    """Have all convolutions of this process be those of PyTorch, from here on."""
    matmul_conv.are_quicker = lambda weight, inner: False
    transposed_conv.grow = transposed_convolution


def plain_epochs(path: Path, data: PreparedData, config: TrialConfig) -> Iterator[None]:
    """Train as a loop does that nobody has looked at, with the convolutions of PyTorch.

    Side effects: this process has no other convolutions from here on.
    """
    use_plain_convolutions()
    model = build_model(config.model, data.shape).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, amsgrad=True)
    rng = torch.Generator(DEVICE).manual_seed(0)
    item = data.sessions[0]
    clips = item.splits.train
    while True:
        losses: dict[str, float] = {}
        for clip in clips:
            with h5py.File(path) as file:
                frames = file[f"images/trial_{clip:04d}"][()]
                mask = file[f"labels_masks/trial_{clip:04d}"][()]
            rows = item.session.clip(clip)
            assert item.labels is not None
            batch = Batch(
                frames=torch.tensor(frames.astype(np.float32) / 255).to(DEVICE),
                labels=torch.tensor(item.labels[rows]).to(DEVICE),
                label_mask=torch.tensor(mask.astype(np.float32)).to(DEVICE),
            )
            optimizer.zero_grad()
            terms = model.terms(batch, 1.0, rng)
            terms.loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            for name, value in terms.values().items():
                losses[name] = losses.get(name, 0) + value.item() / len(clips)
        yield None


def fast_epochs(data: PreparedData, config: TrialConfig) -> Iterator[Any]:
    """Train as a trial does, without its validation."""
    return fit(start(config, data, DEVICE), data, config)


def clock(step: Callable[[], Any]) -> float:
    """Return the seconds of a call, those that a GPU still works included."""
    begin = time.perf_counter()
    step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def time_loop(path: Path, loop: str) -> float:
    """Return the seconds of an epoch of a loop in this process."""
    config = make_config("float32" if loop == "plain" else loop)
    data = prepare_data([read_session(path, needs_labels=True)], config)
    epochs = plain_epochs(path, data, config) if loop == "plain" else fast_epochs(data, config)
    # The first epoch also pays for what is set up once.
    return min([clock(lambda: next(epochs)) for _ in range(1 + N_EPOCHS)][1:])


def time_loop_apart(path: Path, loop: str) -> float:
    """Return the same of a process of its own, which for a trial's loop is as its worker is."""
    environment = {**os.environ, **({} if loop == "plain" else WORKER_ENVIRONMENT)}
    call = [sys.executable, "-m", "tests.benchmarks.training_step", "--loop", loop, str(path)]
    done = subprocess.run(call, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout)


def count_flops(data: PreparedData, config: TrialConfig) -> float:
    """Return the operations of one epoch: products and sums of convolutions and matrices."""
    epochs = fast_epochs(data, config)
    with FlopCounterMode(display=False) as counter:
        next(epochs)
    return counter.get_total_flops()


def fastest_product(dtype: torch.dtype) -> float:
    """Return the operations a second of the quickest matrix product here."""
    best = 0.0
    for size in MATRIX_SIZES:
        a, b = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
        seconds = min(clock(lambda a=a, b=b: a @ b) for _ in range(10))  # type: ignore[misc]
        best = max(best, 2 * size**3 / seconds)
    return best


def measure(path: Path, n_rounds: int) -> dict[str, float]:
    """Return the seconds of an epoch of every loop, the best of its rounds, and its operations."""
    rounds = [[time_loop_apart(path, loop) for loop in LOOPS] for _ in range(n_rounds)]
    config = make_config("float32")
    data = prepare_data([read_session(path, needs_labels=True)], config)
    best = dict(zip(LOOPS, np.min(rounds, axis=0).tolist(), strict=True))
    return {**best, "flops": count_flops(data, config)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loop", nargs=2, metavar=("LOOP", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        print(time_loop(Path(options.loop[1]), options.loop[0]))
        return
    auto = pick_dtype("auto", DEVICE)
    peaks = {"float32": fastest_product(torch.float32), "auto": fastest_product(auto)}
    rows = []
    with TemporaryDirectory() as folder:
        for size, n_channels in SIZES:
            path = write_recording(Path(folder), size, n_channels)
            rows.append({"size": size, "n_channels": n_channels, **measure(path, options.rounds)})
    print_tables(rows, peaks, str(auto).removeprefix("torch."))
    report = {"threads": torch.get_num_threads(), "device": str(DEVICE), "peaks": peaks}
    Path("training_step.json").write_text(json.dumps({**report, "rows": rows}, indent=2))


def print_tables(
    rows: Sequence[Mapping[str, float]], peaks: Mapping[str, float], name: str
) -> None:
    """Print frames a second, and how near they come to the quickest product."""
    n_frames = 0.8 * N_CLIPS * N_FRAMES
    names = [f"{row['n_channels']}×{row['size']}×{row['size']}" for row in rows]
    print(f"| frames a second | plain loop | float32 | {name} |\n|---|---|---|---|")
    for label, row in zip(names, rows, strict=True):
        cells = [f"{n_frames / row[key]:.0f} ({row['plain'] / row[key]:.1f} ×)" for key in peaks]
        print(f"| {label} | {n_frames / row['plain']:.0f} | {' | '.join(cells)} |")
    print(f"\n| of the quickest product | float32 | {name} |\n|---|---|---|")
    print(f"| product, GFLOP/s | {' | '.join(f'{peak / 1e9:.0f}' for peak in peaks.values())} |")
    for label, row in zip(names, rows, strict=True):
        cells = [f"{100 * row['flops'] / row[key] / peak:.0f} %" for key, peak in peaks.items()]
        print(f"| {label} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
