"""Read the frames of a video as arrays, cropped, resized and converted to grey or colour.

Frames are numbered in the order in which they are shown, whatever their time stamps say, because
trackers number them like that.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import av.error
import av.filter
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from psvae_tune.errors import DataError

# Relative difference from the usual step in time above which a step is uneven.
_UNEVEN = 0.5
# Degrees from a right angle below which the difference is rounding.
_MAX_SLANT = 1.0
# FFmpeg filters that turn a picture clockwise, by degrees.
_TURNS: dict[int, list[tuple[str, str]]] = {
    0: [],
    90: [("transpose", "clock")],
    180: [("hflip", ""), ("vflip", "")],
    270: [("transpose", "cclock")],
}


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
    """(frame,) in units of ``time_base``, ascending; None where the file holds none."""
    time_base: Fraction
    n_frames: int
    n_declared: int
    """Number of frames that the file declares; more than ``n_frames`` if it breaks off."""
    turn: int
    """Degrees by which stored frames are turned clockwise to be shown."""

    @property
    def whole(self) -> Crop:
        """The crop that keeps a whole frame."""
        return Crop(self.width, self.height, 0, 0)

    @property
    def times(self) -> NDArray[np.float64]:
        """(frame,), seconds since the first frame."""
        if self.stamps is None:
            return np.arange(self.n_frames) / self.fps
        return (self.stamps - self.stamps[0]) * float(self.time_base)

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
        with av.open(str(path)) as container:
            stream = _video_stream(container, path)
            packets = [packet for packet in container.demux(stream) if packet.size]
            stamps = [packet.pts for packet in packets if not packet.is_discard]
            n_missing = max(0, stream.frames - len(packets))
            rate = stream.average_rate or stream.guessed_rate
            width, height = stream.width, stream.height
            time_base = stream.time_base or Fraction(1, 1000)
        turn = _read_turn(path)
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
    is_stamped = len(known) == len(stamps) and len(set(known)) == len(known)
    shown = np.array(known, dtype=np.int64) if is_stamped else None
    # The median step, because the average that files declare counts dropped frames as slow ones.
    usual = float(np.median(np.diff(known)) * time_base) if is_stamped and len(known) > 1 else 0
    fps = 1 / usual if usual else float(rate or 30)
    n_frames = len(stamps)
    return VideoInfo(
        path, width, height, fps, shown, time_base, n_frames, n_frames + n_missing, turn
    )


def _read_turn(path: Path) -> int | None:
    """Return the degrees that a video is turned clockwise; None if it is not only turned.

    The rotation stands in the frames. The first ones may be damaged, and are skipped then.
    """
    with av.open(str(path)) as container:
        for packet in container.demux(_video_stream(container, path)):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                side_data: Any = frame.side_data  # its stubs call it texts
                matrix = side_data.get("DISPLAYMATRIX")
                return 0 if matrix is None else _angle(struct.unpack("=9i", bytes(matrix)))
    return 0


def _angle(matrix: tuple[int, ...]) -> int | None:
    """Return the clockwise right angle of a display matrix in degrees; None for other matrices."""
    a, b, _, c, d, *_ = matrix
    degrees = float(np.rad2deg(np.arctan2(b, a)))
    nearest = 90 * round(degrees / 90)
    is_only_turned = a * d - b * c > 0 and abs(degrees - nearest) < _MAX_SLANT
    return nearest % 360 if is_only_turned else None


def iterate_frames(info: VideoInfo, view: View, frames: range) -> Iterator[NDArray[np.uint8]]:
    """Yield frames of a video, each of shape (channel, height, width).

    Parameters
    ----------
    info
        The video.
    view
        Crop, size and colour of the frames.
    frames
        Numbers of the frames, ascending.

    Raises
    ------
    DataError
        If the video breaks off before the last of them.
    """
    if not frames:
        return
    wanted = iter(frames)
    due = next(wanted)
    try:
        with av.open(str(info.path)) as container:
            stream = _video_stream(container, info.path)
            stream.thread_type = "AUTO"
            graph = _Graph(stream, info, view)
            for number, frame in _decode_from(container, stream, info, due):
                if number < due:
                    continue
                if number > due:  # the decoder skipped a frame that it could not read
                    break
                yield graph.apply(frame)
                if number == frames[-1]:
                    return
                due = next(wanted)
    except av.error.FFmpegError as error:
        raise _broken(info, due, error) from error
    raise _broken(info, due, None)


class _Graph:
    """FFmpeg's filters for rotation, crop, size and colour, in one pass without a full copy."""

    def __init__(self, stream: VideoStream, info: VideoInfo, view: View) -> None:
        self._graph = av.filter.Graph()
        pixels = "rgb24" if view.is_colour else "gray"
        crop = view.crop
        steps = [("scale", f"{view.width}:{view.height}:flags=area"), ("format", pixels)]
        if crop != info.whole:
            # Colour is converted first, because a crop of coarsely stored colour rounds its edges.
            cut = f"{crop.width}:{crop.height}:{crop.x}:{crop.y}"
            steps = [("format", pixels), ("crop", cut), *steps]
        self._source = last = self._graph.add_buffer(template=stream)
        for name, arguments in [*_TURNS[info.turn], *steps]:
            step = self._graph.add(name, arguments)
            last.link_to(step)
            last = step
        self._sink = self._graph.add("buffersink")
        last.link_to(self._sink)
        self._graph.configure()

    def apply(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        self._source.push(frame)
        result = self._sink.pull()
        assert isinstance(result, av.VideoFrame)
        array = result.to_ndarray().astype(np.uint8, copy=False)
        return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _decode_from(
    container: av.container.InputContainer, stream: VideoStream, info: VideoInfo, start: int
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield numbered frames, from the last key frame at or before ``start``."""
    if info.stamps is None:
        yield from enumerate(container.decode(stream))
        return
    if start:
        container.seek(int(info.stamps[start]), stream=stream)
        first = next(container.decode(stream), None)
        is_past = first is None or first.pts is None or first.pts > info.stamps[start]
        if is_past:
            container.seek(int(info.stamps[0]), stream=stream)
        else:
            assert first is not None
            yield _number(info, first), first
    for frame in container.decode(stream):
        yield _number(info, frame), frame


def _number(info: VideoInfo, frame: av.VideoFrame) -> int:
    assert info.stamps is not None
    return int(np.searchsorted(info.stamps, frame.pts if frame.pts is not None else -1))


def _video_stream(container: av.container.InputContainer, path: Path) -> VideoStream:
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


def _broken(info: VideoInfo, n_read: int, error: av.error.FFmpegError | None) -> DataError:
    why = "" if error is None else f": {(error.strerror or str(error)).lower()}"
    problem = f"breaks off at frame {n_read} of {info.n_declared}{why}"
    return DataError(
        str(info.path), problem, f"copy it again, or import what is whole with --frames 0:{n_read}"
    )
