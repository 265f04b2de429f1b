"""Which metric should choose beta, and in which recordings does beta matter?

    python -m tests.benchmarks.choosing FOLDER [--seeds 3] [--processes 1] [--alphas 50]

Fits a grid of weights to the plain demo and to each of its worlds, from new weights as published,
and holds each fit against the untracked parts, which are known. A chooser takes the weights that
are best by the mean of one metric on validation clips. Its regret is the recovery (the mean |r| of
each part with the latent that is matched to it, on test clips) that it gives away; its rank
correlation is that of the metric with the recovery, over weights.

Fits lie in FOLDER and are not made again. A fit takes about 20 seconds on one core. Prints two
Markdown tables.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, spearmanr

from psvae_tune.config.metric_catalog import goal_of, sign
from psvae_tune.data.demo_worlds import WORLDS
from tests.support.weight_fits import Job, run
from tests.support.weight_grid import BETAS, average, mean_and_error

RECORDINGS = ("demo", *(f"demo:{world}" for world in WORLDS))
METRICS = (
    "latent_correlation",
    "gaussian_tc",
    "tc",
    "hsic",
    "traversal_overlap",
    "traversal_concentration",
    "frame_mse",
)
AVERAGED = ("latent_correlation", "hsic", "traversal_overlap")

Weights = tuple[float, float]
"""Alpha and beta."""
Cells = Mapping[Weights, Mapping[str, float]]
"""Metrics by weights, each the mean over seeds."""


def costs(cells: Cells, metric: str) -> list[float]:
    """Return a metric of each cell, of which less is better; infinite where a fit lacks it.

    Fits whose latents collapsed lack most.
    """
    key = f"val/{metric}"
    factor = sign(goal_of(key))
    return [factor * cell[key] if key in cell else np.inf for cell in cells.values()]


def mean_ranks(cells: Cells) -> list[float]:
    """Return the mean of the ranks of each cell in three metrics."""
    return [float(r) for r in np.mean([rankdata(costs(cells, m)) for m in AVERAGED], axis=0)]


def small_beta(cells: Cells) -> list[float]:
    """Return the beta of each cell, as one who always takes the smallest would."""
    return [beta for _, beta in cells]


CHOOSERS: Mapping[str, Callable[[Cells], Sequence[float]]] = {
    **{f"`{metric}`": partial(costs, metric=metric) for metric in METRICS},
    f"mean rank in {', '.join(AVERAGED)}": mean_ranks,
    "always the smallest beta": small_beta,
}


def read_cells(results: Mapping[Job, dict[str, dict[str, float]]], recording: str) -> Cells:
    """Return the fits of a recording by weights."""
    fits: dict[Weights, list[Mapping[str, float]]] = {}
    for job, found in results.items():
        if job.recording == recording:
            fits.setdefault(job.weights[0], []).append(found["first"])
    return {weights: average(some) for weights, some in fits.items()}


def describe_world(results: Mapping[Job, dict[str, dict[str, float]]], recording: str) -> str:
    """Return a row: the recovery at each beta, over alphas and seeds, and the best of them."""
    by_beta = {
        beta: [
            found["first"]["recovery"]
            for job, found in results.items()
            if (job.recording, job.weights[0][1]) == (recording, beta)
        ]
        for beta in BETAS
    }
    best = max(by_beta, key=lambda beta: np.mean(by_beta[beta]))
    scores = " | ".join(mean_and_error(values) for values in by_beta.values())
    return f"| `{recording}` | {scores} | {best} |"


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--alphas", type=float, nargs="+", default=[50.0])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        Job(recording, 0, "published", seed=seed, weights=((alpha, float(beta)),))
        for seed, recording, alpha, beta in product(
            range(options.seeds), RECORDINGS, options.alphas, BETAS
        )
    ]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        found = pool.map(run, jobs, [options.folder] * len(jobs))
        results = dict(zip(jobs, found, strict=True))
    print(f"| recording | {' | '.join(f'β = {beta}' for beta in BETAS)} | best |")
    print("|---" * (len(BETAS) + 2) + "|")
    print("\n".join(describe_world(results, recording) for recording in RECORDINGS))
    print("\n| chooser | rank correlation with recovery | regret | largest regret |")
    print("|---|---|---|---|")
    worlds = [read_cells(results, recording) for recording in RECORDINGS]
    for name, chooser in CHOOSERS.items():
        ranks, regrets = [], []
        for cells in worlds:
            recovery, cost = [c["recovery"] for c in cells.values()], chooser(cells)
            # A metric that no fit has tells nothing.
            ranks.append(-spearmanr(cost, recovery).statistic if len(set(cost)) > 1 else 0.0)
            regrets.append(max(recovery) - recovery[int(np.argmin(cost))])
        row = (mean_and_error(ranks), mean_and_error(regrets), f"{max(regrets):.2g}")
        print(f"| {name} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
