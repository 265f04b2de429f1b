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
    r2, variance = score_labels(labels, labels_hat, label_mask)
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


def predict_by_ridge(
    latents_train: Floats,
    labels_train: Floats,
    latents: Floats,
    label_mask_train: Mask | None = None,
) -> NDArray[np.float64]:
    r"""Return the labels that ridge regression reads from latents.

    For each label, over its valid training frames and with standardised latents :math:`Z`,

    .. math:: w = (Z^\top Z + I)^{-1} Z^\top (y - \bar y)

    Parameters
    ----------
    latents_train, latents
        (frame, latent) to fit on, and to read from
    labels_train
        (frame, label) of the training frames
    label_mask_train
        (frame, label), 0 where an entry is not valid; None where all are

    Returns
    -------
    NDArray
        (frame, label); nan for a label without a valid training frame
    """
    valid = valid_entries(labels_train, label_mask_train)
    labels_hat = np.full((len(latents), labels_train.shape[1]), np.nan)
    for label in np.flatnonzero(valid.any(axis=0)):
        rows = valid[:, label]
        z = standardise(latents_train[rows])
        y = np.asarray(labels_train[rows, label], dtype=np.float64)
        weights = np.linalg.solve(
            z.T @ z + _RIDGE_PENALTY * np.eye(z.shape[1]), z.T @ (y - y.mean())
        )
        labels_hat[:, label] = standardise(latents, latents_train[rows]) @ weights + y.mean()
    return labels_hat


def leak_r2(labels: Floats, labels_hat: Floats, label_mask: Mask | None = None) -> float | None:
    """Return the R² of labels that were read from the unsupervised latents.

    A negative R² of a label counts as 0, because a fit that fails on new frames shows no less
    than no leakage. Labels are weighted by their variance.

    Parameters
    ----------
    labels, labels_hat
        (frame, label); the latter from `predict_by_ridge`, fitted on other frames
    label_mask
        (frame, label), 0 where an entry is not valid; None where all are

    Returns
    -------
    float or None
        Score in [0, 1]; None where no label can be fitted and scored
    """
    is_scored = valid_entries(labels, label_mask) & ~np.isnan(labels_hat)
    r2, variance = score_labels(labels, labels_hat, is_scored)
    scored = variance > 0
    if not scored.any():
        return None
    return float(np.average(np.maximum(r2[scored], 0.0), weights=variance[scored]))


def score_labels(
    labels: Floats, labels_hat: Floats, label_mask: Mask | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return R² and variance of each label over its valid frames.

    Parameters
    ----------
    labels, labels_hat
        (frame, label)
    label_mask
        (frame, label), 0 where an entry is not valid; None where all are

    Returns
    -------
    tuple
        R² (label,), nan for a label that does not vary, and variance (label,), 0 there
    """
    valid = valid_entries(labels, label_mask)
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
