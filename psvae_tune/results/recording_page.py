"""Build the HTML page of ``data check``: findings, frames with labels, traces, the lag curve."""

import base64
import html
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from psvae_tune.data.quality_findings import Finding
from psvae_tune.data.quality_measures import Measures
from psvae_tune.results.figures.style import BLUE, FONT_SIZE, GREY, new_figure, tidy, to_png

_COLUMNS = 4
_N_TRACES = 8
_N_TRACED = 500
_SHEET_WIDTH = 12.0  # inches
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem;
  padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
td { border-bottom: 1px solid #ddd; padding: .3rem .8rem .3rem 0; vertical-align: top; }
img { max-width: 100%; height: auto; }
.bad td:first-child { color: #b3261e; font-weight: 600; }
.look td:first-child { color: #8a5a00; font-weight: 600; }
.good td:first-child { color: #3a6b35; }
"""


def draw_contact_sheet(measures: Measures) -> bytes:
    """Draw evenly spaced frames of a session, each with its labels.

    Returns
    -------
    bytes
        A PNG file. Masked positions are not drawn.
    """
    frames = measures.sample.frames
    n_cameras = measures.n_cameras if frames.shape[1] % measures.n_cameras == 0 else 1
    tiles = np.concatenate(np.split(frames, n_cameras, axis=1), axis=3)
    n_rows = -(-len(tiles) // _COLUMNS)
    height, width = tiles.shape[2:]
    cell = _SHEET_WIDTH / _COLUMNS
    figure = new_figure(_SHEET_WIDTH, n_rows * (cell * height / width + 0.35) + 0.9)
    axes = figure.subplots(n_rows, _COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, tile, row in zip(axes, tiles, measures.sample.rows, strict=False):
        picture = tile.transpose(1, 2, 0) if tile.shape[0] == 3 else tile[0]
        top = 255 if tile.dtype == np.uint8 else 1.0
        axis.imshow(picture, cmap="gray", vmin=0, vmax=top)
        axis.set_title(f"frame {row}", fontsize=FONT_SIZE - 1)
        _draw_places(axis, measures, row)
    handles, names = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower center", ncols=6, fontsize=FONT_SIZE - 1)
    return to_png(figure)


def _draw_places(axis: Axes, measures: Measures, row: int) -> None:
    if measures.positions is None:
        return
    half = measures.header.n_labels // 2
    colours = colormaps["tab20"]
    for point in range(half):
        x, y = measures.positions[row, [point, point + half]]
        shift = measures.cameras[point] * measures.header.width
        name = measures.header.label_names[point].removesuffix("_x")
        is_valid = bool(measures.masks[row, point] and measures.masks[row, point + half])
        # Pixel i is drawn from i - 0.5 to i + 0.5, but positions count from the edge of pixel 0.
        axis.plot(
            x + shift - 0.5 if is_valid else np.nan,
            y - 0.5,
            ".",
            color=colours(point % 20),
            markersize=6 if half <= 16 else 4,
            markeredgecolor="white",
            markeredgewidth=0.4,
            label=name,
        )


def draw_traces(measures: Measures) -> bytes:
    """Draw the first labels over time, with gaps where they are masked, and the lag curve.

    Returns
    -------
    bytes
        A PNG file.
    """
    n_traces = min(_N_TRACES, measures.header.n_labels)
    figure = new_figure(_SHEET_WIDTH, 0.55 * n_traces + 1.2)
    grid = figure.add_gridspec(1, 2, width_ratios=(3, 1))
    traces, lag = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    rows = slice(0, min(_N_TRACED, measures.header.n_frames))
    for i in range(n_traces):
        mask = measures.masks[:, i]
        spread = np.ptp(measures.labels[mask, i]) if mask.any() else 1.0
        trace = (measures.labels[rows, i] - measures.labels[mask, i].min(initial=np.inf)) / (
            spread or 1.0
        )
        traces.plot(np.where(mask[rows], trace, np.nan) * 0.9 - i, color=BLUE, linewidth=0.9)
    for start in measures.clip_starts[measures.clip_starts < rows.stop]:
        traces.axvline(start, color=GREY, linewidth=0.3)
    traces.set_yticks(-np.arange(n_traces) + 0.45, measures.header.label_names[:n_traces])
    tidy(traces, "Labels; lines are the starts of clips", "frame")
    if measures.lag is not None:
        lag.plot(measures.lag.lags, measures.lag.r2, ".-", color=BLUE)
        lag.axvline(0, color=GREY, linewidth=0.6)
    tidy(lag, "Labels read from the frames", "labels shifted by, frames", "R²")
    return to_png(figure)


def build_session_page(sessions: Sequence[tuple[Measures, Sequence[Finding]]]) -> str:
    """Return one HTML page of all sessions, which refers to nothing outside it."""
    body = "".join(part for session in sessions for part in _describe(*session))
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Sessions</title><style>{_STYLE}</style><body>{body}</body></html>\n"
    )


def _describe(measures: Measures, findings: Sequence[Finding]) -> Iterator[str]:
    yield f"<h1>{html.escape(measures.header.path)}</h1><table>"
    for finding in findings:
        cells = (finding.level, finding.about, finding.text, finding.fix)
        row = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        yield f'<tr class="{finding.level}">{row}</tr>'
    yield "</table><h2>Frames</h2>"
    yield _image(draw_contact_sheet(measures), "Frames with their labels")
    if measures.header.n_labels:
        yield "<h2>Labels</h2>"
        yield _image(draw_traces(measures), "Labels over time, and how well they fit when shifted")


def _image(png: bytes, words: str) -> str:
    return f'<img alt="{words}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
