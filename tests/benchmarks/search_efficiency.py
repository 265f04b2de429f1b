"""What does each way of searching cost, and what does it find?

    python -m tests.benchmarks.search_efficiency FOLDER [--repetitions 3]

On the demo recording, whose untracked parts are known, runs the shipped searches of alpha and
beta. Each repetition has other splits, other training noise and other seeds of the model.
``weight_paths.py`` fits the exhaustive grid with the same seeds, ``early_stopping.py`` says what
stopping early saves. Every study is a real one, run by ``psvae-tune`` and kept in FOLDER; what is
there already is not run again, so the benchmark can be interrupted. About 40 fits a repetition.

Prints a Markdown table, and writes ``search_efficiency.json`` to the working folder: what each
strategy trained and found.
"""

import argparse
import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml

from psvae_tune.config.study import parse_study
from psvae_tune.data.demo import demo_path
from psvae_tune.data.session_file import read_session
from psvae_tune.metrics.disentanglement import information, mean_lead
from psvae_tune.models.model_file import load_model
from psvae_tune.results.logged_study import open_study
from psvae_tune.results.trial_record import TrialRecord
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import OutputFolder, StudyFolder
from psvae_tune.tracking.trial_run import fetch_file
from psvae_tune.training.batches import PreparedData, prepare_data
from psvae_tune.training.evaluate import evaluate
from tests.support.command import ROOT, psvae_tune
from tests.support.demo_truth import read_truth
from tests.support.weight_grid import ALPHAS, BETAS, N_SEEDS, average, mean_and_error, recovery

CPU = torch.device("cpu")

# The exit status of a study none of whose trials meets what its rules require.
NOTHING_TO_CHOOSE = 1

QUALITIES = ("recovery", "truth_mig", "test/frame_mse", "test/label_r2")


def read_space(name: str) -> dict[str, Any]:
    """Return a shipped search space."""
    return dict(yaml.safe_load((ROOT / "search_spaces" / name).read_text()))


def joint() -> dict[str, Any]:
    """Return the shipped joint search, with the number of latents of the other strategies."""
    raw = read_space("ps_vae_optuna.yaml")
    values = raw["search"]["stages"][0]["space"]["n_ae_latents"]
    del values["grid_search"][1:]
    return raw


STRATEGIES: dict[str, Callable[[], dict[str, Any]]] = {
    "ps_vae_published.yaml": lambda: read_space("ps_vae_published.yaml"),
    "ps_vae.yaml": lambda: read_space("ps_vae.yaml"),
    "ps_vae_optuna.yaml": joint,
}


@dataclass(frozen=True, slots=True)
class Fit:
    """A finished trial, as the search sees it and as it really is."""

    params: tuple[float, float, int]
    """Alpha, beta, seed."""
    metrics: Mapping[str, float]
    """Those of the trial, and ``recovery`` and ``truth_mig``."""
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Result:
    """One study."""

    strategy: str
    repetition: int
    n_epochs: int
    fits: tuple[Fit, ...]

    @property
    def chosen(self) -> Fit | None:
        """The fit that the study picked; None where none met what its rules require."""
        return next((fit for fit in self.fits if fit.is_chosen), None)


def vary(raw: Mapping[str, Any], repetition: int) -> dict[str, Any]:
    """Return a study with all its seeds changed, those that it varies included."""
    raw = copy.deepcopy(dict(raw))
    first = N_SEEDS * repetition
    raw["data"]["rng_seed_data"] = raw["training"]["rng_seed_train"] = repetition
    raw["model"]["rng_seed_model"] = first
    for stage in raw["search"]["stages"]:
        if "seed" in stage:
            stage["seed"] = repetition
        if (seeds := stage["space"].get("rng_seed_model")) is not None:
            seeds["grid_search"] = [first + seed for seed in seeds["grid_search"]]
    return {**raw, "tracking": {"movies": "none"}}


def run_study(raw: Mapping[str, Any], repetition: int, output: Path, name: str) -> None:
    """Run a study to its end, or what is left of it. Side effects: trains; writes ``output``."""
    folder = OutputFolder(output).study(name)
    if folder.selection.exists():
        return
    if folder.study_file.exists():
        call: list[str | Path] = ["resume", folder.root]
    else:
        output.mkdir(parents=True, exist_ok=True)
        file = output / f"{name}.yaml"
        file.write_text(yaml.safe_dump(vary(raw, repetition)))
        call = ["run", file, "--output", output, "--name", name]
    try:
        psvae_tune(*call)
    except subprocess.CalledProcessError as error:
        if error.returncode != NOTHING_TO_CHOOSE:
            raise


def count_epochs(folder: StudyFolder) -> int:
    """Return the number of epochs that a study trained."""
    ends = [event for event in folder.journal.events() if event["event"] == "end"]
    return sum({event["trial"]: event["epoch"] for event in ends}.values())


def read_result(strategy: str, repetition: int, output: OutputFolder, name: str) -> Result:
    """Return what a study trained and found, its fits held against the truth."""
    study = open_study(output.default_tracking_uri, name)
    config = parse_study(output.study(name).read_study_file(), name, n_labels=4).base
    session = read_session(demo_path(), needs_labels=True)
    data = prepare_data([session], config)
    truth = read_truth(demo_path())[1]
    rows = np.arange(session.header.n_frames)
    by_split = [
        truth[np.concatenate([rows[session.clip(clip)] for _, clip in data.clips(split)])]
        for split in ("train", "test")
    ]
    fits = tuple(
        read_fit(trial, study.target, data, *by_split)
        for trial in study.finished
        if "ramp_epochs" not in trial.params  # a choice is judged by fresh fits
    )
    return Result(strategy, repetition, count_epochs(output.study(name)), fits)


def read_fit(
    trial: TrialRecord,
    target: TrackingTarget,
    data: PreparedData,
    truth_train: np.ndarray,
    truth: np.ndarray,
) -> Fit:
    """Return a trial with how far its unsupervised latents are the untracked parts."""
    with TemporaryDirectory() as folder:
        model = load_model(fetch_file(target, trial.trial_id, "model.pt", Path(folder))).model
    train, mean = (
        evaluate(model, data, split, CPU).mean[:, model.partition.unsupervised]
        for split in ("train", "test")
    )
    mig = mean_lead(information(train, truth_train), information(mean, truth))
    found = {"recovery": recovery(mean, truth), "truth_mig": mig or 0.0}
    names = ("ps_vae.alpha", "ps_vae.beta", "rng_seed_model")
    alpha, beta, seed = (trial.params[name] for name in names)
    return Fit((alpha, beta, seed), {**trial.result().metrics, **found}, trial.is_selected)


def cells(fits: Iterable[Fit]) -> dict[tuple[float, float], dict[str, float]]:
    """Return the mean of every metric over the seeds of each pair of weights."""
    ordered = sorted(fits, key=lambda fit: fit.params)
    found = {}
    for weights, group in groupby(ordered, key=lambda fit: fit.params[:2]):
        found[weights] = average([fit.metrics for fit in group])
    return found


def compare_strategies(results: Sequence[Result]) -> tuple[list[dict[str, Any]], str]:
    """Return the numbers of every strategy, and their table.

    The quality of a pair of weights is the mean over its seeds, of which every study fits three.
    """
    rows = []
    for result in results:
        pairs = cells(result.fits)
        row: dict[str, Any] = {
            "strategy": result.strategy,
            "repetition": result.repetition,
            "n_epochs": result.n_epochs,
        }
        if result.chosen is not None:
            weights = result.chosen.params[:2]
            row |= {"weights": weights, **pairs[weights]}
        rows.append(row)
    total = len(ALPHAS) * len(BETAS) * N_SEEDS * 50
    header = ["strategy", "epochs", "of the grid", "α, β chosen", *QUALITIES]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        own = [row for row in rows if row["strategy"] == strategy]
        n_epochs = np.mean([row["n_epochs"] for row in own])
        chosen = "; ".join(
            "{:.3g}, {:.3g}".format(*row["weights"]) if "weights" in row else "none" for row in own
        )
        cost = [f"{n_epochs:.0f}", f"{100 * n_epochs / total:.0f} %"]
        scores = [mean_and_error([row[key] for row in own if key in row]) for key in QUALITIES]
        lines.append(f"| {' | '.join([strategy, *cost, chosen, *scores])} |")
    return rows, "\n".join(lines)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    output = OutputFolder(options.folder.resolve())
    results = []
    for (strategy, make), repetition in product(STRATEGIES.items(), range(options.repetitions)):
        name = f"{re.sub(r'[^a-z]+', '-', strategy)}-{repetition}"
        run_study(make(), repetition, output.root, name)
        results.append(read_result(strategy, repetition, output, name))
        print(f"{name}: {results[-1].n_epochs} epochs", file=sys.stderr, flush=True)
    rows, table = compare_strategies(results)
    print(table)
    Path("search_efficiency.json").write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
