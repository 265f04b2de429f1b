"""Measure whether each known factor has a latent of its own; the labels are the factors.

A metric is None with fewer than two latents, which leave nothing to tell apart, and where no
label varies over its valid frames. A label that does not vary is left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.arrays import Floats, Mask, standardise, valid_entries, varies

_DCI_PENALTY = 0.05


@dataclass(frozen=True, slots=True)
class DCI:
    """Three scores of one table of importances (latent, label), each in [0, 1]."""

    disentanglement: float
    """1 where each latent matters to one label only."""
    completeness: float
    """1 where each label needs one latent only."""
    informativeness: float
    """Mean R² of the labels predicted from all latents."""


def mig(latents: Floats, labels: Floats, label_mask: Mask | None = None) -> float | None:
    r"""Return the mutual information gap: the lead of one latent in information on a label.

    .. math:: \frac1K \sum_k \frac{I(z_{j_1}; y_k) - I(z_{j_2}; y_k)}{H(y_k)}

    with :math:`j_1, j_2` the two latents most informative on label :math:`k`. Continuous values
    are cut into bins of equal counts: as many as leave 5 frames a cell of the joint table, at
    most 20. Equal counts make the score independent of the scale and of outliers.

    Parameters
    ----------
    latents
        (frame, latent)
    labels
        (frame, label)
    label_mask
        (frame, label), 0 where an entry is not valid; None where all are

    Returns
    -------
    float or None
        Score in [0, 1]

    References
    ----------
    Chen et al. (2018), Isolating sources of disentanglement in VAEs, arXiv:1802.04942.
    """
    if latents.shape[1] < 2:
        return None
    gaps = []
    for z, y in _valid_frames(latents, labels, label_mask):
        n_bins = int(np.clip(np.sqrt(len(y) / 5), 2, 20))
        factor = _bin_equally(y, n_bins)
        entropy = _entropy(factor)
        if entropy > 0:
            information = [
                entropy + _entropy(code) - _entropy(n_bins * factor + code)
                for code in (_bin_equally(column, n_bins) for column in z.T)
            ]
            gaps.append(_lead(np.array(information)) / entropy)
    return float(np.mean(gaps)) if gaps else None


def sap(latents: Floats, labels: Floats, label_mask: Mask | None = None) -> float | None:
    r"""Return the separated attribute predictability: the lead of one latent in R².

    .. math:: \frac1K \sum_k (\rho^2_{j_1 k} - \rho^2_{j_2 k})

    with :math:`\rho_{jk}` the correlation of latent :math:`j` with label :math:`k` and
    :math:`j_1, j_2` the two latents that predict the label best.

    Parameters
    ----------
    latents
        (frame, latent)
    labels
        (frame, label)
    label_mask
        (frame, label), 0 where an entry is not valid; None where all are

    Returns
    -------
    float or None
        Score in [0, 1]

    References
    ----------
    Kumar et al. (2018), Variational inference of disentangled latent concepts from unlabeled
    observations, arXiv:1711.00848.
    """
    if latents.shape[1] < 2:
        return None
    gaps = [
        _lead((standardise(z).T @ standardise(y[:, None])[:, 0] / len(y)) ** 2)
        for z, y in _valid_frames(latents, labels, label_mask)
    ]
    return float(np.mean(gaps)) if gaps else None


def dci(latents: Floats, labels: Floats, label_mask: Mask | None = None) -> DCI | None:
    r"""Return disentanglement, completeness and informativeness of latents against labels.

    With importances :math:`R_{jk} = |w_{jk}|`, the weights of a lasso from standardised latents
    to each standardised label,

    .. math::
        D = \sum_j \frac{\sum_k R_{jk}}{\sum_{jk} R_{jk}} (1 - H_K(R_{j\cdot})), \qquad
        C = \frac1K \sum_k (1 - H_J(R_{\cdot k}))

    where :math:`H_n` is the entropy, to the base :math:`n`, of a row or column that sums to 1. A
    label that no latent predicts is not complete (0).

    The lasso is one of the two regressors of the paper. It is quick and deterministic, which tree
    ensembles are not, and it notices a rotation of the latents, which a ridge regression does not.
    It is scored on the frames that it was fitted to: a few weights describe hundreds of frames.

    Parameters
    ----------
    latents
        (frame, latent)
    labels
        (frame, label)
    label_mask
        (frame, label), 0 where an entry is not valid; None where all are

    Returns
    -------
    DCI or None
        Scores; None also if a single label varies, since no latent can then mix labels

    References
    ----------
    Eastwood and Williams (2018), A framework for the quantitative evaluation of disentangled
    representations, ICLR.
    """
    from sklearn.linear_model import Lasso

    if latents.shape[1] < 2:
        return None
    importances, r2 = [], []
    for z, y in _valid_frames(latents, labels, label_mask):
        z, target = standardise(z), standardise(y[:, None])[:, 0]
        lasso = Lasso(alpha=_DCI_PENALTY, max_iter=10_000, tol=1e-8).fit(z, target)
        importances.append(np.abs(lasso.coef_))
        r2.append(1.0 - np.mean((target - lasso.predict(z)) ** 2))
    if len(importances) < 2:
        return None
    table = np.stack(importances, axis=1)
    weight = table.sum(axis=1)
    disentanglement = _purity(table) @ weight / weight.sum() if weight.any() else 0.0
    return DCI(float(disentanglement), float(_purity(table.T).mean()), float(np.mean(r2)))


def _valid_frames(
    latents: Floats, labels: Floats, label_mask: Mask | None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield (frame, latent) and (frame,) over the valid frames of each label that varies."""
    valid = valid_entries(labels, label_mask)
    for label in range(labels.shape[1]):
        y = np.asarray(labels[valid[:, label], label], dtype=np.float64)
        if varies(y[:, None])[0]:
            yield np.asarray(latents[valid[:, label]], dtype=np.float64), y


def _bin_equally(values: NDArray[np.float64], n_bins: int) -> NDArray[np.intp]:
    edges = np.quantile(values, np.arange(1, n_bins) / n_bins)
    return np.searchsorted(edges, values, side="right")


def _entropy(codes: NDArray[np.intp]) -> float:
    counts = np.unique(codes, return_counts=True)[1]
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())


def _lead(scores: NDArray[np.float64]) -> float:
    second, first = np.sort(scores)[-2:]
    return float(first - second)


def _purity(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 minus the normalised entropy of each row; 0 for a row without importance."""
    total = table.sum(axis=1, keepdims=True)
    share = np.divide(table, total, out=np.zeros_like(table), where=total > 0)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return np.where(total[:, 0] > 0, 1.0 + (share * logs).sum(axis=1) / np.log(table.shape[1]), 0)
