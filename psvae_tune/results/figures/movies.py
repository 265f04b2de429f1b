"""Movies of traversals and reconstructions, as files that a browser plays."""

import io
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from psvae_tune.results.figures.images import (
    Pixels,
    encode_image,
    load_font,
    resize,
    sheet,
    to_colour,
    to_signed_tile,
    to_tile,
)
from psvae_tune.results.figures.traversals import Traversals

MovieFormat = Literal["mp4", "gif", "none"]

_CODECS = ("libx264", "libvpx-vp9")  # browsers play both; media players play the first
_TILE_HEIGHT = 128
_CAPTION_HEIGHT = 14
_FRAME_RATE = 15
MARK = (255, 120, 0)  # seen on black and on white


def encode_movie(pictures: Sequence[Pixels], movie_format: MovieFormat) -> bytes:
    """Return pictures as the bytes of a movie.

    Parameters
    ----------
    pictures
        (height, width, 3) each, all of one size.
    movie_format
        ``mp4`` or ``gif``.
    """
    if movie_format == "gif":
        first, *rest = (Image.fromarray(picture) for picture in pictures)
        buffer = io.BytesIO()
        first.save(
            buffer, "GIF", save_all=True, append_images=rest, duration=1000 // _FRAME_RATE, loop=0
        )
        return buffer.getvalue()
    buffer = io.BytesIO()
    height, width = pictures[0].shape[:2]
    with av.open(buffer, "w", "mp4") as container:
        stream: Any = container.add_stream(_codec(), rate=Fraction(_FRAME_RATE))
        # yuv420p stores a colour for 2 by 2 pixels, so both sides must be even.
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18", "preset": "superfast"}
        for picture in pictures:
            padded = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _codec() -> str:
    """Return the first codec that this build of FFmpeg has."""
    return next(name for name in _CODECS if name in av.codecs_available)


def traversal_pictures(traversals: Traversals) -> list[Pixels]:
    """Return the pictures of a movie that moves every latent up and down again, tile by tile.

    All latents but the tile's own stay as they are in the first base frame.
    """
    n_latents, n_values = traversals.values.shape
    n_columns = int(np.ceil(np.sqrt(n_latents)))
    there = [*range(n_values)]
    return [
        _captioned_sheet(
            [to_tile(traversals.frames[0, latent, value]) for latent in range(n_latents)],
            traversals.names,
            n_columns,
        )
        for value in [*there, *there[-2:0:-1]]
    ]


def reconstruction_pictures(
    frames: NDArray[Any], frames_hat: NDArray[np.float32], limit: float
) -> list[Pixels]:
    """Return a picture a frame: the original, its reconstruction and the residual.

    Parameters
    ----------
    frames, frames_hat
        (frame, channel, height, width) in [0, 1].
    limit
        The residual that is drawn in full colour.
    """
    names = ("original", "reconstruction", "residual")
    return [
        _captioned_sheet(
            [to_tile(frame), to_tile(frame_hat), to_signed_tile(frame - frame_hat, limit)],
            names,
            3,
        )
        for frame, frame_hat in zip(frames, frames_hat, strict=True)
    ]


def _captioned_sheet(tiles: Sequence[Pixels], names: Sequence[str], n_columns: int) -> Pixels:
    captioned = []
    for tile, name in zip(tiles, names, strict=True):
        picture = to_colour(resize(tile, _TILE_HEIGHT))
        captioned.append(np.concatenate([_caption(name, picture.shape[1]), picture]))
    return sheet([captioned[i : i + n_columns] for i in range(0, len(captioned), n_columns)])


@lru_cache  # every picture of a movie has the same captions
def _caption(name: str, width: int) -> Pixels:
    """Return a white strip with a name, (height, width, 3)."""
    page = Image.new("RGB", (width, _CAPTION_HEIGHT), "white")
    ImageDraw.Draw(page).text((2, 0), name, "black", load_font(_CAPTION_HEIGHT - 4))
    return np.asarray(page)


def encode_strip(traversals: Traversals, base: int, height: int) -> bytes:
    """Return the traversals of one base frame as a picture: a row a latent, a column a value.

    Predicted labels are drawn on them. The last column is the frame of the highest value less
    that of the lowest, blue below 0 and red above; the rows share a scale.
    """
    frames, differences = traversals.frames[base], traversals.differences()[base]
    points, limit = traversals.points, float(np.abs(differences).max())
    rows = []
    for latent, difference in enumerate(differences):
        tiles = [resize(to_tile(frame), height) for frame in frames[latent]]
        if points is not None:
            scale = height / frames.shape[-2]
            tiles = [
                _with_points(tile, place * scale)
                for tile, place in zip(tiles, points[base, latent], strict=True)
            ]
        rows.append([*tiles, resize(to_signed_tile(difference, limit), height)])
    return encode_image(sheet(rows))


def _with_points(tile: Pixels, points: NDArray[np.floating]) -> Pixels:
    """Return a tile with a cross at each place; ``points`` holds all x, then all y."""
    page = Image.fromarray(to_colour(tile))
    pen = ImageDraw.Draw(page)
    for x, y in points.reshape(2, -1).T:
        for dx, dy in ((2, 0), (0, 2)):
            pen.line((x - dx, y - dy, x + dx, y + dy), fill=MARK)
    return np.asarray(page)
