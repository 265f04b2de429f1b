"""Find out whether labels lag behind the frames.

Lags are compared by the R² of labels that ridge regression predicts from the frames, fitted on one
half of the clips and scored on the other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.label_prediction import leak_r2, predict_by_ridge

SIDE = 16
"""Height and width, in cells, that frames are reduced to before the regression."""
MAX_LAG = 10
"""Number of frames that labels are shifted by to either side."""
_N_COMPONENTS = 32
# Difference in R² below which no assumption counts as better than another.
_MIN_DIFFERENCE = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class LagCurve:
    """Fit of the labels to the frames, for each number of frames that they are shifted by."""

    lags: tuple[int, ...]
    """Numbers of frames that the labels come too late by; negative ones are too early."""
    r2: tuple[float, ...]
    """R² of the labels that are predicted from the frames, for each lag."""

    @property
    def best(self) -> int:
        """The lag of the best fit."""
        return self.lags[int(np.argmax(self.r2))]

    @property
    def is_clear(self) -> bool:
        """Whether the fit has a peak that is clearly better than the fit without a lag."""
        at_zero = self.r2[self.lags.index(0)]
        if self.best in (self.lags[0], self.lags[-1]):
            return False  # the fit still rises, as for labels that hardly move
        return max(self.r2) > max(0.2, at_zero + _MIN_DIFFERENCE * (1 - at_zero))


def reduce_frames(frames: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Reduce frames of shape (frame, channel, height, width) to a few averages each.

    Returns
    -------
    NDArray
        (frame, feature): the means of a grid of at most `SIDE` by `SIDE` cells a channel.
    """
    rows = _cell_starts(frames.shape[2])
    columns = _cell_starts(frames.shape[3])
    sums = np.add.reduceat(frames, rows, axis=2, dtype=np.float32)
    sums = np.add.reduceat(sums, columns, axis=3)
    area = np.diff([*rows, frames.shape[2]])[:, None] * np.diff([*columns, frames.shape[3]])
    return (sums / area).reshape(len(frames), -1)


def _cell_starts(size: int) -> NDArray[np.intp]:
    return np.linspace(0, size, min(SIDE, size), endpoint=False).astype(np.intp)


def measure_lag(
    features: Sequence[NDArray[np.float32]],
    labels: Sequence[NDArray[np.floating]],
    masks: Sequence[NDArray[np.bool_]],
    lags: Iterable[int] = range(-MAX_LAG, MAX_LAG + 1),
) -> LagCurve:
    """Predict the labels from the frames for each lag, fitted and scored on alternate clips.

    Parameters
    ----------
    features
        (frame, feature) of each clip, from `reduce_frames`.
    labels, masks
        (frame, label) of each clip.
    lags
        Lags to try. All are tried on the same frames, so that their fits can be compared.
    """
    lags = tuple(lag for lag in lags if all(len(f) > 2 * abs(lag) for f in features)) or (0,)
    projected = _project(features)
    reach = max(map(abs, lags))
    scores = []
    for lag in lags:
        parts: list[list[NDArray[Any]]] = [[], [], [], [], [], []]
        for i, (z, y, m) in enumerate(zip(projected, labels, masks, strict=True)):
            kept = slice(reach, len(z) - reach)
            shifted = slice(reach + lag, len(z) - reach + lag)
            for part, array in zip(
                parts[i % 2 :: 2], (z[kept], y[shifted], m[shifted]), strict=True
            ):
                part.append(array)
        z0, z1, y0, y1, m0, m1 = (np.concatenate(part) for part in parts)
        scores.append(leak_r2(y1, predict_by_ridge(z0, y0, z1, m0), m1) or 0.0)
    return LagCurve(lags, tuple(scores))


def _project(features: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float64]]:
    """Return the leading principal components of all clips together."""
    together = np.concatenate(features).astype(np.float64)
    centre = together.mean(0)
    _, axes = np.linalg.eigh(np.cov((together - centre).T))
    return [(clip - centre) @ axes[:, -_N_COMPONENTS:] for clip in features]
