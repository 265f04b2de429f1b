"""The figures of a whole study.

The file is long because each figure is laid out by hand; no figure depends on another.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from psvae_tune.config.metric_catalog import METRICS, sign
from psvae_tune.config.wording import name_trial
from psvae_tune.metrics.pareto import hypervolume
from psvae_tune.results.figures.style import (
    BLUE,
    FONT_SIZE,
    GREY,
    INKS,
    LINES,
    MARKERS,
    ORANGE,
    new_figure,
    spans_decades,
    tidy,
    to_png,
)
from psvae_tune.results.logged_study import without_seed
from psvae_tune.results.trial_record import TrialRecord

PANEL_METRICS = (
    "frame_mse",
    "label_mse",
    "label_r2",
    "latent_correlation",
    "icmi",
    "tc",
    "dwkl",
    "triplet",
    "session_accuracy_u",
    "session_accuracy_b",
)

_MAX_NAMES = 12  # more on a front would cover each other


def draw_panels(
    trials: Sequence[TrialRecord], parameter: str, varied: Sequence[str]
) -> bytes | None:
    """Return a PNG with a panel a metric against one hyperparameter; None if it never varies.

    Trials that differ in nothing else, seeds apart, are one line: a point a trial, its mean, and
    the standard deviation over seeds as a bar.
    """
    trials = [trial for trial in trials if parameter in trial.params]
    metrics = [name for name in PANEL_METRICS if any(f"best/{name}" in t.metrics for t in trials)]
    values = sorted({trial.params[parameter] for trial in trials}, key=_sortable)
    if len(values) < 2 or not metrics:
        return None
    others = [name for name in without_seed(varied) if name != parameter]
    groups: dict[tuple[Any, ...], list[TrialRecord]] = {}
    for trial in trials:
        groups.setdefault(tuple(trial.params.get(name) for name in others), []).append(trial)
    # A trial alone in its setting says nothing of this hyperparameter, unless all are.
    lines = {k: g for k, g in groups.items() if len({t.params[parameter] for t in g}) > 1}
    groups = lines or groups
    n_columns = min(4, len(metrics))
    n_rows = -(-len(metrics) // n_columns)
    figure = new_figure(3.1 * n_columns + 0.3, 2.4 * n_rows + 0.5)
    scale = _Scale(values)
    for index, name in enumerate(metrics):
        axes = figure.add_subplot(n_rows, n_columns, index + 1)
        for style, (key, group) in enumerate(groups.items()):
            _draw_group(axes, group, parameter, f"best/{name}", scale, style if lines else None)
            axes.lines[-1].set_label(name_trial(dict(zip(others, key, strict=True))))
        scale.apply(axes)
        tidy(axes, name, parameter)
        if index == 0 and len(lines) > 1:
            axes.legend(fontsize=FONT_SIZE - 2, frameon=False)
    figure.suptitle(
        "validation, best epoch; small: a trial, large: mean over seeds, bar: standard deviation, "
        "ring: chosen",
        fontsize=FONT_SIZE,
    )
    return to_png(figure)


class _Scale:
    """Where the values of a hyperparameter lie on an axis."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = list(values)
        self.is_numeric = all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in values
        )
        self.is_log = self.is_numeric and spans_decades(values)

    def place(self, value: Any) -> float:
        return float(value) if self.is_numeric else float(self.values.index(value))

    def apply(self, axes: Axes) -> None:
        if self.is_log:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        texts = [_short(value) for value in self.values]
        gaps = np.diff(sorted(_unit_places(self.values).values()))
        # A character takes about 3 % of a panel; texts that lie closer would cover each other.
        if not self.is_numeric or (gaps >= 0.03 * max(map(len, texts))).all():
            axes.set_xticks([self.place(value) for value in self.values], texts)


def _draw_group(
    axes: Axes,
    group: Sequence[TrialRecord],
    parameter: str,
    key: str,
    scale: _Scale,
    style: int | None,
) -> None:
    """Draw trials of one setting but for a hyperparameter; a lone value of it has no line."""
    by_value: dict[float, list[float]] = {}
    for trial in group:
        if key in trial.metrics:
            x, y = scale.place(trial.params[parameter]), trial.metrics[key]
            by_value.setdefault(x, []).append(y)
            if trial.is_selected:
                axes.plot(x, y, "o", markersize=11, markerfacecolor="none", color="black")
    x_all = [x for x, values in by_value.items() for _ in values]
    y_all = [y for values in by_value.values() for y in values]
    axes.plot(x_all, y_all, ".", color=GREY, markersize=4)
    places = sorted(by_value)
    means = [float(np.mean(by_value[x])) for x in places]
    spread = [float(np.std(by_value[x], ddof=1)) if len(by_value[x]) > 1 else 0.0 for x in places]
    ink = GREY if style is None else INKS[style % len(INKS)]
    line = "" if style is None else LINES[style // len(INKS) % len(LINES)]
    has_spread = [x for x, s in zip(places, spread, strict=True) if s]
    if has_spread:
        rows = [i for i, s in enumerate(spread) if s]
        axes.errorbar(
            has_spread,
            [means[i] for i in rows],
            [spread[i] for i in rows],
            fmt="none",
            ecolor=ink,
            capsize=3,
            linewidth=1,
        )
    marker = MARKERS[(style or 0) % len(MARKERS)] if style is not None else "."
    axes.plot(places, means, line, marker=marker, color=ink, markersize=5, linewidth=1.2)


def draw_front(
    trials: Sequence[TrialRecord],
    front: Sequence[TrialRecord],
    metrics: tuple[str, str],
    labels: Mapping[str, str],
    reasons: Sequence[str],
) -> bytes:
    """Return a PNG of all finished trials by two metrics, with their front and the chosen one.

    Parameters
    ----------
    trials, front
        Finished trials, and those of them that no other dominates.
    metrics
        Names without a split.
    labels
        What to call a trial, by its run.
    reasons
        Why the chosen trial was chosen.
    """
    x_key, y_key = (f"best/{name}" for name in metrics)
    figure = new_figure(7.5, 5.6 if reasons else 4.6)
    axes = figure.add_subplot()
    x_all, y_all = ([trial.metrics[key] for trial in trials] for key in (x_key, y_key))
    axes.plot(x_all, y_all, "o", color=GREY, markersize=5)
    points = np.array(sorted((t.metrics[x_key], t.metrics[y_key]) for t in front))
    axes.plot(*points.T, "-", color=BLUE, linewidth=1, drawstyle="default")
    axes.plot(*points.T, "s", color=BLUE, markersize=7, label="front: no trial is better in both")
    in_order = sorted(front, key=lambda trial: trial.metrics[x_key])
    # A front may be empty: of trials without finite values.
    named = in_order[:: max(1, -(-len(in_order) // _MAX_NAMES))]
    for index, trial in enumerate(trial for trial in named if not trial.is_selected):
        axes.annotate(
            labels[trial.run_id],
            (trial.metrics[x_key], trial.metrics[y_key]),
            # Names of neighbours would cover each other.
            xytext=(-6, 10) if index % 2 else (-6, -14),
            textcoords="offset points",
            fontsize=FONT_SIZE - 1,
        )
    for trial in trials:
        if trial.is_selected:
            x, y = trial.metrics[x_key], trial.metrics[y_key]
            label = f"chosen: {labels[trial.run_id]}"
            axes.plot(x, y, "*", color=ORANGE, markersize=17, label=label, markeredgecolor="black")
    goals = [f"{name} ({_better(name)})" for name in metrics]
    tidy(axes, "validation, best epoch", *goals)
    axes.margins(0.12)
    axes.legend(fontsize=FONT_SIZE - 1, frameon=False, loc="best")
    if reasons:
        text = _wrap("Why: " + " ".join(reasons), 105, 6)
        figure.supxlabel(text, fontsize=FONT_SIZE - 1, x=0.02, ha="left")
    return to_png(figure)


def _better(metric: str) -> str:
    return "less is better" if METRICS[metric].goal == "min" else "more is better"


def draw_parallel(
    trials: Sequence[TrialRecord], front: Sequence[TrialRecord], names: Sequence[str]
) -> bytes:
    """Return a PNG with a vertical axis for each hyperparameter and metric, a line a trial."""
    columns = [[trial.params.get(n, trial.metrics.get(n)) for trial in trials] for n in names]
    figure = new_figure(1.5 * len(names) + 1.5, 4.2)
    axes = figure.add_subplot()
    heights = []
    for position, column in enumerate(columns):
        known = sorted({v for v in column if v is not None}, key=_sortable)
        place = _unit_places(known)
        heights.append([np.nan if v is None else place[v] for v in column])
        axes.axvline(position, color="black", linewidth=0.8)
        shown = known if len(known) <= 6 else [known[0], known[-1]]
        for value in shown:
            axes.text(
                position - 0.03,
                place[value],
                _short(value),
                fontsize=FONT_SIZE - 2,
                ha="right",
                va="center",
                bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5},
            )
    table = np.array(heights)
    order = sorted(
        range(len(trials)), key=lambda i: (trials[i].is_selected, trials[i] in front, i)
    )
    for i in order:
        is_front = trials[i] in front
        ink = ORANGE if trials[i].is_selected else BLUE if is_front else GREY
        width = 3.0 if trials[i].is_selected else 1.4 if is_front else 0.8
        line = "-" if trials[i].is_selected or is_front else "--"
        axes.plot(table[:, i], line, color=ink, linewidth=width, alpha=0.9)
    axes.set_xticks(range(len(names)), names, fontsize=FONT_SIZE - 1, rotation=20, ha="right")
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(
        "thick: chosen, thin: on the front, dashed: other finished trials",
        fontsize=FONT_SIZE,
        loc="left",
    )
    return to_png(figure)


def _unit_places(values: Sequence[Any]) -> dict[Any, float]:
    """Return where values lie between 0 and 1: by their size, on a log scale over decades."""
    scale = _Scale(values)
    places = np.array([scale.place(value) for value in values])
    places = np.log(places) if scale.is_log else places
    extent = float(np.ptp(places))
    unit = (places - places.min()) / extent if extent else np.full(len(places), 0.5)
    return dict(zip(values, unit.tolist(), strict=True))


def draw_importance(importance: Mapping[str, Mapping[str, float]]) -> bytes:
    """Return a PNG of how much of each objective's variance each hyperparameter explains.

    Parameters
    ----------
    importance
        Objective to hyperparameter to a share; the shares of an objective add up to 1.
    """
    n_bars = max(len(shares) for shares in importance.values())
    figure = new_figure(3.6 * len(importance) + 0.5, 0.9 + 0.35 * n_bars)
    for index, (objective, shares) in enumerate(importance.items()):
        axes = figure.add_subplot(1, len(importance), index + 1)
        names = sorted(shares, key=lambda name: shares[name])
        axes.barh(names, [shares[name] for name in names], color=BLUE, height=0.6)
        for row, name in enumerate(names):
            axes.text(shares[name] + 0.02, row, f"{shares[name]:.2f}", va="center", fontsize=8)
        axes.set_xlim(0, 1.15)
        tidy(axes, objective, "share of the variance")
    return to_png(figure)


def draw_progress(
    epochs: Sequence[int], points: NDArray[np.float64], metrics: Sequence[str]
) -> bytes:
    """Return a PNG: best so far, and with two metrics the hypervolume, against epochs spent.

    Parameters
    ----------
    epochs
        (trial,) spent by all trials together when each ended; ascending.
    points
        (trial, metric): at its best epoch.
    metrics
        Names without a split.
    """
    signs = np.array([sign(METRICS[name].goal) for name in metrics])
    costs = points * signs
    panels = [
        (name, signs[k] * np.minimum.accumulate(costs[:, k])) for k, name in enumerate(metrics)
    ]
    if len(metrics) == 2:
        panels.append(("hypervolume (more is better)", hypervolumes(costs)))
    figure = new_figure(3.4 * len(panels), 2.8)
    for index, (name, values) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        axes.plot(epochs, values, drawstyle="steps-post", color=BLUE, linewidth=1.4)
        if index < len(metrics):
            axes.plot(epochs, points[:, index], ".", color=GREY, markersize=4)
            # Trials that were stopped early would hide what the last ones add.
            low, high = np.percentile(points[:, index], [0, 90] if signs[index] > 0 else [10, 100])
            pad = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
            axes.set_ylim(low - pad, high + pad)
        tidy(axes, name, "epochs spent by all trials")
    figure.suptitle(
        "line: best so far, points: trials as they ended, at their best epochs", fontsize=FONT_SIZE
    )
    return to_png(figure)


def hypervolumes(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the square between the best and the worst that is dominated so far."""
    low, high = costs.min(axis=0), costs.max(axis=0)
    extent = np.where(high > low, high - low, 1.0)
    reference = np.array([1.0, 1.0]) + 1e-9
    share, shares, front = 0.0, [], np.empty((0, 2))
    for point in (costs - low) / extent:
        # Only the front is carried along: most points are behind it and change nothing.
        if not (front <= point).all(axis=1).any():
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            share = hypervolume(front, reference)
        shares.append(share)
    return np.array(shares)


def _sortable(value: Any) -> tuple[bool, Any]:
    is_number = isinstance(value, int | float)
    return (not is_number, value if is_number else str(value))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _wrap(text: str, width: int, n_lines: int) -> str:
    lines = textwrap.wrap(text, width)
    return "\n".join(lines[:n_lines]) + (" …" if len(lines) > n_lines else "")
