"""Describe videos, and which part of them is stored.

Frames are numbered in the order in which they are shown, whatever their time stamps say, because
trackers number them like that.
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import av.filter
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.video.stream import VideoStream
from numpy.typing import NDArray

from psvae_tune.errors import DataError

# Relative difference from the usual step in time above which a step is uneven.
_UNEVEN = 0.5
# Degrees from a right angle below which the difference is rounding.
_MAX_SLANT = 1.0
# FFmpeg's kinds of side data that PyAV does not know, and fails at.
_UNKNOWN_KINDS = range(len(Type), 64)


class Crop(NamedTuple):
    """A rectangle of a video, in its pixels."""

    width: int
    height: int
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class View:
    """The part of a video that is stored, and the size and colour of the stored frames."""

    crop: Crop
    width: int
    height: int
    is_colour: bool = False

    @property
    def n_channels(self) -> int:
        """Number of channels: three for colour, else one."""
        return 3 if self.is_colour else 1

    @property
    def scale(self) -> tuple[float, float]:
        """Stored pixels for each pixel of the video, in x and in y."""
        return self.width / self.crop.width, self.height / self.crop.height


@dataclass(frozen=True, slots=True, eq=False)
class VideoInfo:
    """Properties of a video, for which only one frame is decoded."""

    path: Path
    width: int
    """Width of a frame as it is shown."""
    height: int
    """Height of a frame as it is shown."""
    fps: float
    """Frames per second, from the usual step in time."""
    stamps: NDArray[np.int64] | None
    """(frame,) in units of ``time_base``, ascending; None where the file holds no such ones."""
    time_base: Fraction
    n_frames: int
    n_declared: int
    """Number of frames that the file declares; more than ``n_frames`` if it breaks off."""
    turn: int
    """Degrees by which stored frames are turned clockwise to be shown."""
    n_before_key: int
    """Frames before the first key frame, which cannot be decoded; no tracker counts them."""
    stamp_problem: str = ""
    """Why ``stamps`` are None."""

    @property
    def whole(self) -> Crop:
        """The crop that keeps a whole frame."""
        return Crop(self.width, self.height, 0, 0)

    @property
    def time_s(self) -> NDArray[np.float64] | None:
        """(frame,), seconds as the time stamps of the container say; None where it has none."""
        if self.stamps is None:
            return None
        return self.stamps * self.time_base.numerator / self.time_base.denominator

    @property
    def times(self) -> NDArray[np.float64]:
        """(frame,), seconds since the first frame, at an even rate where there are no stamps."""
        if self.stamps is None:
            return np.arange(self.n_frames) / self.fps
        return (self.stamps - self.stamps[0]) * float(self.time_base)

    @property
    def steps(self) -> NDArray[np.int64]:
        """(frame,), the time of each frame in usual steps since the first."""
        return np.rint(self.times * self.fps).astype(np.int64)

    @property
    def n_uneven(self) -> int:
        """Number of steps in time that differ from the usual one by more than half of it."""
        steps = np.diff(self.times)
        return int((abs(steps * self.fps - 1) > _UNEVEN).sum())


def probe_video(path: Path) -> VideoInfo:
    """Count the frames of a video, and read their times and their rotation.

    Raises
    ------
    DataError
        If it is missing, is not a video, or is to be shown mirrored or at a slant.
    """
    if path.is_dir():
        raise DataError(str(path), "must be a video, got a folder")
    try:
        with open_video(path) as container:
            stream = video_stream(container, path)
            packets = [packet for packet in container.demux(stream) if packet.size]
            stamps = [packet.pts for packet in packets if not packet.is_discard]
            may_reorder = bool(stream.codec.reorder)
            n_missing = max(0, stream.frames - len(packets))
            notes_drops = container.format.name == "avi"
            rate = stream.average_rate or stream.guessed_rate
            width, height = stream.width, stream.height
            time_base = stream.time_base or Fraction(1, 1000)
        turn, first = _read_first(path)
    except FileNotFoundError:
        raise DataError(str(path), "no such file") from None
    except PermissionError:
        raise DataError(str(path), "no permission to read this file") from None
    except (av.error.FFmpegError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not stamps or not width or not height:
        raise DataError(str(path), "holds no frames")
    if turn is None:
        hint = "turn its pictures: ffmpeg -i VIDEO -c:v libx264 -crf 15 OUTPUT.mp4"
        raise DataError(str(path), "asks to be mirrored, or not turned by a right angle", hint)
    if turn % 180:
        width, height = height, width
    known = sorted(stamp for stamp in stamps if stamp is not None)
    n_before_key = 0
    if first is not None and not packets[0].is_keyframe and len(known) == len(stamps):
        n_before_key = sum(stamp < first for stamp in known)
        known = known[n_before_key:]
    n_frames = len(stamps) - n_before_key
    problem = _stamp_problem(stamps, known, n_frames, may_reorder)
    is_stamped = not problem
    shown = np.array(known, dtype=np.int64) if is_stamped else None
    # The median step, because the average that files declare counts dropped frames as slow ones.
    usual = float(np.median(np.diff(known)) * time_base) if is_stamped and len(known) > 1 else 0
    fps = 1 / usual if usual else float(rate or 30)
    if notes_drops and usual:  # AVI declares frames that the camera dropped, as empty chunks
        n_steps = round((known[-1] - known[0]) * time_base / usual) + 1
        n_missing = max(0, n_missing - (n_steps - n_frames))
    return VideoInfo(
        path,
        width,
        height,
        fps,
        shown,
        time_base,
        n_frames,
        n_frames + n_missing,
        turn,
        n_before_key,
        problem,
    )


def _stamp_problem(
    stamps: Sequence[int | None], known: Sequence[int], n_frames: int, may_reorder: bool
) -> str:
    """Return why the time stamps of a video say nothing about its frames; empty if they do.

    Parameters
    ----------
    stamps
        Stamps of all packets, in the order of the file.
    known
        Those of the frames that count, ascending.
    n_frames
        Number of frames that count.
    may_reorder
        Whether frames may lie in the file in another order than they are shown in.
    """
    if len(known) < n_frames:
        return f"{n_frames - len(known)} of {n_frames} frames have no time stamp"
    if len(set(known)) < len(known):
        return f"{len(known) - len(set(known))} of {n_frames} time stamps repeat another"
    in_order = [stamp for stamp in stamps if stamp is not None]
    n_down = sum(later < earlier for earlier, later in pairwise(in_order))
    return "" if may_reorder or not n_down else f"its time stamps decrease {n_down} times"


def _read_first(path: Path) -> tuple[int | None, int | None]:
    """Return what the first frame that can be decoded says: how it is turned, and its stamp.

    Returns
    -------
    tuple
        The degrees that the video is turned clockwise, None if it is not only turned; and the
        stamp of the frame, None if it has none.
    """
    with open_video(path) as container:
        stream = video_stream(container, path)
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                side_data: Any = _strip(frame, stream).side_data  # its stubs call it texts
                matrix = side_data.get("DISPLAYMATRIX")
                turn = 0 if matrix is None else _angle(struct.unpack("=9i", bytes(matrix)))
                return turn, frame.pts
    return 0, None


def _strip(frame: av.VideoFrame, stream: VideoStream) -> av.VideoFrame:
    """Return a frame without the side data that PyAV does not know, such as EXIF of a camera."""
    graph = av.filter.Graph()
    last = source = graph.add_buffer(template=stream)
    for kind in _UNKNOWN_KINDS:
        step = graph.add("sidedata", f"mode=delete:type={kind}")
        last.link_to(step)
        last = step
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    source.push(frame)
    stripped = sink.pull()
    assert isinstance(stripped, av.VideoFrame)
    return stripped


def _angle(matrix: tuple[int, ...]) -> int | None:
    """Return the clockwise right angle of a display matrix in degrees; None for other matrices."""
    a, b, _, c, d, *_ = matrix
    degrees = float(np.rad2deg(np.arctan2(b, a)))
    nearest = 90 * round(degrees / 90)
    is_only_turned = a * d - b * c > 0 and abs(degrees - nearest) < _MAX_SLANT
    return nearest % 360 if is_only_turned else None


def open_video(path: Path) -> InputContainer:
    """Open a video by its absolute path, because FFmpeg takes ``12:30:00.mp4`` for a URL."""
    return av.open(os.path.abspath(path))


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the video stream of a container.

    Raises
    ------
    DataError
        If it has none, or one of an unknown codec.
    """
    if not container.streams.video:
        raise DataError(str(path), "holds no video")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        hint = "convert it: ffmpeg -i VIDEO -c:v libx264 -crf 15 OUTPUT.mp4"
        raise DataError(str(path), "is coded in a way that cannot be read here", hint)
    return stream


def _unreadable(path: Path, error: Exception) -> DataError:
    words = getattr(error, "strerror", None) or str(error)
    hint = "if other players show it: ffmpeg -i VIDEO -c:v libx264 -crf 15 OUTPUT.mp4"
    return DataError(str(path), f"cannot be read as a video: {words.lower()}", hint)
