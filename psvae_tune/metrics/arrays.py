"""Preparation of arrays for all metrics: choose the valid entries and standardise."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.floating]
Mask = NDArray[np.bool_] | NDArray[np.floating] | NDArray[np.integer]

_RELATIVE_ROUNDING = 1e-10
"""Spread, as a fraction of the largest value, below which a column counts as constant."""


def varies(values: Floats) -> NDArray[np.bool_]:
    """Return which columns are more than one value repeated.

    Parameters
    ----------
    values
        (frame, column)

    Returns
    -------
    NDArray
        (column,); all False without frames
    """
    if len(values) == 0:
        return np.zeros(values.shape[1], dtype=bool)
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(values.std(axis=0) > _RELATIVE_ROUNDING * np.abs(values).max(axis=0))


def standardise(values: Floats, reference: Floats | None = None) -> NDArray[np.float64]:
    """Return columns with mean 0 and variance 1; a constant column becomes 0.

    Parameters
    ----------
    values
        (frame, column)
    reference
        (reference frame, column), which gives mean and variance; by default ``values``

    Returns
    -------
    NDArray
        (frame, column)
    """
    reference = values if reference is None else reference
    reference = np.asarray(reference, dtype=np.float64)
    keep = varies(reference)
    result = np.zeros(values.shape, dtype=np.float64)
    if keep.any():
        centre, scale = reference[:, keep].mean(axis=0), reference[:, keep].std(axis=0)
        result[:, keep] = (np.asarray(values, dtype=np.float64)[:, keep] - centre) / scale
    return result


def valid_entries(labels: Floats, label_mask: Mask | None) -> NDArray[np.bool_]:
    """Return the label mask as booleans; every entry counts where there is no mask.

    Parameters
    ----------
    labels
        (frame, label)
    label_mask
        (frame, label), 0 where the tracker lost the point; None where every entry is valid

    Returns
    -------
    NDArray
        (frame, label)
    """
    if label_mask is None:
        return np.ones(labels.shape, dtype=bool)
    return np.asarray(label_mask).astype(bool)
