"""Estimate how far a metric would move if other clips had been recorded."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

N_RESAMPLES = 25
"""Number of resamples: they give the error of a normal mean to ± 1 / sqrt(2 · 24) = 14 %."""

Clips = NDArray[np.intp]


def error_key(metric: str) -> str:
    """Return the key of the sampling error of a metric."""
    return f"{metric}_error"


def sampling_errors(
    score: Callable[[Clips], Mapping[str, float | None]], n_clips: int, rng: np.random.Generator
) -> dict[str, float]:
    r"""Return the sampling error of metrics: their spread over bootstrap resamples of clips.

    .. math:: \sqrt{\frac{n}{n - 1} \cdot \frac{1}{B - 1} \sum_b (m_b - \bar m)^2}

    with :math:`m_b` the metric of :math:`n` clips drawn with replacement from the :math:`n` that
    there are. The first factor is that of the variance of a mean: resamples of few clips vary
    too little. Clips are drawn whole, because the frames of a clip resemble each other.

    Parameters
    ----------
    score
        Takes indices of clips, and returns their metrics; one that they lack is None or absent
    n_clips
        Number of clips
    rng
        Source of the resamples

    Returns
    -------
    dict
        Errors by the names of the metrics, in their units; without one that fewer than two
        resamples have, and empty for fewer than two clips

    References
    ----------
    Efron and Tibshirani (1993), An introduction to the bootstrap.
    """
    if n_clips < 2:
        return {}
    draws = [score(rng.integers(n_clips, size=n_clips)) for _ in range(N_RESAMPLES)]
    found = {}
    for name in dict.fromkeys(name for draw in draws for name in draw):
        values = [value for draw in draws if (value := draw.get(name)) is not None]
        if len(values) > 1:
            found[name] = float(np.std(values, ddof=1) * np.sqrt(n_clips / (n_clips - 1)))
    return found


def frames_of(clips: Sequence[int] | Clips, clip_lengths: Sequence[int]) -> NDArray[np.intp]:
    """Return the rows of the frames of clips, one clip after another.

    Parameters
    ----------
    clips
        Indices of clips, which may repeat
    clip_lengths
        Number of frames in each clip there is; their rows follow each other
    """
    ends = np.cumsum(clip_lengths)
    return np.concatenate([np.arange(ends[i] - clip_lengths[i], ends[i]) for i in clips])
