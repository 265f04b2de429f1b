"""Turns frames into pictures, sets pictures out on a sheet and encodes them as files."""

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFont

Pixels = NDArray[np.uint8]
COMPARISON = "comparison"
"""Folder among a trial's artifacts with the traversals that the report compares."""
_GAP = 2  # pixels between tiles
_WHITE = 255


def to_tile(frame: NDArray[Any]) -> Pixels:
    """Return a frame as one grey picture.

    Parameters
    ----------
    frame
        (channel, height, width); uint8, or floats in [0, 1]. Channels are camera views, so they
        stand side by side.

    Returns
    -------
    NDArray
        (height, channel * width)
    """
    wide = np.concatenate(list(frame), axis=1)
    if wide.dtype == np.uint8:
        return wide
    return np.rint(255 * wide.clip(0, 1)).astype(np.uint8)


def to_signed_tile(difference: NDArray[Any], limit: float) -> Pixels:
    """Return a difference of frames as a colour picture: blue below 0, white at 0, red above.

    Parameters
    ----------
    difference
        (channel, height, width)
    limit
        The difference that is drawn in full colour.

    Returns
    -------
    NDArray
        (height, channel * width, 3)
    """
    wide = np.concatenate(list(difference), axis=1)
    share = np.clip(wide / max(limit, 1e-9), -1, 1)[..., None]
    full = np.where(share > 0, [178.0, 24.0, 43.0], [33.0, 102.0, 172.0])
    return np.rint(_WHITE + (full - _WHITE) * np.abs(share)).astype(np.uint8)


def to_colour(tile: Pixels) -> Pixels:
    """Return a grey or a colour picture as (height, width, 3)."""
    return tile if tile.ndim == 3 else np.repeat(tile[..., None], 3, axis=2)


def resize(tile: Pixels, height: int) -> Pixels:
    """Return a picture with another height and the same proportions."""
    if tile.shape[0] == height:
        return tile
    width = max(1, round(tile.shape[1] * height / tile.shape[0]))
    shrinks = height < tile.shape[0]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(tile).resize((width, height), method))


def sheet(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    """Return tiles of one size, grey or colour, laid out in rows and columns.

    Returns
    -------
    NDArray
        (height, width, 3); `tile_corner` says where a tile is.
    """
    height, width = rows[0][0].shape[:2]
    n_columns = max(len(row) for row in rows)
    size = (len(rows) * (height + _GAP) - _GAP, n_columns * (width + _GAP) - _GAP, 3)
    page = np.full(size, _WHITE, np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            y, x = tile_corner(i, j, height, width)
            page[y : y + height, x : x + width] = to_colour(tile)
    return page


def tile_corner(row: int, column: int, height: int, width: int) -> tuple[int, int]:
    """Return (y, x) of the first pixel of a tile on a `sheet` of tiles of this size."""
    return row * (height + _GAP), column * (width + _GAP)


def tile_shares(sheet_width: int, n_columns: int) -> tuple[float, float]:
    """Return the width of a tile, and how far the next one is, as shares of a sheet's width."""
    distance = (sheet_width + _GAP) / n_columns
    return (distance - _GAP) / sheet_width, distance / sheet_width


@lru_cache
def load_font(height: int) -> ImageFont.FreeTypeFont:
    """Return the font of Matplotlib's figures with a height in pixels."""
    return ImageFont.truetype(
        Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), height
    )


def encode_image(pixels: Pixels, file_format: str = "PNG", **options: Any) -> bytes:
    """Return a picture as the bytes of a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()
