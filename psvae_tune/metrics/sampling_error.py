"""Frames of clips, which are drawn whole."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Clips = NDArray[np.intp]


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
