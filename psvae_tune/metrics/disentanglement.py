"""Measure whether each known factor has a latent of its own; the labels are the factors.

What is fitted or picked, is so on training frames, and is scored on others. Over few frames,
smooth latents that know nothing share some movement with every label by chance, and the best of
them would seem to know it.

A metric is None with fewer than two latents, which leave nothing to tell apart, and where no
label varies over its valid frames. A label that does not vary is left out.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.arrays import Floats, Mask, standardise, valid_entries, varies
from psvae_tune.metrics.label_prediction import score_labels

_DCI_PENALTY = 0.05


class DCI(NamedTuple):
    """Three scores of one table of importances (latent, label), each in [0, 1]."""

    disentanglement: float
    """1 where each latent matters to one label only."""
    completeness: float
    """1 where each label needs one latent only."""
    informativeness: float
    """Mean R² of the labels predicted from all latents."""


class LassoFit(NamedTuple):
    """Labels read from latents by a lasso that was fitted to other frames."""

    weights: NDArray[np.float64]
    """(latent, label), of standardised latents and labels; 0 for a label that was not fitted."""
    labels_hat: NDArray[np.float64]
    """(frame, label); nan for a label that was not fitted."""


def information(
    latents: Floats, labels: Floats, label_mask: Mask | None = None
) -> NDArray[np.float64]:
    r"""Return the share of each label's entropy that each latent tells.

    .. math:: I(z_j; y_k) / H(y_k)

    Continuous values are cut into bins of equal counts: as many as leave 5 frames a cell of the
    joint table, at most 20. Equal counts make the share independent of the scale and of outliers.

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
    NDArray
        (latent, label) in [0, 1]; nan for a label that does not vary
    """
    table = np.full((latents.shape[1], labels.shape[1]), np.nan)
    for label, z, y in _valid_frames(latents, labels, label_mask):
        n_bins = int(np.clip(np.sqrt(len(y) / 5), 2, 20))
        factor = _bin_equally(y, n_bins)
        entropy = _entropy(factor)
        if entropy > 0:
            codes = (_bin_equally(column, n_bins) for column in z.T)
            joint = [_entropy(code) - _entropy(n_bins * factor + code) for code in codes]
            table[:, label] = 1 + np.array(joint) / entropy
    return table


def squared_correlation(
    latents: Floats, labels: Floats, label_mask: Mask | None = None
) -> NDArray[np.float64]:
    """Return the R² of each label that each latent alone predicts linearly.

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
    NDArray
        (latent, label) in [0, 1]; nan for a label that does not vary
    """
    table = np.full((latents.shape[1], labels.shape[1]), np.nan)
    for label, z, y in _valid_frames(latents, labels, label_mask):
        table[:, label] = (standardise(z).T @ standardise(y[:, None])[:, 0] / len(y)) ** 2
    return table


def mean_lead(table_train: NDArray[np.float64], table: NDArray[np.float64]) -> float | None:
    r"""Return the lead of the best latent over the second best, averaged over labels.

    .. math:: \max\Big(0, \frac1K \sum_k (s_{j_1 k} - s_{j_2 k})\Big)

    with :math:`s` a score of each latent for each label, and :math:`j_1, j_2` the two latents
    with the highest scores on training frames. The lead of the two that are highest on the scored
    frames themselves is positive by chance.

    With `information` it is the mutual information gap (MIG); with `squared_correlation`, the
    separated attribute predictability (SAP).

    Parameters
    ----------
    table_train, table
        (latent, label): the score over training frames, and over the frames that count; nan for
        a label that does not vary there

    Returns
    -------
    float or None
        Score in [0, 1]

    References
    ----------
    Chen et al. (2018), Isolating sources of disentanglement in VAEs, arXiv:1802.04942.
    Kumar et al. (2018), Variational inference of disentangled latent concepts from unlabeled
    observations, arXiv:1711.00848.
    """
    scored = np.isfinite(table_train).all(axis=0) & np.isfinite(table).all(axis=0)
    if len(table) < 2 or not scored.any():
        return None
    second, first = np.argsort(table_train[:, scored], axis=0)[-2:]
    labels = np.arange(scored.sum())
    leads = table[:, scored][first, labels] - table[:, scored][second, labels]
    return max(0.0, float(leads.mean()))


def predict_by_lasso(
    latents_train: Floats,
    labels_train: Floats,
    latents: Floats,
    label_mask_train: Mask | None = None,
) -> LassoFit:
    """Return the labels that a lasso reads from latents, and its weights.

    The lasso is one of the two regressors of the paper on `dci`. It is quick and deterministic,
    which tree ensembles are not, and it notices a rotation of the latents, which a ridge
    regression does not.

    Parameters
    ----------
    latents_train, latents
        (frame, latent) to fit on, and to read from
    labels_train
        (frame, label) of the training frames
    label_mask_train
        (frame, label), 0 where an entry is not valid; None where all are
    """
    from sklearn.linear_model import Lasso

    n_latents, n_labels = latents.shape[1], labels_train.shape[1]
    found = LassoFit(np.zeros((n_latents, n_labels)), np.full((len(latents), n_labels), np.nan))
    if n_latents:
        for label, z, y in _valid_frames(latents_train, labels_train, label_mask_train):
            lasso = Lasso(alpha=_DCI_PENALTY, max_iter=10_000, tol=1e-8)
            lasso.fit(standardise(z), standardise(y[:, None])[:, 0])
            found.weights[:, label] = lasso.coef_
            found.labels_hat[:, label] = (
                y.std() * lasso.predict(standardise(latents, z)) + y.mean()
            )
    return found


def dci(
    weights: Floats, labels: Floats, labels_hat: Floats, label_mask: Mask | None = None
) -> DCI | None:
    r"""Return disentanglement, completeness and informativeness of latents against labels.

    With weights :math:`w_{jk}` of latent :math:`j` in the prediction of label :math:`k`, and
    :math:`R^2_k` of that prediction on other frames than those it was fitted to,

    .. math::
        R_{jk} = \max(R^2_k, 0) \frac{|w_{jk}|}{\sum_i |w_{ik}|}, \qquad
        D = \frac1K \sum_j (1 - H_K(R_{j\cdot})) \sum_k R_{jk}, \qquad
        C = \frac1K \sum_k (1 - H_J(R_{\cdot k})) \sum_j R_{jk}, \qquad
        I = \frac1K \sum_{jk} R_{jk}

    where :math:`H_n` is the entropy, to the base :math:`n`, of a row or column divided by its sum.
    The importances of a label add up to the share of it that is predicted, so neither :math:`D`
    nor :math:`C` exceeds :math:`I`: latents that know nothing are not disentangled. In the paper
    the importances add up to the same for all labels, however badly one is predicted.

    Parameters
    ----------
    weights
        (latent, label), from `predict_by_lasso`
    labels, labels_hat
        (frame, label); the latter from `predict_by_lasso`
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
    r2, variance = score_labels(
        labels, labels_hat, valid_entries(labels, label_mask) & ~np.isnan(labels_hat)
    )
    scored = variance > 0
    if len(weights) < 2 or scored.sum() < 2:
        return None
    table = np.maximum(r2[scored], 0.0) * _shares(np.abs(weights[:, scored]).T).T
    per_latent, per_label = table.sum(axis=1), table.sum(axis=0)
    return DCI(
        float(_purity(table) @ per_latent / len(per_label)),
        float(_purity(table.T) @ per_label / len(per_label)),
        float(per_label.mean()),
    )


def _valid_frames(
    latents: Floats, labels: Floats, label_mask: Mask | None
) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Yield each label that varies, with (frame, latent) and (frame,) of its valid frames."""
    valid = valid_entries(labels, label_mask)
    for label in range(labels.shape[1]):
        y = np.asarray(labels[valid[:, label], label], dtype=np.float64)
        if varies(y[:, None])[0]:
            yield label, np.asarray(latents[valid[:, label]], dtype=np.float64), y


def _bin_equally(values: NDArray[np.float64], n_bins: int) -> NDArray[np.intp]:
    edges = np.sort(values)[len(values) * np.arange(1, n_bins) // n_bins]
    return np.searchsorted(edges, values, side="right")


def _entropy(codes: NDArray[np.intp]) -> float:
    counts = np.bincount(codes)
    share = counts[counts > 0] / len(codes)
    return float(-(share * np.log(share)).sum())


def _purity(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 minus the normalised entropy of each row."""
    share = _shares(table)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(1.0 + (share * logs).sum(axis=1) / np.log(table.shape[1]))


def _shares(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows divided by their sums; a row of zeros stays."""
    total = table.sum(axis=1, keepdims=True)
    return np.divide(table, total, out=np.zeros_like(table), where=total > 0)
