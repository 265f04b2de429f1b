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
        Array of each group: ``images``, ``labels``, ``labels_masks``, ``labels_sc``,
        ``frame_index`` and ``time_s``.
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
    for name in clip.keys() & {"frame_index", "time_s"}:
        yield from _origin_problems(clip_name, name, clip[name])
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


def _origin_problems(clip_name: str, name: str, values: NDArray[Any]) -> Iterator[str]:
    """Yield where the indices or the times of a clip are none, or do not ascend."""
    where = f"clip `{clip_name}` must have `{name}`"
    wrong = values < 0 if name == "frame_index" else ~np.isfinite(values)
    if wrong.any():
        frame = int(wrong.argmax())
        kind = "0 or more" if name == "frame_index" else "finite"
        yield f"{where} {kind}, got {values[frame]:g} in frame {frame}"
    elif (values[1:] <= values[:-1]).any():
        frame = int((values[1:] <= values[:-1]).argmax()) + 1
        got = f"{values[frame]:.12g} after {values[frame - 1]:.12g} in frame {frame}"
        yield f"{where} ascending, got {got}"
