"""Check the values of a recording, clip by clip."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def value_problems(
    clip_name: str, clip: Mapping[str, NDArray[Any]], label_names: Sequence[str]
) -> Iterator[str]:
    """Yield what is wrong with the values of one clip.

    Parameters
    ----------
    clip_name
        Its name, for messages.
    clip
        Array of each group: ``images``, ``labels``, ``labels_masks`` and ``labels_sc``.
    label_names
        Names of the columns of the labels.
    """
    frames = clip["images"]
    if frames.dtype != np.uint8:
        wrong = ~((frames >= 0) & (frames <= 1))
        if wrong.any():
            frame = int(wrong.any((1, 2, 3)).argmax())
            value = frames[frame][wrong[frame]][0]
            yield (
                f"clip `{clip_name}` must have pixels in [0, 1] or be uint8, "
                f"got {value:g} in frame {frame}"
            )
    for name in ("labels", "labels_sc"):
        if name not in clip:
            continue
        missing = clip["labels_masks"] & ~np.isfinite(clip[name])
        for label in np.flatnonzero(missing.any(0)).tolist():
            frame = int(missing[:, label].argmax())
            yield (
                f"clip `{clip_name}` must have `{label_names[label]}` in `{name}` or 0 in "
                f"`labels_masks`, got {clip[name][frame, label]:g} in frame {frame}"
            )
