"""Do warm weights and paths find what fresh fits find, and for how many epochs?

    python -m tests.benchmarks.weight_paths FOLDER [--repetitions 3] [--processes 1] [--real DATA]

Fits the 4 x 4 grid of alpha and beta from new weights with three seeds, as published and with a
warm-up of alpha, and walks it from one warm fit: with 3 to 20 epochs a point, with the optimiser
kept and new, up and down. Holds the fits against the untracked parts of the demo, which are known.
The path of ``ps_vae.yaml`` begins without a warm-up. Each strategy chooses by the rules of the
published guide, paths also by those of ``ps_vae.yaml``. With DATA, the folder of the real
recordings, fits these as well: one weight as published, warm, and along a path.

Each repetition has other splits, other training noise and other seeds. Fits lie in FOLDER and are
not made again. They use a GPU if there is one, in as many processes as given, and need neither Ray
nor MLflow. Prints Markdown tables and writes ``weight_paths.json``.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import spearmanr

from psvae_tune.config.selection_rule import SelectionRule
from psvae_tune.config.stage import Stage
from psvae_tune.config.study import parse_study
from psvae_tune.errors import StudyError
from psvae_tune.search.selection.candidates import N_UNSUPERVISED
from psvae_tune.search.selection.select import select
from psvae_tune.tracking.trial_result import TrialResult
from tests.support.weight_fits import N_FULL, NETWORKS, ROOT, Job, Walk, run
from tests.support.weight_grid import ALPHAS, BETAS, N_SEEDS, average, mean_and_error

PUBLISHED = "ps_vae_published.yaml"
GRID = [{"ps_vae.alpha": float(a), "ps_vae.beta": float(b)} for a, b in product(ALPHAS, BETAS)]
REAL = {
    "walking mouse, 64×64": "mirror_mouse/mirror_mouse_64.h5",
    "fly pair, track 0": "fly_pair/fly_pair_track0_96.h5",
    "fly, track 0": "flies13/flies13_track0_96.h5",
}
REAL_ALPHAS = (60.0, 250.0, 1000.0)
QUALITIES = ("val/frame_mse", "val/label_r2", "test/frame_mse", "test/label_r2", "recovery")
FROM_PUBLISHED = Walk(6)
"""The path of ``ps_vae.yaml``, which begins without a warm-up: its first alpha is the smallest."""
WALKS = (Walk(10), Walk(3), Walk(5), Walk(20), Walk(10, False), Walk(10, is_down=True))


def demo_jobs(n_repetitions: int) -> Iterator[Job]:
    """Yield the fits of the demo."""
    pairs = [(point["ps_vae.alpha"], point["ps_vae.beta"]) for point in GRID]
    of_guide = [(50.0, float(b)) for b in BETAS] + [(float(a), 1.0) for a in ALPHAS[1:]]
    for repetition in range(n_repetitions):
        for way in WALKS:
            first = pairs[-1] if way.is_down else pairs[0]
            rest = tuple(pair for pair in pairs if pair != first)
            yield Job("demo", repetition, "path", walk=way, weights=(first, *rest))
        yield Job("demo", repetition, "published", walk=FROM_PUBLISHED, weights=tuple(of_guide))
        for kind, seed, pair in product(("warm", "published"), range(N_SEEDS), pairs):
            yield Job("demo", repetition, kind, seed=seed, weights=(pair,))


def real_jobs(data: Path) -> Iterator[Job]:
    """Yield the fits of the real recordings: two seeds at beta 1."""
    for network, file, repetition in product(NETWORKS, REAL.values(), range(2)):
        given = {"recording": str(data / file), "repetition": repetition, "network": network}
        weights = tuple((alpha, 1.0) for alpha in REAL_ALPHAS)
        yield Job(**given, kind="path", walk=Walk(20), weights=weights)
        for kind, pair in product(("published", "warm"), (weights[0], weights[-1])):
            yield Job(**given, kind=kind, weights=(pair,))


Cells = Mapping[str, Mapping[str, float]]
"""Metrics by weights."""


def fresh_cells(results: Mapping[Job, Any], repetition: int, kind: str) -> dict[str, Any]:
    """Return the fits from new weights, each a list over seeds, by weights."""
    cells: dict[str, list[Any]] = {}
    for job, found in results.items():
        found_of = (job.recording, job.repetition, job.kind, job.walk)
        if found_of == ("demo", repetition, kind, None):
            alpha, beta = job.weights[0]
            point = json.dumps({"ps_vae.alpha": alpha, "ps_vae.beta": beta})
            cells.setdefault(point, []).append(found["first"])
    return cells


def path_cells(results: Mapping[Job, Any], repetition: int, way: Walk) -> dict[str, Any]:
    """Return the fits of a path by weights."""
    job = next(
        j for j in results if (j.recording, j.repetition, j.walk) == ("demo", repetition, way)
    )
    alpha, beta = job.weights[0]
    found = dict(results[job])
    return {json.dumps({"ps_vae.alpha": alpha, "ps_vae.beta": beta}): found.pop("first"), **found}


def choose(cells: Cells, rule: SelectionRule, objectives: Mapping[str, Any]) -> str | None:
    """Return the weights that a rule of the guide takes; None if none meets it."""
    trials = [
        TrialResult(point, point, {**json.loads(point), N_UNSUPERVISED: 2}, metrics, True)
        for point, metrics in cells.items()
    ]
    try:
        return select(trials, rule, objectives).chosen.trial_id
    except StudyError:  # nothing meets what is required
        return None


@cache
def stages(name: str) -> Mapping[str, Stage]:
    """Return the stages of a shipped search space."""
    raw = yaml.safe_load((ROOT / "search_spaces" / name).read_text())
    return {stage.name: stage for stage in parse_study(raw, name, n_labels=4).stages}


def guide(cells: Cells, name: str = PUBLISHED) -> tuple[str | None, int]:
    """Return what the rules of a search space choose, and the number of fits that it makes."""
    alpha_stage, beta_stage = (stages(name)[stage] for stage in ("alpha", "beta"))
    first = {p: m for p, m in cells.items() if json.loads(p)["ps_vae.beta"] == 1}
    chosen = choose(first, alpha_stage.select, alpha_stage.objectives)
    if chosen is None:
        return None, len(first)
    alpha = json.loads(chosen)["ps_vae.alpha"]
    second = {p: m for p, m in cells.items() if json.loads(p)["ps_vae.alpha"] == alpha}
    end = choose(second, beta_stage.select, beta_stage.objectives)
    return end, len(first) + len(second) - 1


def whole_grid(cells: Cells) -> str | None:
    """Return what the rule for beta chooses among all fits with good labels."""
    beta_stage = stages(PUBLISHED)["beta"]
    required = beta_stage.select.model_dump(mode="json", exclude_defaults=True)
    required["require"] = {**required.get("require", {}), "val/label_r2": ">= 0.8"}
    return choose(cells, SelectionRule.model_validate(required), beta_stage.objectives)


def strategies(results: Mapping[Job, Any], repetition: int) -> Iterator[dict[str, Any]]:
    """Yield what each strategy chooses, its epochs, and the scores of three fresh fits of it."""
    fresh = {kind: fresh_cells(results, repetition, kind) for kind in ("published", "warm")}
    n_grid = len(GRID) * N_SEEDS * N_FULL
    for kind, cells in fresh.items():
        mean = {point: average(fits) for point, fits in cells.items()}
        one = {point: fits[0] for point, fits in cells.items()}
        yield row(f"grid, {kind}", whole_grid(mean), n_grid, fresh[kind])
        chosen, n_fits = guide(one)
        yield row(f"guide, {kind}", chosen, (n_fits + N_SEEDS - 1) * N_FULL, fresh[kind])
    for way in WALKS:
        cells = path_cells(results, repetition, way)
        for title, name in (("guide", PUBLISHED), ("rules of ps_vae.yaml", "ps_vae.yaml")):
            chosen, n_fits = guide(cells, name)
            n_epochs = count_epochs(chosen, n_fits, way, cells)
            yield row(f"{title}, {way}", chosen, n_epochs, fresh["warm"])
        chosen = whole_grid(cells)
        n_epochs = count_epochs(chosen, len(GRID), way, cells)
        yield row(f"whole grid, {way}", chosen, n_epochs, fresh["warm"])
    cells = path_cells(results, repetition, FROM_PUBLISHED)
    chosen, n_fits = guide(cells, "ps_vae.yaml")
    n_epochs = count_epochs(chosen, n_fits, FROM_PUBLISHED, cells)
    yield row("ps_vae.yaml", chosen, n_epochs, fresh["published"])
    best = {point: average(fits) for point, fits in fresh["warm"].items()}
    truth = max(best, key=lambda point: best[point]["recovery"])
    yield row("the truth, warm", truth, n_grid, fresh["warm"])


def count_epochs(chosen: str | None, n_fits: int, way: Walk, cells: Cells) -> int:
    """Return the epochs of a path and of the fresh fits of its choice; its first fit is one."""
    n_new = 0 if chosen is None else N_SEEDS - (chosen == next(iter(cells)))
    return (1 + n_new) * N_FULL + (n_fits - 1) * way.n_epochs


def row(name: str, chosen: str | None, n_epochs: int, fresh: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line of the table of strategies."""
    scores = average(fresh[chosen]) if chosen else {}
    return {"strategy": name, "chosen": chosen, "n_epochs": n_epochs, "scores": scores}


def print_strategies(results: Mapping[Job, Any], n_repetitions: int) -> list[dict[str, Any]]:
    """Print what the strategies found."""
    rows = [found for r in range(n_repetitions) for found in strategies(results, r)]
    print(f"| strategy | epochs | of the grid | α, β chosen | {' | '.join(QUALITIES)} |")
    print("|---" * (4 + len(QUALITIES)) + "|")
    n_grid = len(GRID) * N_SEEDS * N_FULL
    for name in dict.fromkeys(found["strategy"] for found in rows):
        own = [found for found in rows if found["strategy"] == name]
        chosen = "; ".join(
            "{:g}, {:g}".format(*json.loads(f["chosen"]).values()) if f["chosen"] else "none"
            for f in own
        )
        n_epochs = np.mean([found["n_epochs"] for found in own])
        scores = [
            mean_and_error([f["scores"][key] for f in own if key in f["scores"]])
            for key in QUALITIES
        ]
        share = f"{100 * n_epochs / n_grid:.1f} %"
        print(f"| {name} | {n_epochs:.0f} | {share} | {chosen} | {' | '.join(scores)} |")
    return rows


def print_ranks(results: Mapping[Job, Any], n_repetitions: int) -> None:
    """Print how fits of paths, and those of single seeds, order the grid as fresh fits do."""
    names = [*QUALITIES, "val/latent_correlation"]
    print(f"\n| rank correlation over the grid | {' | '.join(names)} |")
    print("|---" * (1 + len(names)) + "|")
    found: dict[str, list[list[float]]] = {}
    for repetition in range(n_repetitions):
        fresh = fresh_cells(results, repetition, "warm")
        mean = {point: average(fits) for point, fits in fresh.items()}
        others: dict[str, Cells] = {
            "one fresh fit, warm, with the other two": {p: fits[0] for p, fits in fresh.items()},
            "fresh fits as published": {
                point: average(fits)
                for point, fits in fresh_cells(results, repetition, "published").items()
            },
        }
        others |= {str(way): path_cells(results, repetition, way) for way in WALKS}
        for name, cells in others.items():
            rest = mean
            if name.startswith("one fresh"):
                rest = {point: average(fits[1:]) for point, fits in fresh.items()}
            found.setdefault(name, []).append([correlate(cells, rest, key) for key in names])
    for name, rows in found.items():
        print(f"| {name} | {' | '.join(map(mean_and_error, zip(*rows, strict=True)))} |")


def correlate(cells: Cells, others: Cells, key: str) -> float:
    """Return the rank correlation of a metric over the weights that have it twice."""
    points = [p for p in cells if key in cells[p] and key in others[p]]
    return float(spearmanr(*([c[p][key] for p in points] for c in (cells, others))).statistic)


def print_real(results: Mapping[Job, Any]) -> None:
    """Print the fits of the real recordings."""
    names = ["test/frame_mse", "test/label_r2", "val/frame_mse", "val/label_r2"]
    names += ["val/latent_correlation", "val/active_units"]
    print(f"\n| recording | network | α | how | {' | '.join(names)} |")
    print("|---" * (4 + len(names)) + "|")
    lines: dict[tuple[str, ...], list[Mapping[str, float]]] = {}
    titles = {Path(file).stem: title for title, file in REAL.items()}
    for job, found in results.items():
        if job.recording == "demo":
            continue
        title = titles[Path(job.recording).stem]
        head = (title, job.network)
        if job.walk is None:
            alpha = f"{job.weights[0][0]:g}"
            lines.setdefault((*head, alpha, job.kind), []).append(found["first"])
        else:
            alpha, last = f"{job.weights[-1][0]:g}", list(found.values())[-1]
            lines.setdefault((*head, alpha, f"path of {job.walk}"), []).append(last)
    for line in sorted(lines):
        fits = lines[line]
        scores = [mean_and_error([f[key] for f in fits if key in f]) for key in names]
        print(f"| {' | '.join([*line, *scores])} |")


def main() -> None:
    """Fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--real", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    jobs = list(demo_jobs(options.repetitions))
    jobs = [*(real_jobs(options.real) if options.real else ()), *jobs]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        futures = [pool.submit(run, job, options.folder) for job in jobs]
        results = {job: future.result() for job, future in zip(jobs, futures, strict=True)}
    rows = print_strategies(results, options.repetitions)
    print_ranks(results, options.repetitions)
    print_real(results)
    kept = [{"job": asdict(job), "found": found} for job, found in results.items()]
    Path("weight_paths.json").write_text(json.dumps({"strategies": rows, "fits": kept}))


if __name__ == "__main__":
    main()
