"""The common look of figures: few colours that differ in grey as well, and thin axes.

Figures leave the global state of Matplotlib alone.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from psvae_tune.results.figures.images import encode_image

# The colours of Okabe and Ito. Readers who confuse red and green can tell them apart.
BLUE, ORANGE, GREEN, PURPLE, SKY, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#8a8a8a",
)
INKS = (BLUE, ORANGE, GREEN, PURPLE, SKY, "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", "-.", ":")
DPI = 110
FONT_SIZE = 9


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def to_png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file.

    Texts are drawn as they are, because a `$` in the name of a label starts no formula.
    """
    powers = {
        text
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        if axis.get_scale() == "log"
        for text in axis.get_ticklabels(which="both")
    }
    for text in figure.findobj(Text):
        if text not in powers:
            text.set_parse_math(False)
    canvas = FigureCanvasAgg(figure)
    # Saving the figure would draw it twice.
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return encode_image(pixels[..., :3])


def tidy(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Label axes, and hide the spines that carry no data."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=FONT_SIZE - 1, which="both")
    axes.set_title(title, fontsize=FONT_SIZE + 1, loc="left")
    axes.set_xlabel(x, fontsize=FONT_SIZE)
    axes.set_ylabel(y, fontsize=FONT_SIZE)


def spans_decades(values: Iterable[Any]) -> bool:
    """Return whether positive values span a factor of ten, so that a log axis suits them."""
    numbers = [float(value) for value in values]
    return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) >= 10
