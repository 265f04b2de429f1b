"""Read the frames of a video as arrays, cropped, resized and converted to grey or colour."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal

import av
import av.error
import av.filter
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from psvae_tune.data.video import VideoInfo, View, open_video, video_stream
from psvae_tune.errors import DataError

MAX_DAMAGED = 0.1
"""Share of damaged frames above which a video is refused."""
# FFmpeg filters that turn a picture clockwise, by degrees.
_TURNS: dict[int, list[tuple[str, str]]] = {
    0: [],
    90: [("transpose", "clock")],
    180: [("hflip", ""), ("vflip", "")],
    270: [("transpose", "cclock")],
}


def iterate_frames(
    info: VideoInfo, view: View, frames: range, damaged: list[int]
) -> Iterator[NDArray[np.uint8]]:
    """Yield frames of a video, each of shape (channel, height, width).

    In the place of a damaged frame stands the frame that was yielded before it, or else the next.

    Parameters
    ----------
    info
        The video.
    view
        Crop, size and colour of the frames.
    frames
        Numbers of the frames, ascending.
    damaged
        List to which the number of every damaged frame is added before that is yielded.

    Raises
    ------
    DataError
        If the video breaks off before the last of them, or too many are damaged.
    """
    if not frames:
        return
    wanted = iter(frames)
    due = next(wanted)
    n_damaged, picture = 0, None
    try:
        graph = _Graph(info, view)
        for number, frame in _decode(info, due):
            if number < due:
                continue
            found = graph.apply(frame)
            while due <= number:
                if due < number:
                    n_damaged += 1
                    if n_damaged > max(1, MAX_DAMAGED * len(frames)):
                        raise _too_damaged(info, due)
                    damaged.append(due)
                if due == number or picture is None:
                    picture = found
                yield picture
                if due == frames[-1]:
                    return
                due = next(wanted)
    except (av.error.FFmpegError, ValueError) as error:  # of FFmpeg, and of PyAV
        raise _broken(info, due, error) from error
    raise _broken(info, due, None)


class _Graph:
    """FFmpeg's filters for rotation, crop, size and colour, in one pass without a full copy."""

    def __init__(self, info: VideoInfo, view: View) -> None:
        self._graph = av.filter.Graph()
        pixels = "rgb24" if view.is_colour else "gray"
        crop = view.crop
        steps = [("scale", f"{view.width}:{view.height}:flags=area"), ("format", pixels)]
        if crop != info.whole:
            # Colour is converted first, because a crop of coarsely stored colour rounds its edges.
            cut = f"{crop.width}:{crop.height}:{crop.x}:{crop.y}"
            steps = [("format", pixels), ("crop", cut), *steps]
        with open_video(info.path) as container:
            template = video_stream(container, info.path)
            self._source = last = self._graph.add_buffer(template=template)
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


def _decode(info: VideoInfo, start: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield numbered frames, from the last key frame at or before ``start``."""
    try:
        for number, frame in _decode_from(info, start, "AUTO"):
            yield number, frame
            start = number + 1
    except av.error.InvalidDataError:
        if info.stamps is None:  # which frame comes next cannot be known
            raise
        # Decoding in several threads, frames beside the damaged one are lost as well.
        if start < info.n_frames:
            yield from _decode_from(info, start, "NONE")


def _decode_from(
    info: VideoInfo, start: int, threads: Literal["AUTO", "NONE"]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yield numbered frames; without threads, damaged ones are left out."""
    with open_video(info.path) as container:
        stream = video_stream(container, info.path)
        stream.thread_type = threads
        packets = _seek(container, stream, info, start) if start else container.demux(stream)
        if packets is not None:
            for i, frame in enumerate(_decode_packets(packets, threads)):
                yield (i if info.stamps is None else _number(info, frame)), frame
            return
    yield from _decode_from(info, 0, threads)


def _decode_packets(
    packets: Iterable[av.Packet], threads: Literal["AUTO", "NONE"]
) -> Iterator[av.VideoFrame]:
    for packet in packets:
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            if threads == "AUTO":
                raise
            continue
        for frame in frames:
            assert isinstance(frame, av.VideoFrame)
            yield frame


def _seek(
    container: InputContainer, stream: VideoStream, info: VideoInfo, start: int
) -> "Iterator[av.Packet[VideoStream]] | None":
    """Return the packets from a key frame at or before ``start`` on; None if there is no way.

    Frames behind a key frame that are shown before it cannot be decoded from it.
    """
    if info.stamps is None:
        return None
    try:
        container.seek(int(info.stamps[start]), stream=stream)
    except av.error.FFmpegError:  # this kind of file cannot be read from the middle
        return None
    packets = container.demux(stream)
    first = next(packets, None)
    if first is None or not first.is_keyframe or first.pts is None:
        return None
    return chain([first], packets) if first.pts <= info.stamps[start] else None


def _number(info: VideoInfo, frame: av.VideoFrame) -> int:
    assert info.stamps is not None
    if frame.pts is None:
        return -1
    return int(np.searchsorted(info.stamps, frame.pts, side="right")) - 1


def _broken(info: VideoInfo, n_read: int, error: Exception | None) -> DataError:
    why = "" if error is None else f": {getattr(error, 'strerror', None) or error}".lower()
    problem = f"breaks off at frame {n_read} of {info.n_declared}{why}"
    return DataError(
        str(info.path), problem, f"copy it again, or import what is whole with --frames 0:{n_read}"
    )


def _too_damaged(info: VideoInfo, number: int) -> DataError:
    problem = f"has too many damaged frames, of {info.n_frames}, when it comes to frame {number}"
    hint = f"copy it again, or import what is whole with --frames 0:{number}"
    return DataError(str(info.path), problem, hint)
