"""Hold the options of an import."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from psvae_tune.data.video import Crop
from psvae_tune.errors import ConfigError

T = TypeVar("T")


class FrameRange(NamedTuple):
    """Frames of a video by number: every ``step``-th from ``start`` to before ``stop``."""

    start: int = 0
    stop: int | None = None
    step: int = 1


ALL_FRAMES = FrameRange()


@dataclass(frozen=True, slots=True)
class Source:
    """The files and options of one camera."""

    video: Path
    poses: Path | None = None
    crop: Crop | None = None
    tracks: tuple[str, ...] = ()
    """Animals to take; empty where the pose file holds only one."""
    keypoints: tuple[str, ...] = ()
    """Keypoints to take; empty for all."""


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """The options of an import, as a user gives them."""

    sources: tuple[Source, ...]
    size: tuple[int, int] | None = None
    """Width and height of the stored frames; None for `LONG_SIDE` at the longer side."""
    is_colour: bool = False
    frames: FrameRange = ALL_FRAMES
    clip_length: int | None = None
    min_likelihood: float | None = None
    """Likelihood below which labels are masked; None for the usual one of the tracker."""
    label_offset: int | None = None
    """Row i of the pose files is frame i + offset; None if it is to be found out."""
    extra_labels: tuple[Path, ...] = ()


def make_request(
    videos: Sequence[Path],
    poses: Sequence[Path],
    *,
    crops: Sequence[Crop | tuple[int, int, int, int]] = (),
    tracks: Sequence[str] = (),
    keypoints: Sequence[Sequence[str]] = (),
    **same: Any,
) -> ImportRequest:
    """Give every video its pose file, its crop and its body parts.

    Parameters
    ----------
    videos, poses
        One pose file a video, in the same order; the last videos may have none.
    crops
        None, one for all videos, or one a video: width, height, x and y in pixels.
    tracks
        Animals to take from every pose file; empty for the only one.
    keypoints
        None, one list for all pose files, or one list a pose file.
    same
        Other attributes of `ImportRequest`.

    Raises
    ------
    ConfigError
        If there are too many of something.
    """
    if not videos:
        raise ConfigError("videos", "needs at least one, got none")
    if len(poses) > len(videos):
        raise ConfigError("--pose", f"must be given once a video, got {len(poses)}")
    boxes = _once_each("--crop", [Crop(*crop) for crop in crops], len(videos))
    chosen = _once_each("--keypoints", [tuple(names) for names in keypoints], max(1, len(poses)))
    sources = tuple(
        Source(
            video,
            poses[i] if i < len(poses) else None,
            boxes[i],
            tuple(tracks),
            (chosen[i] or ()) if i < len(poses) else (),
        )
        for i, video in enumerate(videos)
    )
    return ImportRequest(sources, **same)


def _once_each(option: str, values: list[T], count: int) -> Sequence[T | None]:
    if len(values) not in (0, 1, count):
        raise ConfigError(option, f"must be given once or {count} times, got {len(values)}")
    return values if len(values) == count else [*values, None][:1] * count
