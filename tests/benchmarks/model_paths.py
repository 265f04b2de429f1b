"""Do paths through the weights find what fresh fits find, with the other models?

    python -m tests.benchmarks.model_paths FOLDER [--repetitions 3]

Runs each shipped grid of one weight a stage as it is, and as a path: one fit with the smallest
weights, then each weight goes on from its neighbour. Every study is a real one, run by
``psvae-tune`` and kept in FOLDER; what is there already is not run again. Each repetition has
other splits, other training noise and another initial network. About 20 minutes a repetition on
one core.

Prints two Markdown tables: what each way trained and chose, and how much worse or better than a
fresh fit a path is at the same weights.
"""

import argparse
import copy
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from psvae_tune.results.logged_study import open_study
from psvae_tune.tracking.folders import OutputFolder
from tests.benchmarks.search_efficiency import count_epochs, read_space, run_study
from tests.support.weight_grid import mean_and_error

FILES = {
    "cond_ae_msp": ("val/frame_mse", "val/label_r2"),
    "beta_tcvae": ("val/frame_mse", "val/latent_correlation"),
    "msps_vae": ("val/frame_mse", "val/label_r2", "val/session_accuracy_u"),
}
N_EPOCHS = 8
Fits = dict[tuple[float, ...], Mapping[str, float]]
"""Metrics by all the weights that a study varies."""


def by_stages(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a search space whose search is a list of stages."""
    search = raw["search"]
    if "stages" not in search:
        raw["search"] = {"stages": [{"name": "search", **search}]}
    return raw


def smallest(raw: Mapping[str, Any]) -> dict[str, float]:
    """Return the smallest value of every weight that a search varies."""
    spaces = [stage["space"] for stage in raw["search"]["stages"]]
    return {name: min(grid["grid_search"]) for space in spaces for name, grid in space.items()}


def on_a_path(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a search that walks from one fit with the smallest weights."""
    raw, weights = copy.deepcopy(raw), smallest(raw)
    raw["model"] |= weights
    stages = raw["search"]["stages"]
    name, value = next(iter(weights.items()))
    start = {
        "name": "start",
        "space": {name: {"grid_search": [value]}},
        "objectives": {"val/frame_mse": "min"},
    }
    ways = {"start_from": "neighbour", "epochs": N_EPOCHS}
    raw["search"]["stages"] = [start, *({**stage, **ways} for stage in stages)]
    return raw


def read_study(output: OutputFolder, name: str, weights: list[str]) -> tuple[str, int, Fits]:
    """Return what a study chose, stage by stage, its epochs, and the fits that may be chosen."""
    study = open_study(output.default_tracking_uri, name)
    file, chosen = output.study(name).selection, "nothing: latents collapsed"
    if file.exists():
        choices = json.loads(file.read_text()).items()
        chosen = "; ".join(choice["name"] for stage, choice in choices if stage != "start")
    fits = {
        tuple(float(trial.params[weight]) for weight in weights): trial.result().metrics
        for trial in study.finished
        if trial.stage != "start"
    }
    return chosen, count_epochs(output.study(name)), fits


def mean(fits: Fits, metric: str) -> float:
    """Return the mean of a metric over the fits that have it."""
    return float(np.nanmean([fit.get(metric, np.nan) for fit in fits.values()]))


def difference(path: Fits, fresh: Fits, metric: str) -> float:
    """Return the mean difference of a metric between both ways, where both have a fit."""
    shared = path.keys() & fresh.keys()
    pairs = [(path[p].get(metric, np.nan), fresh[p].get(metric, np.nan)) for p in shared]
    return float(np.nanmean([one - other for one, other in pairs]))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    output = OutputFolder(options.folder.resolve())
    choices = ["| file | way | epochs | chosen |", "|---|---|---|---|"]
    gains = ["| file | metric | mean of fresh fits | path less fresh fit |", "|---|---|---|---|"]
    for file, metrics in FILES.items():
        shipped = by_stages(read_space(f"{file}.yaml"))
        ways = {"fresh": shipped, "path": on_a_path(shipped)}
        found: dict[str, list[tuple[str, int, Fits]]] = {way: [] for way in ways}
        for repetition in range(options.repetitions):
            for way, raw in ways.items():
                name = f"{file}-{way}-{repetition}"
                run_study(raw, repetition, output.root, name)
                found[way].append(read_study(output, name, list(smallest(shipped))))
                print(name, *found[way][-1][:2], file=sys.stderr, flush=True)
        for way, studies in found.items():
            epochs = np.mean([n for _, n, _ in studies])
            chosen = " / ".join(text for text, _, _ in studies)
            choices.append(f"| {file} | {way} | {epochs:.0f} | {chosen} |")
        fresh, path = ([fits for *_, fits in found[way]] for way in ways)
        for metric in metrics:
            level = [mean(fits, metric) for fits in fresh]
            less = [difference(*fits, metric) for fits in zip(path, fresh, strict=True)]
            gains.append(
                f"| {file} | {metric} | {mean_and_error(level)} | {mean_and_error(less)} |"
            )
    print("\n".join([*choices, "", *gains]))


if __name__ == "__main__":
    main()
