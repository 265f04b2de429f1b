"""Measure how well labels are predicted, and how far they leak into unsupervised latents."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.arrays import Floats, Mask, standardise, valid_entries, varies

_RIDGE_PENALTY = 1.0


@dataclass(frozen=True, slots=True)
class LabelR2:
    """Share of each label's variance that a prediction explains."""

    mean: float
    """Mean over labels, weighted by their variance."""
    per_label: NDArray[np.float64]
    """(label,); nan for a label that has no valid entry or does not vary."""


def label_r2(labels: Floats, labels_hat: Floats, label_mask: Mask | None = None) -> LabelR2 | None:
    r"""Return R² of each label over the valid frames of a whole split, and its weighted mean.

    .. math::
        R^2_d = 1 - \frac{\sum_t m_{td} (y_{td} - \hat y_{td})^2}
                         {\sum_t m_{td} (y_{td} - \bar y_d)^2},
        \qquad R^2 = \frac{\sum_d v_d R^2_d}{\sum_d v_d}

    with :math:`\bar y_d` and :math:`v_d` the mean and the variance of the valid entries of
    label :math:`d`. Labels are never flattened into one column, so a difference between the
    means of two labels explains nothing.

    Parameters
    ----------
    labels, labels_hat
        (frame, label)
    label_mask
        (frame, label), 0 where an entry is not valid; None where all are

    Returns
    -------
    LabelR2 or None
        None where no label has a variance to explain
    """
    r2, variance = _score_labels(labels, labels_hat, valid_entries(labels, label_mask))
    scored = variance > 0
    if not scored.any():
        return None
    return LabelR2(float(np.average(r2[scored], weights=variance[scored])), r2)


def label_mse(labels: Floats, labels_hat: Floats, label_mask: Mask | None = None) -> float | None:
    r"""Return the mean squared error over the valid entries of a whole split.

    .. math:: \sum_{td} m_{td} (y_{td} - \hat y_{td})^2 / \sum_{td} m_{td}

    Parameters
    ----------
    labels, labels_hat
        (frame, label)
    label_mask
        (frame, label), 0 where an entry is not valid; None where all are

    Returns
    -------
    float or None
        Error in squared units of the labels; None where no entry is valid
    """
    valid = valid_entries(labels, label_mask)
    if not valid.any():
        return None
    error = np.asarray(labels, np.float64)[valid] - np.asarray(labels_hat, np.float64)[valid]
    return float(np.mean(error**2))


def leak_r2(
    latents_train: Floats,
    labels_train: Floats,
    latents: Floats,
    labels: Floats,
    label_mask_train: Mask | None = None,
    label_mask: Mask | None = None,
) -> float | None:
    r"""Return the R² of ridge regression from the unsupervised latents to the labels.

    For each label, over its valid training frames and with standardised latents :math:`Z`,

    .. math:: w = (Z^\top Z + I)^{-1} Z^\top (y - \bar y)

    is scored by R² on the other split. A negative R² of a label counts as 0, because a fit that
    fails on new frames shows no less than no leakage. Labels are weighted by their variance.

    Parameters
    ----------
    latents_train, latents
        (frame, latent) of the unsupervised latents; to fit on and to score
    labels_train, labels
        (frame, label) of the same frames
    label_mask_train, label_mask
        (frame, label), 0 where an entry is not valid; None where all are

    Returns
    -------
    float or None
        Score in [0, 1]; None without latents or where no label can be fitted and scored
    """
    if latents.shape[1] == 0:
        return None
    valid_train = valid_entries(labels_train, label_mask_train)
    valid = valid_entries(labels, label_mask) & valid_train.any(axis=0)
    labels_hat = np.zeros(labels.shape)
    for label in np.flatnonzero(valid_train.any(axis=0)):
        rows = valid_train[:, label]
        z = standardise(latents_train[rows])
        y = np.asarray(labels_train[rows, label], dtype=np.float64)
        weights = np.linalg.solve(
            z.T @ z + _RIDGE_PENALTY * np.eye(z.shape[1]), z.T @ (y - y.mean())
        )
        labels_hat[:, label] = standardise(latents, latents_train[rows]) @ weights + y.mean()
    r2, variance = _score_labels(labels, labels_hat, valid)
    scored = variance > 0
    if not scored.any():
        return None
    return float(np.average(np.maximum(r2[scored], 0.0), weights=variance[scored]))


def _score_labels(
    labels: Floats, labels_hat: Floats, valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return R² (nan where undefined) and variance (0 where undefined), each (label,)."""
    n_labels = labels.shape[1]
    r2, variance = np.full(n_labels, np.nan), np.zeros(n_labels)
    for label in range(n_labels):
        y = np.asarray(labels[valid[:, label], label], dtype=np.float64)
        if not varies(y[:, None])[0]:
            continue
        error = y - labels_hat[valid[:, label], label]
        variance[label] = y.var()
        r2[label] = 1.0 - np.mean(error**2) / variance[label]
    return r2, variance
