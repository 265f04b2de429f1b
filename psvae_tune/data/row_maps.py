"""Find out which row of a pose file belongs to which frame, by when both change.

An animal that moves changes the frames as it changes its labels. How much they change is
compared by rank, so that neither the way in which labels stand in the frames nor a slow drift
matters. Two unrelated recordings may agree by chance, the more so the shorter and the smoother
they are; how well is seen from the same labels, shifted in time and reversed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.autocorrelation import autocorrelation, memory_of

MIN_AGREEMENT = 0.2
"""Rank correlation below which frames and labels do not agree."""
MARGIN = 0.1
"""Difference in rank correlation from which one is better than another, or than chance."""
MIN_STRETCHES = 20
"""Stretches of independent changes below which agreement may be chance."""
# Share of its lead that an assumption may lose to another one for some time.
_MAX_SETBACK = 0.15
# The same where few rows are missing, and the share of rows that are few.
_MAX_SETBACK_OF_FEW, _FEW = 0.06, 0.1
# Setbacks of the usual size that chance may add up to.
_N_SETBACKS = 3


@dataclass(frozen=True, slots=True)
class RowMap:
    """An assumption about which row of a pose file belongs to which frame of a video."""

    words: str
    """The assumption in words, for messages."""
    rows: tuple[int, ...]
    """Row of each frame; -1 for none."""


def possible_maps(n_rows: int, n_frames: int) -> list[RowMap]:
    """Return the assumptions to compare where a pose file and a video differ in length."""
    frames = range(n_frames)
    maps = [
        RowMap("row i is frame i", _within(frames, n_rows)),
        RowMap(
            "the last row is the last frame",
            _within([i + n_rows - n_frames for i in frames], n_rows),
        ),
    ]
    ratio = max(n_rows, n_frames) / min(n_rows, n_frames)
    if round(ratio) >= 2 and abs(ratio - round(ratio)) * min(n_rows, n_frames) <= round(ratio):
        step = round(ratio)
        if n_rows > n_frames:
            words, rows = f"row {step}·i is frame i", [i * step for i in frames]
        else:
            words = f"row i is frame {step}·i"
            rows = [i // step if i % step == 0 else -1 for i in frames]
        maps.append(RowMap(words, _within(rows, n_rows)))
    return maps


def _within(rows: Iterable[int], n_rows: int) -> tuple[int, ...]:
    return tuple(row if 0 <= row < n_rows else -1 for row in rows)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well the changes of labels agree with those of frames."""

    score: float
    """Rank correlation of the two."""
    chance: float
    """Highest rank correlation where the labels are shifted in time, or reversed."""
    lag: int
    """Number of frames that the labels come too late by, where they agree best."""
    n_stretches: float
    """Number of stretches of frames whose changes are independent of each other."""

    @property
    def is_sure(self) -> bool:
        """Whether they agree better than by chance, and than with any lag."""
        is_better = self.score > max(MIN_AGREEMENT, self.chance + MARGIN)
        return is_better and self.lag == 0 and self.n_stretches >= MIN_STRETCHES

    def __str__(self) -> str:
        lag = f" ({self.lag:+d} frames fit best)" if self.lag else ""
        return f"r {self.score:.2f}{lag}, by chance up to {self.chance:.2f}"


def choose_map(
    maps: Sequence[RowMap],
    features: NDArray[np.float32],
    frames: Sequence[int],
    labels: NDArray[np.floating],
    masks: NDArray[np.bool_],
) -> tuple[RowMap | None, list[Agreement]]:
    """Return the map that fits the frames surely and everywhere best, if one does.

    Parameters
    ----------
    maps
        The assumptions to compare.
    features, frames
        (frame, feature) of some frames of the video, and their numbers.
    labels, masks
        (row, label) of the pose file.

    Returns
    -------
    tuple
        The map, or None, and the agreement under each.
    """
    found, products = [], []
    labels = labels / np.maximum(_spread(labels, masks), 1e-9)
    for item in maps:
        rows = np.array(item.rows)[list(frames)]
        kept = np.flatnonzero(rows >= 0)
        changes = np.full((2, len(rows)), np.nan)
        if len(kept) > 1:
            changes[0, kept[1:]] = _rank_changes(features[kept], np.ones((len(kept), 1), bool))
            changes[1, kept[1:]] = _rank_changes(labels[rows[kept]], masks[rows[kept]])
        found.append(compare(*changes[:, kept]))
        products.append(changes[0] * changes[1])
    best = int(np.argmax([item.score for item in found]))
    memory = np.isfinite(products[best]).sum() / max(found[best].n_stretches, 1)
    # A few rows may be missing anywhere, also near an end; many are missing at one.
    are_few = abs(len(labels) - len(maps[0].rows)) <= _FEW * len(labels)
    limit = _MAX_SETBACK_OF_FEW if are_few else _MAX_SETBACK
    is_everywhere = all(
        _is_ahead(products[best] - other, memory, limit)
        for i, other in enumerate(products)
        if i != best
    )
    is_clear = found[best].is_sure and is_everywhere
    return (maps[best] if is_clear else None), found


def _is_ahead(gains: NDArray[np.float64], memory: float, limit: float) -> bool:
    r"""Return whether one assumption gains on another one from the beginning to the end.

    Where rows are missing in the middle, one is right before and another one behind. The lead of
    the better one then falls back. By chance, a walk of mean gain :math:`\mu`, variance
    :math:`\sigma^2` and memory :math:`m` falls back by a few times :math:`m \sigma^2 / \mu`.

    Parameters
    ----------
    gains
        (change,), agreement under one assumption less that under the other; nan where unknown.
    memory
        Number of changes after which they are independent.
    limit
        Share of its lead that it may lose for some time.
    """
    gains = gains[np.isfinite(gains)]
    if not gains.size:
        return True
    lead = np.cumsum(gains)
    setback = (np.maximum.accumulate(np.maximum(lead, 0)) - lead).max()
    usual = memory * gains.var() / max(gains.mean(), 1e-9)
    return bool(lead[-1] > 0 and setback < min(limit * lead[-1], _N_SETBACKS * usual))


def compare(seen: NDArray[np.float64], told: NDArray[np.float64]) -> Agreement:
    """Compare two series of ranks with each other, and with the second one moved and reversed.

    Parameters
    ----------
    seen, told
        (change,), ranks of the changes of frames and of labels; nan where unknown.
    """
    both = np.isfinite(seen) & np.isfinite(told)
    if both.sum() < MIN_STRETCHES:
        return Agreement(0, 1, 0, 0)
    memory = max(
        memory_of(autocorrelation(np.nan_to_num(series), both, len(series) // 2))
        for series in (seen, told)
    )
    shifted = _correlate_shifted(seen, told)
    shifts = np.arange(len(seen))
    far = np.minimum(shifts, len(seen) - shifts) >= 2 * memory
    chance = max(shifted[far].max(initial=0), _correlate_shifted(seen, told[::-1]).max())
    lag = int(np.where(far, -1, shifted).argmax())
    lag -= len(seen) * (lag > len(seen) // 2)
    return Agreement(float(shifted[0]), float(chance), lag, both.sum() / memory)


def _spread(labels: NDArray[np.floating], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the standard deviation of the valid values of each label, so that all count alike."""
    n_valid = np.maximum(masks.sum(0), 1)
    centred = np.where(masks, labels - np.where(masks, labels, 0).sum(0) / n_valid, 0)
    return np.sqrt((centred**2).sum(0) / n_valid)


def _rank_changes(values: NDArray[np.floating], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return ranks, from -1 to 1, of how much values change from each frame to the next.

    Parameters
    ----------
    values
        (frame, value)
    masks
        (frame, value) or (frame, 1), where a value is valid

    Returns
    -------
    NDArray
        (frame - 1,); nan where no value is valid
    """
    from scipy.stats import rankdata

    valid = np.broadcast_to(masks[1:] & masks[:-1], values[1:].shape)
    n_valid = valid.sum(1)
    change = np.where(valid, abs(np.diff(values, axis=0)), 0).sum(1) / np.maximum(n_valid, 1)
    ranks = np.full(len(change), np.nan)
    known = n_valid > 0
    ranks[known] = 2 * rankdata(change[known]) / (known.sum() + 1) - 1
    return ranks


def _correlate_shifted(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Return the correlation of ranks around 0 for every shift of ``b`` in a circle.

    .. math:: r_k = \sum_t a_t b_{t+k} / \sqrt{\sum_t a_t^2 v_{t+k} \sum_t u_t b_{t+k}^2}

    with :math:`u` and :math:`v` 1 where ``a`` and ``b`` are known, and 0 where they are nan.
    """
    (a, u), (b, v) = ((np.nan_to_num(x), np.isfinite(x).astype(float)) for x in (a, b))

    def sum_products(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.fft.irfft(np.conj(np.fft.rfft(x)) * np.fft.rfft(y), len(x))

    scale = np.sqrt(np.maximum(sum_products(a**2, v) * sum_products(u, b**2), 0))
    return sum_products(a, b) / np.maximum(scale, 1e-9)
