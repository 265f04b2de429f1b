"""Which metric should choose beta, and in which recordings does beta matter?

    python -m tests.benchmarks.choosing FOLDER [--seeds 3] [--processes 1] [--alphas 50]
                                               [--variances 1 0.1]

Fits a grid of weights to the plain demo and to each of its worlds, from new weights as published,
at each decoder variance (alpha is divided by it), and holds each fit against the untracked parts,
which are known. A chooser takes the weights that are best by the mean of one metric on validation
clips. Its regret is the recovery (the mean |r| of each part with the latent that is matched to it,
on test clips) that it gives away; its rank correlation is that of the metric with the recovery,
over weights.

Fits lie in FOLDER and are not made again. A fit takes about 20 seconds on one core. Prints two
Markdown tables for each variance.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr

from psvae_tune.config.metric_catalog import goal_of, sign
from psvae_tune.config.wording import and_list, quote
from psvae_tune.data.demo_worlds import WORLDS
from psvae_tune.metrics.seed_agreement import udr
from tests.support.weight_fits import Job, run
from tests.support.weight_grid import BETAS, average, mean_and_error

RECORDINGS = ("demo", *(f"demo:{world}" for world in WORLDS))
METRICS = (
    "val/latent_correlation",
    "val/gaussian_tc",
    "val/tc",
    "val/hsic",
    "udr",
    "val/traversal_overlap",
    "val/traversal_concentration",
    "val/frame_mse",
)
AVERAGED = ("val/latent_correlation", "val/hsic", "val/traversal_overlap")

Weights = tuple[float, float]
"""Alpha and beta."""
Cells = Mapping[Weights, Mapping[str, float]]
"""Metrics by weights, each the mean over seeds."""


Results = Mapping[Job, Mapping[str, Any]]
"""What `run` returns of each job."""


def costs(cells: Cells, key: str) -> list[float]:
    """Return a metric of each cell, of which less is better; infinite where a fit lacks it.

    Fits whose latents collapsed lack most.
    """
    factor = sign(goal_of(key))
    return [factor * cell[key] if key in cell else np.inf for cell in cells.values()]


def mean_ranks(cells: Cells) -> list[float]:
    """Return the mean of the ranks of each cell in three metrics."""
    return [float(r) for r in np.mean([rankdata(costs(cells, key)) for key in AVERAGED], axis=0)]


def small_beta(cells: Cells) -> list[float]:
    """Return the beta of each cell, as one who always takes the smallest would."""
    return [beta for _, beta in cells]


def published_rule(cells: Cells) -> list[float]:
    """Return the correlation of each cell; infinite where frames are not within 20 % of the best.

    This is the rule of ``ps_vae_published.yaml``.
    """
    errors = [cell["val/frame_mse"] for cell in cells.values()]
    found = zip(costs(cells, "val/latent_correlation"), errors, strict=True)
    return [cost if error <= 1.2 * min(errors) else np.inf for cost, error in found]


def shipped_rule(cells: Cells) -> list[float]:
    """Return the beta of each cell; infinite where traversals are not nearly the narrowest.

    This is the rule of ``ps_vae.yaml``.
    """
    values = [cell.get("val/traversal_concentration", 0.0) for cell in cells.values()]
    is_narrow = [value >= 0.95 * max(values) for value in values]
    return [beta if ok else np.inf for (_, beta), ok in zip(cells, is_narrow, strict=True)]


CHOOSERS: Mapping[str, Callable[[Cells], Sequence[float]]] = {
    **{f"`{key}`": partial(costs, key=key) for key in METRICS},
    f"mean rank in {and_list(map(quote, AVERAGED))}": mean_ranks,
    "the least correlated latents within 20 % of the frame error": published_rule,
    "the smallest beta within 5 % of the best concentration": shipped_rule,
    "always the smallest beta": small_beta,
}


def read_cells(results: Results, recording: str) -> Cells:
    """Return the fits of a recording by weights."""
    fits: dict[Weights, list[Mapping[str, Any]]] = {}
    for job, found in results.items():
        if job.recording == recording:
            fits.setdefault(job.weights[0], []).append(found)
    return {
        weights: average([one["first"] for one in some]) | agree(some)
        for weights, some in fits.items()
    }


def agree(fits: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the ``udr`` of fits that differ in their seed; nothing if they kept no latents."""
    latents = [one["val_latents"] for one in fits if "val_latents" in one]
    if len(latents) < len(fits):
        return {}
    means, active = ([np.array(one[key]) for one in latents] for key in ("mean", "is_active"))
    found = udr(means, active)
    return {} if found is None else {"udr": float(found.per_fit.mean())}


def describe_world(results: Results, recording: str) -> str:
    """Return a row: the recovery at each beta, the best beta, and what it gains beside beta 1."""
    fits: dict[float, dict[tuple[float, int], float]] = {}
    for job, found in results.items():
        if job.recording == recording:
            alpha, beta = job.weights[0]
            fits.setdefault(beta, {})[alpha, job.seed] = found["first"]["recovery"]
    scores = {beta: list(values.values()) for beta, values in fits.items()}
    best = max(scores, key=lambda beta: np.mean(scores[beta]))
    gain = mean_and_error([value - fits[BETAS[0]][key] for key, value in fits[best].items()])
    shown = " | ".join(map(mean_and_error, scores.values()))
    return f"| `{recording}` | {shown} | {best:g} | {gain} |"


def print_worlds(results: Results) -> None:
    """Print how well each beta finds the untracked parts of each recording."""
    columns = [*(f"β = {beta}" for beta in BETAS), "best", f"gain on β = {BETAS[0]}"]
    print(f"| recording | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    print("\n".join(describe_world(results, recording) for recording in RECORDINGS))


def print_choosers(results: Results) -> None:
    """Print what each chooser gives away over all recordings."""
    print("\n| chooser | rank correlation with recovery | regret | largest regret |")
    print("|---|---|---|---|")
    worlds = [read_cells(results, recording) for recording in RECORDINGS]
    for name, chooser in CHOOSERS.items():
        ranks, regrets = [], []
        if not any(np.isfinite(chooser(cells)).any() for cells in worlds):
            continue
        for cells in worlds:
            recovery, cost = [c["recovery"] for c in cells.values()], chooser(cells)
            # A metric that no fit of a recording has tells nothing.
            ranks.append(-spearmanr(cost, recovery).statistic if len(set(cost)) > 1 else 0.0)
            regrets.append(max(recovery) - recovery[int(np.argmin(cost))])
        row = (mean_and_error(ranks), mean_and_error(regrets), f"{max(regrets):.2g}")
        print(f"| {name} | {' | '.join(row)} |")


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--alphas", type=float, nargs="+", default=[50.0])
    parser.add_argument("--variances", type=float, nargs="+", default=[1.0, 0.1])
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        Job(
            recording,
            0,
            "published",
            seed=seed,
            weights=((alpha, float(beta)),),
            decoder_variance=variance,
        )
        for seed, variance, recording, alpha, beta in product(
            range(options.seeds), options.variances, RECORDINGS, options.alphas, BETAS
        )
    ]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        found = pool.map(run, jobs, [options.folder] * len(jobs))
        results = dict(zip(jobs, found, strict=True))
    for variance in options.variances:
        print(f"\nDecoder variance {variance:g}:\n")
        own = {job: one for job, one in results.items() if job.decoder_variance == variance}
        print_worlds(own)
        print_choosers(own)


if __name__ == "__main__":
    main()
