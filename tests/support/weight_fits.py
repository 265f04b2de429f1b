"""Fits of the guide's model from new weights, and along paths through a grid of weights."""

import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from psvae_tune.config.continuation import Continuation
from psvae_tune.config.session_list import DEMO
from psvae_tune.config.study import parse_study
from psvae_tune.config.trial import TrialConfig
from psvae_tune.data.demo import session_path
from psvae_tune.data.session_file import read_session
from psvae_tune.models.encoding import encode
from psvae_tune.models.model import Model
from psvae_tune.search.weight_path import walk
from psvae_tune.training.batches import PreparedData, cache_on_device, prepare_data
from psvae_tune.training.checkpoint import dump_state, load_state
from psvae_tune.training.evaluate import evaluate
from psvae_tune.training.final_metrics import final_metrics
from psvae_tune.training.fit import TrainState, best_model, fit, restart, start
from tests.support.demo_truth import read_truth
from tests.support.weight_grid import N_SEEDS, recovery

ROOT = Path(__file__).resolve().parents[2]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WARM = {"ps_vae.alpha_start": 10, "ps_vae.alpha_anneal_epochs": 40}
N_FULL = 50
NETWORKS = {"small": {}, "published": {"ae_arch_json": None}}


@dataclass(frozen=True)
class Walk:
    """A way through the grid."""

    n_epochs: int
    keeps_optimiser: bool = True
    is_down: bool = False

    def __str__(self) -> str:
        optimiser = "" if self.keeps_optimiser else ", new optimiser"
        return f"{self.n_epochs} epochs a point{optimiser}{', downwards' if self.is_down else ''}"


@dataclass(frozen=True)
class Job:
    """Fits that one process makes one after another."""

    recording: str
    """A generated one, such as ``demo`` or ``demo:three``, or the path of a file."""
    repetition: int
    kind: str
    """``published``, ``warm`` or ``path``."""
    network: str = "small"
    seed: int = 0
    """Which of the seeds of the repetition."""
    walk: Walk | None = None
    weights: tuple[tuple[float, float], ...] = ()
    """Alpha and beta of each fit; of a path, of its first one and of the points.

    Alpha is that at a decoder variance of 1: a fit has alpha over the variance, so that labels and
    frames keep their balance.
    """
    decoder_variance: float = 1.0

    @property
    def key(self) -> str:
        """Name of the file of its results."""
        parts = [Path(self.recording).stem, self.repetition, self.kind, self.network, self.seed]
        if self.decoder_variance != 1:
            parts.append(f"variance {self.decoder_variance}")
        text = "-".join(map(str, [*parts, self.walk or "", *self.weights]))
        return "".join(c if c.isalnum() or c in ".-" else "_" for c in text)[:180]


@cache
def load(recording: str) -> Any:
    """Return a recording."""
    return read_session(session_path(recording), needs_labels=True)


@cache
def load_truth(recording: str) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Return the untracked parts of a generated recording, see `read_truth`; None for others."""
    return read_truth(Path(session_path(recording))) if DEMO.fullmatch(recording) else None


def make_config(job: Job, weights: tuple[float, float], is_warm: bool) -> TrialConfig:
    """Return the settings of a fit: those of the shipped guide."""
    raw = yaml.safe_load((ROOT / "search_spaces" / "ps_vae_published.yaml").read_text())
    raw["model"] |= NETWORKS[job.network]
    raw["search"] = {
        "space": {"ps_vae.beta": {"grid_search": [1]}},
        "objectives": {"val/frame_mse": "min"},
    }
    raw["data"]["rng_seed_data"] = raw["training"]["rng_seed_train"] = job.repetition
    raw["model"]["rng_seed_model"] = N_SEEDS * job.repetition + job.seed
    truth = load_truth(job.recording)
    if truth is not None:
        raw["model"]["n_ae_latents"] = f"n_labels + {len(truth[0])}"
    else:
        raw["training"]["max_n_epochs"] = 60 if job.network == "small" else 150
        raw["training"]["learning_rate"] = 1e-3 if job.network == "small" else 3e-4
    base = parse_study(raw, "guide", n_labels=load(job.recording).header.n_labels).base
    alpha, beta = weights
    part = base.training.max_n_epochs / N_FULL
    anneal = round(WARM["ps_vae.alpha_anneal_epochs"] * part)
    warm = {**WARM, "ps_vae.alpha_anneal_epochs": anneal} if is_warm else {}
    weights_now = {
        "ps_vae.alpha": alpha / job.decoder_variance,
        "ps_vae.beta": beta,
        "decoder_variance": job.decoder_variance,
    }
    return base.with_params(weights_now | warm)


def train(
    state: TrainState, data: PreparedData, config: TrialConfig, recording: str
) -> dict[str, float]:
    """Train to the end; return the metrics of the best epoch. Side effects: changes the state."""
    for _ in fit(state, data, config):
        pass
    model = best_model(state)
    scores = final_metrics(model, data, DEVICE)
    truth = load_truth(recording)
    if truth is not None:
        scores["recovery"] = find_parts(model, data, truth[1])
    return scores


def find_latents(state: TrainState, data: PreparedData) -> dict[str, list[Any]]:
    """Return the unsupervised latents of the best epoch on validation clips, to rank seeds by."""
    model = best_model(state)
    seen = evaluate(model, data, "val", DEVICE)
    mean = seen.mean[:, model.partition.unsupervised]
    return {"mean": mean.tolist(), "is_active": seen.latents.is_active.tolist()}


def find_parts(model: Model, data: PreparedData, truth: np.ndarray) -> float:
    """Return how well the best matching of latents finds the untracked parts on test clips."""
    session = data.sessions[0].session
    rows = np.concatenate(
        [np.arange(len(truth))[session.clip(clip)] for _, clip in data.clips("test")]
    )
    latents = encode(model, data.iterate("test", DEVICE)).latents
    return recovery(np.asarray(latents)[:, model.partition.unsupervised], truth[rows])


def go_on(kept: bytes, state: TrainState, keeps_optimiser: bool) -> None:
    """Put a state where another one ended. Side effects: changes the state."""
    fresh = state.optimizer.state_dict()
    load_state(state, kept)
    if not keeps_optimiser:
        state.optimizer.load_state_dict(fresh)
    restart(state)


def run(job: Job, folder: Path) -> dict[str, Any]:
    """Make the fits of a job, unless they are in the folder; return their metrics."""
    file = folder / f"{job.key}.json"
    if file.exists():
        return dict(json.loads(file.read_text()))
    torch.set_num_threads(1)
    first = make_config(job, job.weights[0], is_warm=job.kind != "published")
    data = cache_on_device(prepare_data([load(job.recording)], first), DEVICE, 10**10)
    state = start(first, data, DEVICE)
    found: dict[str, Any] = {"first": train(state, data, first, job.recording)}
    if job.walk is None:
        found["val_latents"] = find_latents(state, data)
    else:
        found |= follow(job, data, first, dump_state(state))
    file.write_text(json.dumps(found))
    print(file.name, file=sys.stderr, flush=True)
    return found


def follow(
    job: Job, data: PreparedData, first: TrialConfig, kept: bytes
) -> dict[str, dict[str, float]]:
    """Walk through the points of a path from the state of its first fit."""
    way, found, states = job.walk, {}, {None: kept}
    assert way is not None
    points = [{"ps_vae.alpha": alpha, "ps_vae.beta": beta} for alpha, beta in job.weights[1:]]
    for point, origin in walk(points, first.model.weights):
        old = first.model.weights if origin is None else points[origin]
        there = Continuation(
            parent="", weights=old, n_epochs=way.n_epochs, n_ramp_epochs=way.n_epochs // 3
        )
        config = first.with_params(points[point]).continued(there)
        state = start(config, data, DEVICE)
        go_on(states[origin], state, way.keeps_optimiser)
        found[json.dumps(points[point])] = train(state, data, config, job.recording)
        states[point] = dump_state(state)
    return found
