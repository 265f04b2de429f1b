"""How well unsupervised latents find movements that were tracked and that no model saw."""

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.arrays import Floats, Mask, standardise, valid_entries, varies
from psvae_tune.metrics.disentanglement import squared_correlation
from psvae_tune.metrics.label_prediction import score_labels
from psvae_tune.metrics.ridge import predict_new


def find_best_latents(
    latents: Floats, labels: Floats, label_mask: Mask | None = None
) -> NDArray[np.intp]:
    """Return the latent that correlates most with each label, (label,), over its valid frames.

    Parameters
    ----------
    latents
        (frame, latent), of one latent at least
    labels
        (frame, label)
    label_mask
        (frame, label), 0 where an entry is not valid; None where all are
    """
    table = squared_correlation(latents, labels, label_mask)
    return np.asarray(np.nan_to_num(table).argmax(axis=0))


def correlate(
    latents: Floats, columns: NDArray[np.integer], labels: Floats, label_mask: Mask | None = None
) -> NDArray[np.float64]:
    """Return the correlation of each label with a latent of its own, over its valid frames.

    Parameters
    ----------
    latents
        (frame, latent)
    columns
        (label,), the latent of each label
    labels
        (frame, label)
    label_mask
        (frame, label), 0 where an entry is not valid; None where all are

    Returns
    -------
    NDArray
        (label,); 0 where the latent does not vary, nan where the label does not
    """
    valid, found = valid_entries(labels, label_mask), np.full(labels.shape[1], np.nan)
    for label, column in enumerate(columns):
        rows = valid[:, label]
        y = np.asarray(labels[rows, label], np.float64)
        if varies(y[:, None])[0]:
            z = standardise(np.asarray(latents[rows][:, [column]], np.float64))[:, 0]
            found[label] = float(z @ (y - y.mean())) / len(y) / y.std()
    return found


def quadratic(columns: Floats) -> NDArray[np.float64]:
    """Return columns, their squares and their products, (frame, feature)."""
    columns = np.asarray(columns, np.float64)
    left, right = np.triu_indices(columns.shape[1])
    return np.concatenate([columns, columns[:, left] * columns[:, right]], axis=1)


def predict_quadratic(
    known: Floats,
    labels: Floats,
    clips: NDArray[np.integer],
    new: Floats,
    label_mask: Mask | None = None,
) -> NDArray[np.float64]:
    """Predict labels by ridge regression from columns, their squares and their products.

    Each label has the penalty that predicts best the clips that are left out.

    Parameters
    ----------
    known, new
        (frame, column) to fit on, and to predict from
    labels
        (frame, label) to fit on
    clips
        (frame,), the clip of each frame to fit on
    label_mask
        (frame, label), 0 where an entry is not valid; None where all are

    Returns
    -------
    NDArray
        (new frame, label); nan for a label that is valid in fewer than two clips
    """
    valid = valid_entries(labels, label_mask)
    found = np.full((len(new), labels.shape[1]), np.nan)
    centre, scale = known.mean(axis=0), known.std(axis=0)
    scale = np.where(scale > 0, scale, 1)
    features, wanted = (quadratic((part - centre) / scale) for part in (known, new))
    for label in range(labels.shape[1]):
        rows = valid[:, label]
        if len(np.unique(clips[rows])) > 1:
            y = np.asarray(labels[rows, label][:, None], np.float64)
            found[:, label] = predict_new(features[rows], y, clips[rows], wanted)[:, 0]
    return found


def mean_r2(labels: Floats, labels_hat: Floats, label_mask: Mask | None = None) -> float | None:
    """Return the R² of the labels that vary, averaged with equal weights; None if none does."""
    is_scored = valid_entries(labels, label_mask) & ~np.isnan(labels_hat)
    r2, variance = score_labels(labels, labels_hat, is_scored)
    return float(r2[variance > 0].mean()) if (variance > 0).any() else None
