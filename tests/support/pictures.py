"""What a picture shows, asked of its pixels."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from psvae_tune.results.figures.style import to_png


def open_picture(content: bytes) -> np.ndarray:
    """Return the pixels of a file, (height, width, colour)."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def to_pixel(ink: str) -> tuple[int, ...]:
    """Return a colour of a figure as it is in a picture."""
    return tuple(round(255 * share) for share in to_rgb(ink))


def colour_at(figure: Figure, axes: Axes, x: float, y: float) -> tuple[int, ...]:
    """Return the colour that a figure has at a place of one of its panels."""
    picture = open_picture(to_png(figure))  # which lays the panels out
    column, row = axes.transData.transform((x, y))
    return tuple(int(v) for v in picture[picture.shape[0] - 1 - round(row), round(column)])
