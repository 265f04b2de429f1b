"""How quick is a training step on a GPU, and are its numbers those of a CPU's way of training?

    python -m tests.benchmarks.gpu

Trains on generated recordings with `train.fit` as a trial does: without CUDA graphs, with graphs,
and with graphs of compiled steps, as shipped. Compares graphs with eager steps for every model.
Runs one and four processes on the card. Fits a whole model of 500 epochs, validations included.
Fits the demo in both precisions. Prints one Markdown table and writes ``gpu.json``. Less than
eight minutes on one H200, half of them to compile; needs neither Ray nor MLflow nor a network.
What fails is said in its row.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml

from psvae_tune.config.architecture import Architecture
from psvae_tune.config.study import parse_study
from psvae_tune.config.trial import TrialConfig
from psvae_tune.data.demo import write_demo
from psvae_tune.data.session_file import read_session
from psvae_tune.models.layers.architecture import plan_network
from psvae_tune.training.batches import PreparedData, cache_on_device, prepare_data
from psvae_tune.training.fit import fit, start
from psvae_tune.training.precision import measure_seconds
from psvae_tune.training.step import MIN_COMPILED_STEPS
from tests.support.mirror_camera import add_mirror_camera

ROOT = Path(__file__).resolve().parents[2]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
N_CLIPS, N_TRAIN, N_LABELS = 30, 24, 4
SIZES = {
    # (channels, height and width, frames in a clip): goal in frames a second
    (1, 128, 200): 70_000,
    (1, 64, 200): 120_000,
    (2, 128, 200): 60_000,
    (1, 192, 200): 40_000,
    (1, 64, 50): None,
}
SMALL_CLIPS = (1, 64, 50)
N_PROCESSES = {1: None, 4: 120_000}
START_S = 30.0
"""Seconds until a process that shares the card is ready; what it compiles was compiled before."""
WINDOW_S = 5.0
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ae": ({}, {}),
    "cond-ae-msp": ({"msp.alpha": 1}, {}),
    "beta-tcvae": ({"beta_tcvae.beta": 2, "beta_tcvae.beta_anneal_epochs": 2}, {}),
    "ps-vae": ({"ps_vae.alpha": 50, "ps_vae.beta": 2, "ps_vae.anneal_epochs": 2}, {}),
    "ps-vae in micro-batches": (
        {"ps_vae.alpha": 50, "ps_vae.beta": 2, "ps_vae.anneal_epochs": 2},
        {"micro_batch_size": 20},
    ),
    "msps-vae": (
        {
            "ps_vae.alpha": 50,
            "ps_vae.beta": 2,
            "ps_vae.delta": 5,
            "ps_vae.anneal_epochs": 2,
            "n_background": 1,
            "n_sessions_per_batch": 2,
        },
        {},
    ),
}
N_COMPARED = 144
"""Steps that are compared: six epochs, so that validations are recorded, too."""


@dataclass
class Table:
    """Rows of what was measured, printed once at the end."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def add(self, what: str, value: float, text: str, goal: str = "") -> None:
        """Enter a row. Side effects: prints it, for whoever waits."""
        self.rows.append((what, text, goal))
        self.values[what] = value
        print(f"{what}: {text}", file=sys.stderr, flush=True)

    def attempt(self, what: str, section: Callable[["Table"], None]) -> None:
        """Enter the rows of a section, or how it failed."""
        try:
            section(self)
        except Exception as error:  # one section must not cost the others
            traceback.print_exc()
            self.add(what, float("nan"), f"failed: {type(error).__name__}: {error}"[:200])


def write_recording(folder: Path, n_channels: int, size: int, n_frames: int) -> Path:
    """Write a generated recording of one camera, or of two."""
    path = folder / f"{n_channels}-{size}-{n_frames}.h5"
    if path.exists():
        return path
    write_demo(path, n_clips=N_CLIPS, clip_length=n_frames, size=size)
    if n_channels == 2:
        add_mirror_camera(path)
    return path


def make_config(**training: Any) -> TrialConfig:
    """Return the shipped PS-VAE with the published network, which never validates."""
    raw = yaml.safe_load((ROOT / "search_spaces" / "ps_vae_published.yaml").read_text())
    raw["model"]["ae_arch_json"] = None
    raw["training"] |= {"max_n_epochs": 10**6, "val_check_interval": 10**6, **training}
    return parse_study(raw, "ps_vae_published.yaml", n_labels=N_LABELS).base


def load(path: Path, config: TrialConfig, n_sessions: int = 1) -> PreparedData:
    """Return a recording as a trial has it, on the GPU."""
    sessions = [read_session(path, needs_labels=True)] * n_sessions
    return cache_on_device(prepare_data(sessions, config), DEVICE, 10**10)


def synchronize() -> None:
    """Wait for the GPU."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def clock_epochs(epochs: Iterator[Any], n: int) -> float:
    """Return the seconds of an epoch, the median of n."""
    seconds = []
    for _ in range(n):
        synchronize()
        begin = time.perf_counter()
        next(epochs)
        synchronize()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def rate(data: PreparedData, config: TrialConfig, *, may_compile: bool) -> tuple[float, float]:
    """Return the frames a second of a fit, and the seconds of its first epoch."""
    epochs = fit(start(config, data, DEVICE), data, config, may_compile=may_compile)
    first = clock_epochs(epochs, 1)
    next(epochs)
    n_frames = sum(data.clip_lengths(data.clips("train")))
    return n_frames / clock_epochs(epochs, 5), first


def count_flops(n_channels: int, size: int) -> float:
    """Return the operations of a step for one frame: of the convolutions, as published.

    Each takes its product three times, forwards and for the gradients of weights and inputs; the
    frames have no gradient.
    """
    plan = plan_network(Architecture(), n_channels, 0)
    sizes = plan.encoder_sizes((size, size))
    layers = [
        2 * layer.kernel**2 * layer.n_outer * layer.n_inner * height * width
        for layer, (height, width) in zip(plan.encoder, sizes[1:], strict=True)
    ]
    return 6 * sum(layers) - layers[0]


def fastest_product(dtype: torch.dtype) -> float:
    """Return the operations a second of a product of large matrices of random numbers."""
    size = 8192 if DEVICE.type == "cuda" else 512
    a, b = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))

    def products() -> Iterator[None]:
        while True:
            for _ in range(10):
                a @ b
            yield

    return 10 * 2 * size**3 / clock_epochs(products(), 5)


def measure_steps(table: Table, folder: Path) -> None:
    """Measure fits of every size, eager, with graphs and compiled."""
    peak = fastest_product(torch.bfloat16)
    table.add("product of matrices, bfloat16", peak, f"{peak / 1e12:.0f} TFLOP/s")
    for (n_channels, size, n_frames), goal in SIZES.items():
        name = f"{n_channels}×{size}×{size}, clips of {n_frames}"
        data = load(write_recording(folder, n_channels, size, n_frames), make_config())
        eager, _ = rate(data, make_config(cuda_graph="off"), may_compile=False)
        table.add(f"{name}, no graphs", eager, f"{eager:,.0f} frames/s")
        graphs, _ = rate(data, make_config(), may_compile=False)
        table.add(f"{name}, graphs", graphs, f"{graphs:,.0f} frames/s")
        compiled, first = rate(data, make_config(), may_compile=True)
        share = compiled * count_flops(n_channels, size) / peak
        text = f"**{compiled:,.0f} frames/s**, {share:.1%} of the product"
        wanted = f"{goal:,}" if goal else ""
        wanted += ", 25 %" if (n_channels, size) == (1, 128) else ""
        table.add(f"{name}, as shipped", compiled, text, wanted)
        table.add(f"{name}, first epoch with compiling", first, f"{first:.1f} s")


def train_beside_others(path: Path, begin: float) -> float:
    """Return the frames that this process trains in a window of time that others share."""
    config = make_config()
    data = load(path, config)
    epochs = fit(start(config, data, DEVICE), data, config)
    for _ in range(3):
        next(epochs)
    synchronize()
    late = time.time() - begin
    if late > 0:
        raise RuntimeError(f"ready {late:.1f} s too late")
    time.sleep(-late)
    n_epochs = 0
    while time.time() < begin + WINDOW_S:
        next(epochs)
        synchronize()
        n_epochs += 1
    return n_epochs * sum(data.clip_lengths(data.clips("train"))) / (time.time() - begin)


def measure_packing(table: Table, folder: Path) -> None:
    """Measure processes that share the card."""
    path = write_recording(folder, *SMALL_CLIPS)
    for n, goal in N_PROCESSES.items():
        begin = time.time() + START_S
        call = [sys.executable, "-m", "tests.benchmarks.gpu", "--beside", str(path), str(begin)]
        running = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(n)]
        try:
            total = sum(float(process.communicate()[0]) for process in running)
        finally:
            for process in running:
                process.kill()
        what = f"1×64×64, clips of 50, {n} processes together"
        table.add(what, total, f"{total:,.0f} frames/s", f"{goal:,}" if goal else "")


def compare_model(table: Table, folder: Path, name: str) -> None:
    """Compare the metrics of recorded steps and validations with those of eager ones."""
    path = write_recording(folder, 1, 32, 50)
    raw = yaml.safe_load((ROOT / "search_spaces" / "ps_vae_published.yaml").read_text())
    model, training = MODELS[name]
    n_sessions, n_epochs = (2 if name == "msps-vae" else 1), -(-N_COMPARED // N_TRAIN)
    found = []
    for graph in ("off", "auto"):
        raw["model"] = {"model_class": name.split()[0], "n_ae_latents": 7, **model}
        raw["training"] = {"max_n_epochs": 10, **training}
        raw["training"] |= {"cuda_graph": graph, "learning_rate": 1e-3}
        raw["search"] = {
            "space": {"rng_seed_model": {"grid_search": [0, 1]}},
            "objectives": {"val/frame_mse": "min"},
        }
        raw["data"] = {"sessions": ["demo"] * n_sessions}
        config = parse_study(raw, name, n_labels=N_LABELS).base
        data = load(path, config, n_sessions)
        reports = islice(fit(start(config, data, DEVICE), data, config), n_epochs)
        found.append({(r.epoch, key): value for r in reports for key, value in r.metrics.items()})
    eager, recorded = found
    if eager.keys() != recorded.keys():
        raise ValueError(f"not the same metrics: {sorted(eager.keys() ^ recorded.keys())}")
    difference = max(
        abs(recorded[key] - value) / max(abs(value), 1e-12) for key, value in eager.items()
    )
    what = f"{name}, graphs v eager, {n_epochs * N_TRAIN} steps and {n_epochs} validations"
    table.add(what, difference, f"{difference:.1e} of each metric at most", "0")


def measure_fit(table: Table, folder: Path) -> None:
    """Time a fit of 500 epochs of 16 clips of 50 frames, each with a validation."""
    path = folder / "mouse.h5"
    write_demo(path, n_clips=20, clip_length=50, size=128)
    for interval in (1, 5):
        config = make_config(max_n_epochs=500, val_check_interval=interval)
        data = load(path, config)
        begin = time.perf_counter()
        for _ in fit(start(config, data, DEVICE), data, config):
            pass
        synchronize()
        seconds = time.perf_counter() - begin
        what = f"a fit of 500 epochs, 16 clips of 50, 1×128×128, validated every {interval}"
        table.add(what, seconds, f"{seconds:.1f} s")


def fill_the_card(table: Table, folder: Path) -> None:
    """Train a fit for which the card has little memory left."""
    config = make_config(max_n_epochs=200, val_check_interval=200)
    data = load(write_recording(folder, 1, 128, 200), config)
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved(DEVICE) + 2**29
    torch.cuda.set_per_process_memory_fraction(room / total)
    try:
        state = start(config, data, DEVICE)
        (report,) = islice(fit(state, data, config, may_compile=False), 1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    size = int(state.model.net.micro_batch_size or 0)  # type: ignore[arg-type]
    text = f"micro-batches of {size} frames, loss {report.metrics['train/loss']:.1f}"
    table.add("a batch of 200 frames with 0.5 GB to spare", size, text)


def measure_precisions(table: Table, folder: Path) -> None:
    """Fit the demo in both formats with three seeds, as `precision.py` does with its metrics."""
    for name, seconds in measure_seconds(DEVICE).items():
        table.add(f"{name}, product and convolution", seconds, f"{1000 * seconds:.2f} ms")
    path = folder / "demo.h5"
    write_demo(path)
    raw = yaml.safe_load((ROOT / "search_spaces" / "ps_vae_published.yaml").read_text())
    base = parse_study(raw, "ps_vae_published.yaml", n_labels=N_LABELS).base
    for name in ("float32", "bfloat16"):
        scores: dict[str, list[float]] = {"val/frame_mse": [], "val/label_r2": []}
        for seed in (0, 1, 2):
            config = base.with_params({"precision": name, "rng_seed_model": seed})
            data = load(path, config)
            state = start(config, data, DEVICE)
            for _ in fit(state, data, config):
                pass
            assert state.best is not None
            for key, values in scores.items():
                values.append(state.best.metrics[key])
        for key, values in scores.items():
            text = f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
            table.add(f"demo in {name}, {key}", float(np.mean(values)), text)


def print_table(table: Table, about: Mapping[str, str]) -> None:
    """Print the table, and what it was measured on."""
    print(" · ".join(about.values()) + "\n\n| | measured | goal |\n|---|---|---|")
    for row in table.rows:
        print(f"| {' | '.join(row)} |")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", nargs=2, metavar=("FILE", "BEGIN"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.beside:
        print(train_beside_others(Path(options.beside[0]), float(options.beside[1])))
        return
    begin, table = time.time(), Table()
    is_gpu = DEVICE.type == "cuda"
    about = {
        "device": torch.cuda.get_device_name(DEVICE) if is_gpu else "cpu",
        "torch": f"PyTorch {torch.__version__}",
        "python": f"Python {sys.version.split()[0]}",
        "compiled_from": f"compiled from {MIN_COMPILED_STEPS} steps on",
    }
    with TemporaryDirectory() as folder:
        sections: dict[str, Callable[[Table, Path], None]] = {
            "steps": measure_steps,
            "packing": measure_packing,
            "a fit": measure_fit,
            **{f"{name}, graphs": partial(compare_model, name=name) for name in MODELS},
            "a full card": fill_the_card,
            "precisions": measure_precisions,
        }
        for what, section in sections.items():
            table.attempt(what, partial(section, folder=Path(folder)))  # type: ignore[call-arg]
    table.add("all of this", time.time() - begin, f"{time.time() - begin:.0f} s")
    print_table(table, about)
    Path("gpu.json").write_text(json.dumps({**about, "values": table.values}, indent=2))


if __name__ == "__main__":
    main()
