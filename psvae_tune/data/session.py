"""Hold a recording in memory: its arrays, their names, and the clips of each split."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.recorded_view import RecordedView

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class SessionHeader:
    """Names, shapes and types of a session, which are known without reading its frames."""

    path: str
    clip_names: tuple[str, ...]
    clip_lengths: tuple[int, ...]
    n_channels: int
    height: int
    width: int
    label_names: tuple[str, ...]
    """Names of the labels; empty where the file holds none."""
    has_label_masks: bool
    has_labels_sc: bool
    has_frame_masks: bool
    has_float_frames: bool = False
    """Whether pixels are float32 in [0, 1] rather than uint8."""
    views: tuple[RecordedView, ...] = ()
    """The part of each camera's video that the frames show; empty where the file does not say."""
    has_frame_index: bool = False
    has_times: bool = False

    @property
    def n_clips(self) -> int:
        """Number of clips."""
        return len(self.clip_names)

    @property
    def n_frames(self) -> int:
        """Number of frames in all clips together."""
        return sum(self.clip_lengths)

    @property
    def n_labels(self) -> int:
        """Number of labels; 0 where the file holds none."""
        return len(self.label_names)

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(channel, height, width)."""
        return self.n_channels, self.height, self.width

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame and its mask in memory."""
        pixel = (4 if self.has_float_frames else 1) + self.has_frame_masks
        return math.prod(self.frame_shape) * pixel


class Frames(Protocol):
    """Frames or their masks: an array, or `StoredFrames`, which are read when indexed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(frame, channel, height, width)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Session:
    """One recording: the clips of a session, one after another.

    Arrays may be read-only views of memory that other processes share. Frames and masks that do
    not fit into memory are read from the file, clip by clip.
    """

    header: SessionHeader
    frames: Frames
    """(frame, channel, height, width); uint8, or float32 in [0, 1]."""
    labels: NDArray[np.float32] | None
    """(frame, label) in the user's units; 0 where masked."""
    label_masks: NDArray[np.bool_] | None
    """(frame, label); False where the tracker lost the point. Present whenever labels are."""
    labels_sc: NDArray[np.float32] | None
    """(frame, label) in pixels of the stored frame: all x, then all y."""
    frame_masks: Frames | None
    """(frame, channel, height, width); False where a pixel does not count."""
    digest: str
    """SHA-256 of what models see, independent of how the file stores it."""
    frame_index: NDArray[np.int64] | None = None
    """(frame,): index of each frame in the video, from 0; None where the file does not say."""
    time_s: NDArray[np.float64] | None = None
    """(frame,): seconds by the time stamps of the video; None where the file does not say."""

    def clip(self, index: int) -> slice:
        """Return the frames of clip ``index`` as a slice of the first axis of every array."""
        start = sum(self.header.clip_lengths[:index])
        return slice(start, start + self.header.clip_lengths[index])


@dataclass(frozen=True, slots=True)
class Splits:
    """Indices of the clips of one session in each split, ascending and disjoint."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]

    def __getitem__(self, name: SplitName) -> tuple[int, ...]:
        return {"train": self.train, "val": self.val, "test": self.test}[name]
