"""Would other ways of training be quicker than a process a trial?

    python -m tests.benchmarks.alternatives [--settings 4]

Trains settings of the PS-VAE in three ways. Apart, as the trials of a study are: a process each,
at the same time, on one core each or, with a GPU, all on that. Compiled: the same with
`torch.compile`. Together: in one process that stacks their weights and maps one training step over
the stack (`torch.func`), on all cores or on the GPU; the losses are held against those of training
each alone. Prints a Markdown table of frames a second and writes ``alternatives.json``. Eight
minutes on two cores.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from psvae_tune.cluster.ray_session import WORKER_ENVIRONMENT
from psvae_tune.data.session_file import read_session
from psvae_tune.models.batch import Batch
from psvae_tune.models.layers.blocks import train_convolutions_in
from psvae_tune.models.model import Model
from psvae_tune.models.registry import build_model
from psvae_tune.training.batches import PreparedData, prepare_data
from psvae_tune.training.precision import pick_dtype
from tests.benchmarks.training_step import (
    DEVICE,
    clock,
    make_config,
    use_plain_convolutions,
    write_recording,
)

SIZES = {"small": 32, "published": 64}  # a network and the frames for it
N_EPOCHS = 2


class Objective(nn.Module):
    """The loss of a batch, as a module that `torch.func` can call with other weights."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Return the loss at full weights."""
        return self.model.terms(batch, 1.0, rng).loss


def read(path: Path, network: str) -> PreparedData:
    """Return a recording as a trial of a network sees it."""
    return prepare_data([read_session(path, needs_labels=True)], make_config("auto", network))


def build(data: PreparedData, network: str, seed: int) -> Objective:
    """Return a model in training, in the precision that ``auto`` picks."""
    config = make_config("auto", network).with_params({"rng_seed_model": seed})
    model = build_model(config.model, data.shape).to(DEVICE)
    train_convolutions_in(pick_dtype("auto", DEVICE), model)
    return Objective(model)


def train_together(data: PreparedData, objectives: list[Objective]) -> Iterator[Tensor]:
    """Train models in one process; yield the loss of each, of the last batch of every epoch."""
    weights, buffers = stack_module_state(objectives)  # type: ignore[arg-type]
    skeleton = copy.deepcopy(objectives[0]).to("meta")
    optimizer = torch.optim.Adam(weights.values(), lr=1e-4, amsgrad=True, fused=True)
    rng = torch.Generator(DEVICE).manual_seed(0)

    def call(weights: dict[str, Tensor], buffers: dict[str, Tensor], *parts: Tensor) -> Tensor:
        names = ("frames", "labels", "label_mask")
        batch = Batch(**dict(zip(names, parts, strict=True)))
        found: Tensor = functional_call(skeleton, (weights, buffers), (batch, rng))
        return found

    step = torch.vmap(call, in_dims=(0, 0, None, None, None), randomness="same")
    while True:
        for place in data.clips("train"):
            batch = data.batch([place], DEVICE)
            losses = step(weights, buffers, batch.frames, batch.labels, batch.label_mask)
            optimizer.zero_grad()
            losses.sum().backward()
            optimizer.step()
        yield losses.detach()


def train_alone(data: PreparedData, objective: nn.Module) -> Iterator[Tensor]:
    """Train one model in the same way; yield its loss of the last batch of every epoch."""
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-4, amsgrad=True, fused=True)
    rng = torch.Generator(DEVICE).manual_seed(0)
    while True:
        for place in data.clips("train"):
            loss = objective(data.batch([place], DEVICE), rng)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield loss.detach()


def time_epoch(epochs: Iterator[Any]) -> dict[str, float]:
    """Return the seconds of an epoch; the first also pays for what is set up once."""
    return {"seconds": min([clock(lambda: next(epochs)) for _ in range(1 + N_EPOCHS)][1:])}


def measure_apart(path: Path, network: str, is_compiled: bool = False) -> dict[str, float]:
    """Return the seconds of an epoch of a model that has one core."""
    torch.set_num_threads(1)
    data = read(path, network)
    model = build(data, network, 0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return time_epoch(train_alone(data, torch.compile(model) if is_compiled else model))


def measure_together(path: Path, network: str, n_settings: int) -> dict[str, float]:
    """Return the seconds of an epoch of all settings, and by how much their losses are others."""
    use_plain_convolutions()
    data = read(path, network)
    models = [build(data, network, seed) for seed in range(n_settings)]
    epochs = train_together(data, models)
    first = next(epochs).cpu().numpy()
    alone = np.array([next(train_alone(data, model)).item() for model in models])
    seconds = min(clock(lambda: next(epochs)) for _ in range(N_EPOCHS))
    return {"seconds": seconds, "difference": float(np.abs(first / alone - 1).max())}


def start(way: str, path: Path, network: str, n_settings: int) -> subprocess.Popen[str]:
    """Start a process that measures one way. Side effects: starts it."""
    call = [
        sys.executable,
        "-m",
        "tests.benchmarks.alternatives",
        "--way",
        way,
        str(path),
        network,
    ]
    call += ["--settings", str(n_settings)]
    environment = {**os.environ, **WORKER_ENVIRONMENT}
    return subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, float]:
    """Return what a process measured."""
    output, _ = process.communicate()
    assert process.returncode == 0
    found: dict[str, float] = json.loads(output)
    return found


def compare(path: Path, network: str, n_settings: int) -> dict[str, float]:
    """Return the frames a second of every way, and by how much the losses differ."""
    n_at_once = n_settings
    if DEVICE.type == "cpu":
        n_at_once = min(n_settings, len(os.sched_getaffinity(0)))
    data = read(path, network)
    lengths = data.sessions[0].session.header.clip_lengths
    n_frames = sum(lengths[clip] for _, clip in data.clips("train"))
    found = {}
    for way in ("apart", "compiled"):
        trials = [start(way, path, network, n_settings) for _ in range(n_at_once)]
        found[way] = sum(n_frames / finish(trial)["seconds"] for trial in trials)
    together = finish(start("together", path, network, n_settings))
    found["together"] = n_settings * n_frames / together["seconds"]
    return {**found, "difference": together["difference"]}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=int, default=4)
    parser.add_argument("--way", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        way, path, network = options.way
        if way == "together":
            found = measure_together(Path(path), network, options.settings)
        else:
            found = measure_apart(Path(path), network, way == "compiled")
        return print(json.dumps(found))
    rows = {}
    print(f"| {options.settings} settings, {DEVICE.type} | apart | compiled | together | losses |")
    print("|---|---|---|---|---|")
    for network, size in SIZES.items():
        with TemporaryDirectory() as folder:
            path = write_recording(Path(folder), size, 1)
            row = compare(path, network, options.settings)
        apart = row["apart"]
        numbers = [
            f"{row[way]:.0f} ({row[way] / apart:.2f} ×)" for way in ("compiled", "together")
        ]
        cells = [f"{network} network, {size}×{size}", f"{apart:.0f}", *numbers]
        print(f"| {' | '.join(cells)} | differ by {row['difference']:.1g} |", flush=True)
        rows[network] = row
    Path("alternatives.json").write_text(json.dumps({"device": DEVICE.type, **rows}, indent=2))


if __name__ == "__main__":
    main()
