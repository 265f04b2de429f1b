"""Videos whose time stamps are anything, and what another reader says they are."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_stamped(path: Path, frames: np.ndarray, stamps_ms: Sequence[int]) -> Path:
    """Write grey frames as pictures of their own, one after another, whatever their stamps say."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuvj420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        packets = []
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="gray").reformat(format="yuvj420p")
            frame.pts, frame.time_base = 33 * i, Fraction(1, 1000)
            packets += stream.encode(frame)
        for i, packet in enumerate([*packets, *stream.encode()]):
            packet.dts, packet.pts = i, stamps_ms[i]
            container.mux(packet)
    return path


def read_times(path: Path) -> np.ndarray:
    """Return the time of every frame in seconds, as PyAV says it when all are decoded."""
    with av.open(str(path)) as container:
        return np.array([frame.time for frame in container.decode(video=0)])
