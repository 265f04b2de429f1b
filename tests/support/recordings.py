"""Videos and pose files that tests write: a bright square whose place is known."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 96, 64
SIDE = 8


def path_of_square(n_frames: int, seed: int = 0) -> np.ndarray:
    """Return the centre of the square, (frame, 2), in pixels: a smooth random walk."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((n_frames + 20, 2))
    smooth = np.stack([np.convolve(s, np.ones(9) / 9, mode="same") for s in steps.T], 1)[10:-10]
    half = np.array([WIDTH, HEIGHT]) / 2
    centred = smooth - smooth.mean(0)
    return half + (half - SIDE) * centred / abs(centred).max(0)


def draw(centres: np.ndarray) -> np.ndarray:
    """Return grey frames, (frame, height, width)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside = (abs(x - centres[:, 0, None, None]) < SIDE / 2) & (
        abs(y - centres[:, 1, None, None]) < SIDE / 2
    )
    return np.where(inside, 230, 30).astype(np.uint8)


def write_video(
    path: Path,
    frames: np.ndarray,
    *,
    fps: int = 30,
    stamps: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write grey frames as H.264, with time stamps of one's own where wanted."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.options = {"crf": "10", "g": "12"}
        stream.codec_context.time_base = stream.time_base = Fraction(1, fps * 10)
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="gray").reformat(format="yuv420p")
            frame.pts = 10 * (i if stamps is None else stamps[i])
            frame.time_base = Fraction(1, fps * 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path: Path, degrees: float) -> Path:
    """Have a video turned clockwise when it is shown, as phones do."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return show_as(path, cos, sin, -sin, cos)


def show_as(path: Path, *matrix: float) -> Path:
    """Write into the header of a video the matrix that its pictures are shown by."""
    content = bytearray(path.read_bytes())
    # A box of version 0: its name, 40 bytes of other things, then nine numbers.
    begin = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (round(2**16 * value) for value in matrix)
    content[begin : begin + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 2**30)
    path.write_bytes(content)
    return path


def write_csv(
    path: Path, centres: np.ndarray, likelihood: np.ndarray | None = None, name: str = "paw"
) -> Path:
    """Write a DeepLabCut CSV of one keypoint."""
    coords = ["x", "y"] if likelihood is None else ["x", "y", "likelihood"]
    columns = [centres] if likelihood is None else [centres, likelihood[:, None]]
    lines = [
        ",".join([level, *[word] * len(coords)])
        for level, word in (("scorer", "net"), ("bodyparts", name))
    ]
    lines.append(",".join(["coords", *coords]))
    for i, row in enumerate(np.concatenate(columns, axis=1)):
        cells = ["" if np.isnan(value) else f"{value:.4f}" for value in row]
        lines.append(",".join([str(i), *cells]))
    path.write_text("\n".join(lines) + "\n")
    return path


def set_value(name, index, value):
    def edit(file):
        file[name][index] = value

    return edit


def store_float_frames(value):
    def edit(file):
        for name in list(file["images"]):
            shape = file["images"][name].shape
            del file["images"][name]
            file["images"][name] = np.full(shape, 0.5)
        file["images/trial_0001"][2, 0, 1, 3] = value

    return edit
