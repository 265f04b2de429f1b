"""Ridge regression with the penalties that predict best the clips that are left out.

Frames of one clip are alike, so to leave out single frames would give too small penalties.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.arrays import Floats

PENALTIES = np.logspace(-4, 4, 9)
"""Penalties to choose from, as multiples of the mean eigenvalue of the features."""
MAX_FOLDS = 5
"""Number of parts, of whole clips, that are left out in turn."""

Rows = NDArray[np.bool_]
Predict = Callable[[Rows, Rows], NDArray[np.float64]]
"""Takes the rows to fit on and those to predict; returns (penalty, row, target)."""


def predict_by_kernel(
    kernel: Floats, targets: Floats, clips: NDArray[np.integer]
) -> NDArray[np.float64]:
    r"""Predict the frames of each clip from those of others, each target with its best penalty.

    .. math:: \hat y = k^\top (K + p\,\bar\kappa\,I)^{-1} (Y - \bar Y) + \bar y

    with K the centred kernel of the frames that are fitted and :math:`\bar\kappa` its mean
    eigenvalue. The intercept is not shrunk.

    Parameters
    ----------
    kernel
        (frame, frame)
    targets
        (frame, target)
    clips
        (frame,), the clip of each, of two at least

    Returns
    -------
    NDArray
        (frame, target)
    """

    def predict(fitted: Rows, new: Rows) -> NDArray[np.float64]:
        known, beside = kernel[np.ix_(fitted, fitted)], kernel[np.ix_(new, fitted)]
        column, mean = known.mean(axis=0), targets[fitted].mean(axis=0)
        values, axes = np.linalg.eigh(known - column - column[:, None] + column.mean())
        along = (beside - beside.mean(axis=1, keepdims=True) - column + column.mean()) @ axes
        return _shrink(along, values, axes.T @ (targets[fitted] - mean), mean)

    predicted = _leave_out(predict, targets, clips)
    return _take(predicted, _choose(predicted, targets))


def predict_new(
    features: Floats, targets: Floats, clips: NDArray[np.integer], new: Floats
) -> NDArray[np.float64]:
    r"""Return the targets of new frames, with the penalty that is best on clips that are left out.

    .. math:: \hat y = x^\top (Z^\top Z + p\,\bar\kappa\,I)^{-1} Z^\top (Y - \bar Y) + \bar y

    with Z and x around the mean of the features.

    Parameters
    ----------
    features, new
        (frame, feature) to fit on, and to predict from
    targets
        (frame, target)
    clips
        (frame,), the clip of each, of two at least

    Returns
    -------
    NDArray
        (new frame, target)
    """
    features = np.asarray(features, np.float64)

    def predict_from(fitted: Rows, wanted: Floats) -> NDArray[np.float64]:
        centre, mean = features[fitted].mean(axis=0), targets[fitted].mean(axis=0)
        z = features[fitted] - centre
        values, axes = np.linalg.eigh(z.T @ z)
        weights = axes.T @ (z.T @ (targets[fitted] - mean))
        return _shrink((wanted - centre) @ axes, values, weights, mean)

    left_out = _leave_out(lambda fitted, out: predict_from(fitted, features[out]), targets, clips)
    return _take(predict_from(np.ones(len(features), bool), new), _choose(left_out, targets))


def _shrink(along: Floats, values: Floats, weights: Floats, mean: Floats) -> NDArray[np.float64]:
    """Return the predictions for each penalty, (penalty, row, target).

    Parameters
    ----------
    along
        (row, axis): rows along the eigenvectors.
    values
        (axis,): eigenvalues.
    weights
        (axis, target): targets along the eigenvectors.
    mean
        (target,)
    """
    values = np.maximum(values, 0)
    unit = max(float(values.mean()), 1e-12)
    return np.stack([(along / (values + p * unit)) @ weights + mean for p in PENALTIES])


def _leave_out(
    predict: Predict, targets: Floats, clips: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return the predictions of frames whose clips were left out, (penalty, frame, target)."""
    folds = np.unique(clips, return_inverse=True)[1] % MAX_FOLDS
    assert folds.any(), "one clip"
    predicted = np.zeros((len(PENALTIES), *targets.shape))
    for fold in range(folds.max() + 1):
        out = folds == fold
        predicted[:, out] = predict(~out, out)
    return predicted


def _choose(predicted: Floats, targets: Floats) -> NDArray[np.intp]:
    """Return the number of the best penalty for each target."""
    return np.asarray(((predicted - targets) ** 2).sum(axis=1).argmin(axis=0))


def _take(predicted: NDArray[np.float64], best: NDArray[np.intp]) -> NDArray[np.float64]:
    return np.asarray(np.take_along_axis(predicted, best[None, None], axis=0)[0])
