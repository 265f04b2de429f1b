"""Measure whether fits that differ only in their seed find the same latents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.arrays import Floats, standardise

_LASSO_PENALTY = 0.1


@dataclass(frozen=True, slots=True)
class UDR:
    """Agreement of each fit with all others."""

    per_fit: NDArray[np.float64]
    """(fit,) in [0, 1]: the median over the other fits."""
    spread: NDArray[np.float64]
    """(fit,): standard deviation over the other fits; 0 where there is only one."""
    pairs: NDArray[np.float64]
    """(fit, other fit): agreement of each ordered pair; 0 on the diagonal."""


def udr(
    latents_by_fit: Sequence[Floats],
    active_by_fit: Sequence[NDArray[np.bool_]],
    method: Literal["lasso", "spearman"] = "lasso",
) -> UDR | None:
    r"""Return the unsupervised disentanglement ranking of fits of the same hyperparameters.

    Let :math:`R_{ab}` be the strength of the relation between latent :math:`a` of fit :math:`i`
    and latent :math:`b` of fit :math:`j`: the absolute lasso weight, or the absolute Spearman
    correlation. Then

    .. math::
        s(R) = \tfrac12\Big[
            \Big\langle \frac{(\max_a R_{ab})^2}{\sum_a R_{ab}} \Big\rangle_b +
            \Big\langle \frac{(\max_b R_{ab})^2}{\sum_b R_{ab}} \Big\rangle_a \Big],
        \qquad \mathrm{UDR}_i = \operatorname{median}_{j \ne i} s(R^{ij})

    Only active latents count; a pair in which one fit has none scores 0. Unlike a correlation
    between latents, it sees their rotation.

    Parameters
    ----------
    latents_by_fit
        One array (frame, latent) a fit: posterior means of unsupervised latents on the same frames
    active_by_fit
        One array (latent,) a fit: which latents are active, as `find_active` tells
    method
        Measure of the strength

    Returns
    -------
    UDR or None
        None for fewer than two fits or two frames

    References
    ----------
    Duan et al. (2020), Unsupervised model selection for variational disentangled
    representation learning, arXiv:1905.12614.
    """
    n_fits = len(latents_by_fit)
    if n_fits < 2 or len(latents_by_fit[0]) < 2:
        return None
    active = [
        standardise(latents[:, is_active])
        for latents, is_active in zip(latents_by_fit, active_by_fit, strict=True)
    ]
    strength = {"lasso": _lasso_strength, "spearman": _spearman_strength}[method]
    pairs = np.zeros((n_fits, n_fits))
    for i, j in zip(*np.nonzero(~np.eye(n_fits, dtype=bool)), strict=True):
        if active[i].shape[1] and active[j].shape[1]:
            table = strength(active[i], active[j])
            pairs[i, j] = 0.5 * (_one_to_one(table) + _one_to_one(table.T))
    others = pairs[~np.eye(n_fits, dtype=bool)].reshape(n_fits, n_fits - 1)
    return UDR(np.median(others, axis=1), others.std(axis=1), pairs)


def _lasso_strength(z_i: NDArray[np.float64], z_j: NDArray[np.float64]) -> NDArray[np.float64]:
    from sklearn.linear_model import Lasso

    lasso = Lasso(alpha=_LASSO_PENALTY, max_iter=10_000, tol=1e-8).fit(z_i, z_j)
    return np.abs(np.atleast_2d(lasso.coef_)).T


def _spearman_strength(z_i: NDArray[np.float64], z_j: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    ranks_i, ranks_j = standardise(rankdata(z_i, axis=0)), standardise(rankdata(z_j, axis=0))
    return np.abs(ranks_i.T @ ranks_j) / len(ranks_i)


def _one_to_one(table: NDArray[np.float64]) -> float:
    """Return the mean over columns of (largest entry)² / sum; 0 for a column of zeros."""
    largest, total = table.max(axis=0), table.sum(axis=0)
    return float(np.divide(largest**2, total, out=np.zeros_like(total), where=total > 0).mean())
