"""The grid of alpha and beta that benchmarks search, and what is known of fits on it."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

ALPHAS, BETAS, N_SEEDS = [50, 100, 500, 1000], [1, 5, 10, 20], 3


def mean_and_error(values: Sequence[float]) -> str:
    """Return a mean ± its standard error."""
    if not values:
        return "none"
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{np.mean(values):.3g} ± {error:.2g}"


def average(fits: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every metric that all fits have."""
    shared = set.intersection(*map(set, fits))
    return {key: float(np.mean([one[key] for one in fits])) for key in shared}


def recovery(latents: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Return how well latents find untracked parts: the mean correlation of the best matching.

    Parameters
    ----------
    latents
        (frame, latent)
    truth
        (frame, part)
    """
    n = latents.shape[1]
    table = np.nan_to_num(np.abs(np.corrcoef(latents.T, truth.T)[:n, n:]))
    return float(table[linear_sum_assignment(table, maximize=True)].mean())
