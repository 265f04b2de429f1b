"""What a user asks an import for."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from psvae_tune.data.video import Crop


class FrameRange(NamedTuple):
    """Frames of a video by number: every ``step``-th from ``start`` to before ``stop``."""

    start: int = 0
    stop: int | None = None
    step: int = 1


ALL_FRAMES = FrameRange()


@dataclass(frozen=True, slots=True)
class Source:
    """One camera: its video, and what was tracked in it."""

    video: Path
    poses: Path | None = None
    crop: Crop | None = None
    tracks: tuple[str, ...] = ()
    """Empty: the only one."""
    keypoints: tuple[str, ...] = ()
    """Empty: all."""


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What a user asks for."""

    sources: tuple[Source, ...]
    size: tuple[int, int] | None = None
    """Width and height of the stored frames; None: `LONG_SIDE` at the longer side."""
    is_colour: bool = False
    frames: FrameRange = ALL_FRAMES
    clip_length: int | None = None
    min_likelihood: float | None = None
    """Labels below are masked; None: as is usual for the tracker."""
    label_offset: int | None = None
    """Row i of the pose files is frame i + offset; None: found out."""
    extra_labels: tuple[Path, ...] = ()
