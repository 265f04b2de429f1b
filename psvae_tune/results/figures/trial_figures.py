"""The figures of one trial."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from psvae_tune.results.figures.images import (
    Pixels,
    encode_image,
    load_font,
    resize,
    sheet,
    tile_corner,
    to_signed_tile,
    to_tile,
)
from psvae_tune.results.figures.style import (
    BLUE,
    FONT_SIZE,
    GREY,
    ORANGE,
    new_figure,
    tidy,
)
from psvae_tune.results.figures.traversals import Traversals

History = Mapping[str, Sequence[tuple[int, float]]]
"""(epoch, value) pairs by the name of a metric with its split."""

_MAX_FRAMES_SHOWN = 300
_MAX_SHEET_HEIGHT = 1500  # pixels
_MAX_TILE_HEIGHT = 96
_TEXT_HEIGHT = 13  # pixels
_MARGIN = 5  # pixels
_POINT_RADIUS = 4  # pixels


@dataclass(frozen=True, slots=True)
class LabelTrace:
    """Labels over the frames of some clips, in the user's units."""

    names: tuple[str, ...]
    labels: NDArray[np.float32]
    """(frame, label), as tracked."""
    labels_hat: NDArray[np.float32]
    """(frame, label), as predicted."""
    masks: NDArray[np.bool_]
    """(frame, label); False where the tracker lost the point."""
    r2: Mapping[str, float]
    """R² of the whole split by label; labels without an R² are absent."""
    clip_starts: tuple[int, ...]


def draw_curves(history: History, best_epoch: int, n_anneal_epochs: int) -> Figure:
    """Draw a panel a metric: its values on training and validation clips against the epoch."""
    names = sorted({key.partition("/")[2] for key in history if key[:4] in ("trai", "val/")})
    names.sort(key=lambda name: (name not in ("loss", "frame_mse", "label_r2"), name))
    n_columns = min(4, len(names))
    n_rows = -(-len(names) // n_columns)
    last_epoch = max(epoch for points in history.values() for epoch, _ in points)
    figure = _new_grid(3.0 * n_columns, 2.1 * n_rows + 0.5, wspace=0.28, hspace=0.5)
    for index, name in enumerate(names):
        axes = figure.add_subplot(n_rows, n_columns, index + 1)
        for split, ink, line in (("train", BLUE, "-"), ("val", ORANGE, "--")):
            if points := history.get(f"{split}/{name}"):
                epochs, values = np.array(points, float).T
                axes.plot(epochs, values, line, color=ink, linewidth=1.2, label=split)
        axes.axvline(best_epoch, color="black", linewidth=0.8, linestyle=":")
        if n_anneal_epochs:
            axes.axvspan(0, n_anneal_epochs, color=GREY, alpha=0.15, linewidth=0)
        # Most of the time of a figure goes into its ticks.
        axes.locator_params(nbins=4)
        if name.endswith("_mse"):
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            steps = (1,) if high > 100 * low else (1, 2, 5)
            axes.yaxis.set_major_locator(LogLocator(subs=steps, numticks=5))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        is_lowest = index >= len(names) - n_columns
        tidy(axes, name, "epoch" if is_lowest else "")
        axes.set_xlim(0, 1.03 * last_epoch)
        axes.xaxis.set_visible(is_lowest)
    shade = ", shaded: annealing" if n_anneal_epochs else ""
    figure.suptitle(
        f"solid: training, dashed: validation, dotted: best epoch ({best_epoch}){shade}",
        fontsize=FONT_SIZE,
    )
    return figure


def _new_grid(width: float, height: float, **spaces: float) -> Figure:
    """Return an empty figure of a size in inches, with room for the names of its panels."""
    figure = new_figure(width, height)
    # Every trial draws such a grid, and an automatic layout would take as long as the drawing.
    figure.set_layout_engine(None)
    figure.subplots_adjust(0.75 / width, 0.5 / height, 1 - 0.1 / width, 1 - 0.6 / height, **spaces)
    return figure


def draw_labels(trace: LabelTrace) -> Figure:
    """Draw a panel a label: its tracked and predicted values, and the frames without it."""
    n_labels = len(trace.names)
    n_columns = 1 if n_labels <= 8 else 2
    n_rows = -(-n_labels // n_columns)
    n_frames = min(len(trace.labels), _MAX_FRAMES_SHOWN)
    width = 9.0 if n_columns == 1 else 14.0
    figure = _new_grid(width, 1.1 + 1.15 * n_rows, wspace=0.13, hspace=0.4)
    for index, name in enumerate(trace.names):
        axes = figure.add_subplot(n_rows, n_columns, index + 1)
        mask = trace.masks[:n_frames, index]
        true = np.where(mask, trace.labels[:n_frames, index], np.nan)
        axes.plot(true, color="black", linewidth=1.4)
        axes.plot(trace.labels_hat[:n_frames, index], color=ORANGE, linewidth=1.1, linestyle="--")
        _shade_lost(axes, mask)
        for start in trace.clip_starts:
            if 0 < start < n_frames:
                axes.axvline(start, color=GREY, linewidth=0.6, linestyle=":")
        tidy(axes)
        axes.set_xlim(0, max(n_frames - 1, 1))
        r2 = trace.r2.get(name)
        text = f"{name}   R² {r2:.3f}" if r2 is not None else f"{name}   no R²"
        axes.set_title(text, fontsize=FONT_SIZE, loc="left", pad=2)
        axes.locator_params(axis="y", nbins=4)
        if index < n_labels - n_columns:
            axes.xaxis.set_visible(False)
        else:
            axes.set_xlabel("frame of the validation split", fontsize=FONT_SIZE)
    figure.suptitle(
        "solid: tracked, dashed: predicted, shaded: lost by the tracker, dotted: a new clip",
        fontsize=FONT_SIZE,
    )
    return figure


def _shade_lost(axes: Axes, mask: NDArray[np.bool_]) -> None:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~mask, [False]]).astype(int)))
    for first, last in edges.reshape(-1, 2):
        axes.axvspan(first - 0.5, last - 0.5, color=GREY, alpha=0.3, linewidth=0)


def draw_reconstructions(
    frames: NDArray[Any], frames_hat: NDArray[np.float32], titles: Sequence[str], frame_mse: float
) -> bytes:
    """Return a PNG with a column a frame: the original, its reconstruction and the residual.

    Parameters
    ----------
    frames, frames_hat
        (frame, channel, height, width) in [0, 1].
    titles
        Title of each column.
    frame_mse
        Mean squared error of the whole split.
    """
    residuals = frames - frames_hat
    limit = float(np.abs(residuals).max())
    rows = [
        [to_tile(frame) for frame in frames],
        [to_tile(frame) for frame in frames_hat],
        [to_signed_tile(residual, limit) for residual in residuals],
    ]
    tiles = [[resize(tile, 144) for tile in row] for row in rows]
    title = (
        f"validation frames, mean squared error of the split {frame_mse:.4g}; "
        f"residual = original - reconstruction, from -{limit:.2f} (blue) to {limit:.2f} (red)"
    )
    return _draw_sheet(tiles, ("original", "reconstruction", "residual"), titles, title)


def draw_traversals(traversals: Traversals) -> bytes:
    """Return a PNG with a row a latent, and for each base frame a column a value.

    The last column of a base frame shows the difference between its last and first value. If
    predicted labels are places in the frame, a ring marks the point of the traversed label.
    """
    n_bases, n_latents, n_values = traversals.frames.shape[:3]
    height = int(min(_MAX_TILE_HEIGHT, max(20, _MAX_SHEET_HEIGHT / n_latents)))
    differences = traversals.differences()
    limit = float(np.abs(differences).max())
    rows = []
    for latent in range(n_latents):
        row = []
        for base in range(n_bases):
            row += [resize(to_tile(f), height) for f in traversals.frames[base, latent]]
            row.append(resize(to_signed_tile(differences[base, latent], limit), height))
        rows.append(row)
    columns = ["low", *[""] * (n_values - 2), "high", "Δ"] * n_bases
    low, high = traversals.values[:, 0], traversals.values[:, -1]
    names = [
        f"{name}\n{a:.2g} to {b:.2g}" if height > 40 else name
        for name, a, b in zip(traversals.names, low, high, strict=True)
    ]
    places = ", ".join(f"frame {row} of session {session}" for session, row in traversals.places)
    title = (
        f"one latent moves between its 5th and 95th percentile, around {places}\n"
        f"Δ = last - first, from -{limit:.2f} (blue) to {limit:.2f} (red)"
    )
    width = rows[0][0].shape[1]
    return _draw_sheet(rows, names, columns, title, _label_points(traversals, height, width))


def _label_points(traversals: Traversals, height: int, width: int) -> list[tuple[float, float]]:
    """Return the place (x, y) on the sheet of the point of each traversed label."""
    if traversals.points is None:
        return []
    scale = height / traversals.base.shape[2]
    n_bases, _, n_values, n_labels = traversals.points.shape
    n_points, found = n_labels // 2, []
    one_view = traversals.base.shape[3] * scale
    for base in range(n_bases):
        for latent in range(traversals.n_supervised):
            for value in range(n_values):
                x = traversals.points[base, latent, value, latent % n_points] * scale
                y = traversals.points[base, latent, value, latent % n_points + n_points] * scale
                if 0 <= x < one_view and 0 <= y < height:
                    column = base * (n_values + 1) + value
                    top, left = tile_corner(latent, column, height, width)
                    found.append((left + x, top + y))
    return found


def _draw_sheet(
    tiles: Sequence[Sequence[Pixels]],
    row_names: Sequence[str],
    column_names: Sequence[str],
    title: str,
    points: Sequence[tuple[float, float]] = (),
) -> bytes:
    """Return a PNG with unscaled tiles and the names of their rows and columns."""
    page = Image.fromarray(sheet(tiles))
    height, width = tiles[0][0].shape[:2]
    font = load_font(_TEXT_HEIGHT)
    measure = ImageDraw.Draw(page)
    sizes = [measure.multiline_textbbox((0, 0), text, font) for text in (*row_names, title)]
    *widths, title_width = (math.ceil(right) for _, _, right, _ in sizes)
    left, top = max(widths) + 2 * _MARGIN, math.ceil(sizes[-1][3]) + _TEXT_HEIGHT + 3 * _MARGIN
    size = (
        left + max(page.width, title_width) + _MARGIN,
        top + page.height + _MARGIN,
    )
    canvas = Image.new("RGB", size, "white")
    canvas.paste(page, (left, top))
    pen = ImageDraw.Draw(canvas)
    pen.multiline_text((left, _MARGIN), title, "black", font)
    for i, name in enumerate(row_names):
        y = top + tile_corner(i, 0, height, width)[0] + height / 2
        pen.multiline_text((left - _MARGIN, y), name, "black", font, anchor="rm", align="right")
    for j, name in enumerate(column_names):
        if font.getlength(name) > width:
            continue
        x = left + tile_corner(0, j, height, width)[1] + width / 2
        pen.text((x, top - _MARGIN), name, "black", font, anchor="ms")
    for x, y in points:
        pen.circle((left + x, top + y), _POINT_RADIUS, outline=ORANGE, width=2)
    return encode_image(np.asarray(canvas))
