"""Hold where each frame of a recording comes from, which every row of an output says."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.session import Session
from psvae_tune.data.video import VideoInfo

OF_VIDEO, OF_RECORDING = "frame of the video, from 0", "frame of the recording, from 0"
"""What ``frame_index`` counts: of a recording where its file does not name the video's frames."""
SECONDS = "seconds of the video's time stamps"


@dataclass(frozen=True, slots=True, eq=False)
class FrameRows:
    """Session, clip, index and time of every frame of a recording."""

    session: str
    """Name of the session."""
    clip_names: tuple[str, ...]
    clip_lengths: tuple[int, ...]
    frame_index: NDArray[np.int64]
    """(frame,)."""
    time_s: NDArray[np.float64] | None
    """(frame,): seconds by the time stamps of the video; None where they are not known."""
    index_unit: str
    """`OF_VIDEO` or `OF_RECORDING`."""

    def clips(self) -> Iterator[tuple[str, slice]]:
        """Yield every clip with its frames."""
        start = 0
        for name, length in zip(self.clip_names, self.clip_lengths, strict=True):
            yield name, slice(start, start + length)
            start += length

    @property
    def clip_of_frames(self) -> NDArray[np.str_]:
        """(frame,): name of the clip."""
        return np.repeat(np.array(self.clip_names), self.clip_lengths)


def rows_of_session(session: Session, name: str) -> FrameRows:
    """Return the rows of a session; its frames are counted where its file does not name them."""
    header = session.header
    index, unit = session.frame_index, OF_VIDEO
    if index is None:
        index, unit = np.arange(header.n_frames), OF_RECORDING
    return FrameRows(name, header.clip_names, header.clip_lengths, index, session.time_s, unit)


def rows_of_video(info: VideoInfo) -> FrameRows:
    """Return the rows of a video, which is one clip."""
    index = np.arange(info.n_frames)
    clips = ("trial_0000",), (info.n_frames,)
    return FrameRows(info.path.stem, *clips, index, info.time_s, OF_VIDEO)


def rows_of_frames(n_frames: int) -> FrameRows:
    """Return the rows of frames of which nothing is known."""
    clips = ("trial_0000",), (n_frames,)
    return FrameRows("frames", *clips, np.arange(n_frames), None, OF_RECORDING)


def name_sessions(paths: Sequence[str]) -> tuple[str, ...]:
    """Return a name for each recording: of its path without suffix, the fewest last parts.

    There are as many parts as make all names differ. A path that is listed twice gets its number.
    """
    parts = [PurePosixPath(path.replace("\\", "/")).with_suffix("").parts for path in paths]
    most = max(map(len, parts), default=1)
    for n_last in range(1, most + 1):
        names = tuple("/".join(item[-n_last:]) for item in parts)
        if max(Counter(names).values()) == 1:
            return names
    return tuple(f"{i}_{item[-1]}" for i, item in enumerate(parts))
