"""The figures of a study that show its metrics against its hyperparameters."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from psvae_tune.config.wording import name_trial
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

_MAX_TICKS = 6  # values that an axis of parallel coordinates names; of more, the ends only


def draw_panels(
    trials: Sequence[TrialRecord], parameter: str, varied: Sequence[str]
) -> Figure | None:
    """Draw a panel a metric against one hyperparameter.

    Trials that differ in nothing else, seeds apart, form one line: a small point a trial, a large
    one for their mean, and the standard deviation over seeds as a bar.

    Parameters
    ----------
    trials
        Finished trials.
    parameter
        Name of the hyperparameter.
    varied
        Names of all hyperparameters that the study varies.

    Returns
    -------
    Figure or None
        None if the hyperparameter never varies, or no trial has a metric that is shown.
    """
    trials = [trial for trial in trials if parameter in trial.params]
    metrics = [name for name in PANEL_METRICS if any(f"best/{name}" in t.metrics for t in trials)]
    values = sorted({trial.params[parameter] for trial in trials}, key=_sort_key)
    if len(values) < 2 or not metrics:
        return None
    groups = _group_by_others(trials, parameter, varied)
    has_lines = any(len({t.params[parameter] for t in group}) > 1 for _, group in groups)
    n_columns = min(4, len(metrics))
    n_rows = -(-len(metrics) // n_columns)
    figure = new_figure(3.1 * n_columns + 0.3, 2.4 * n_rows + 0.5)
    scale = _Scale(values)
    for index, name in enumerate(metrics):
        axes = figure.add_subplot(n_rows, n_columns, index + 1)
        for style, (label, group) in enumerate(groups):
            points = [
                (scale.place(t.params[parameter]), t.metrics[f"best/{name}"], t.is_selected)
                for t in group
                if f"best/{name}" in t.metrics
            ]
            _draw_group(axes, points, style if has_lines else None, label)
        scale.apply(axes)
        tidy(axes, name, parameter)
        if index == 0 and has_lines and len(groups) > 1:
            axes.legend(fontsize=FONT_SIZE - 2, frameon=False)
    figure.suptitle(
        "validation, best epoch; small: a trial, large: mean over seeds, bar: standard deviation, "
        "ring: chosen",
        fontsize=FONT_SIZE,
    )
    return figure


def _group_by_others(
    trials: Sequence[TrialRecord], parameter: str, varied: Sequence[str]
) -> list[tuple[str, list[TrialRecord]]]:
    """Return a name and the trials of every setting, a hyperparameter and the seed left aside.

    A setting with one value of the hyperparameter shows nothing of its effect. It is left out,
    unless all settings are like that.
    """
    others = [name for name in without_seed(varied) if name != parameter]
    groups: dict[tuple[Any, ...], list[TrialRecord]] = {}
    for trial in trials:
        groups.setdefault(tuple(trial.params.get(name) for name in others), []).append(trial)
    lines = {k: g for k, g in groups.items() if len({t.params[parameter] for t in g}) > 1}
    return [
        (name_trial(dict(zip(others, key, strict=True))), group)
        for key, group in (lines or groups).items()
    ]


class _Scale:
    """An axis for the values of a hyperparameter, be they numbers or names."""

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


def _unit_places(values: Sequence[Any]) -> dict[Any, float]:
    """Return where values lie between 0 and 1: by their size, on a log scale over decades."""
    scale = _Scale(values)
    places = np.array([scale.place(value) for value in values])
    places = np.log(places) if scale.is_log else places
    extent = float(np.ptp(places))
    unit = (places - places.min()) / extent if extent else np.full(len(places), 0.5)
    return dict(zip(values, unit.tolist(), strict=True))


def _draw_group(
    axes: Axes, points: Sequence[tuple[float, float, bool]], style: int | None, label: str
) -> None:
    """Draw the trials of one setting.

    Parameters
    ----------
    axes
        Panel of a metric.
    points
        Place of the hyperparameter, value of the metric, and whether the trial is the chosen one.
    style
        Number of the line's style; None for points that no line joins.
    label
        Name of the setting in a legend.
    """
    by_place: dict[float, list[float]] = {}
    for x, y, is_chosen in points:
        by_place.setdefault(x, []).append(y)
        if is_chosen:
            axes.plot(x, y, "o", markersize=11, markerfacecolor="none", color="black")
    axes.plot([x for x, _, _ in points], [y for _, y, _ in points], ".", color=GREY, markersize=4)
    places = sorted(by_place)
    means = [float(np.mean(by_place[x])) for x in places]
    ink, line, marker = GREY, "", "."
    if style is not None:
        ink = INKS[style % len(INKS)]
        line = LINES[style // len(INKS) % len(LINES)]
        marker = MARKERS[style % len(MARKERS)]
    spread = {x: float(np.std(y, ddof=1)) for x, y in sorted(by_place.items()) if len(y) > 1}
    bars = {x: s for x, s in spread.items() if s}
    if bars:
        heights = [float(np.mean(by_place[x])) for x in bars]
        axes.errorbar(
            [*bars],
            heights,
            [*bars.values()],
            fmt="none",
            ecolor=ink,
            capsize=3,
            linewidth=1,
        )
    axes.plot(
        places, means, line, marker=marker, color=ink, markersize=5, linewidth=1.2, label=label
    )


def draw_parallel(
    trials: Sequence[TrialRecord], front: Sequence[TrialRecord], names: Sequence[str]
) -> Figure:
    """Draw a vertical axis for each hyperparameter and metric, and a line a trial."""
    figure = new_figure(1.5 * len(names) + 1.5, 4.2)
    axes = figure.add_subplot()
    heights = []
    for position, name in enumerate(names):
        column = [trial.params.get(name, trial.metrics.get(name)) for trial in trials]
        places = _unit_places(sorted({v for v in column if v is not None}, key=_sort_key))
        heights.append([np.nan if value is None else places[value] for value in column])
        _draw_vertical_axis(axes, position, places)
    table = np.array(heights)
    is_front = [trial in front for trial in trials]
    # What matters most is drawn last, over the others.
    order = sorted(range(len(trials)), key=lambda i: (trials[i].is_selected, is_front[i], i))
    for i in order:
        ink, line, width = GREY, "--", 0.8
        if is_front[i]:
            ink, line, width = BLUE, "-", 1.4
        if trials[i].is_selected:
            ink, line, width = ORANGE, "-", 3.0
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
    return figure


def _draw_vertical_axis(axes: Axes, position: int, places: Mapping[Any, float]) -> None:
    """Draw an axis of parallel coordinates with the names of values at their places."""
    axes.axvline(position, color="black", linewidth=0.8)
    values = [*places]
    for value in values if len(values) <= _MAX_TICKS else (values[0], values[-1]):
        axes.text(
            position - 0.03,
            places[value],
            _short(value),
            fontsize=FONT_SIZE - 2,
            ha="right",
            va="center",
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.5},
        )


def draw_importance(importance: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the share of each metric's variance that each hyperparameter explains.

    Parameters
    ----------
    importance
        Shares by metric and hyperparameter; those of a metric add up to 1.
    """
    n_bars = max(len(shares) for shares in importance.values())
    figure = new_figure(3.6 * len(importance) + 0.5, 0.9 + 0.35 * n_bars)
    for index, (metric, shares) in enumerate(importance.items()):
        axes = figure.add_subplot(1, len(importance), index + 1)
        names = sorted(shares, key=lambda name: shares[name])
        axes.barh(names, [shares[name] for name in names], color=BLUE, height=0.6)
        for row, name in enumerate(names):
            axes.text(shares[name] + 0.02, row, f"{shares[name]:.2f}", va="center", fontsize=8)
        axes.set_xlim(0, 1.15)
        tidy(axes, metric, "share of the variance")
    return figure


def _sort_key(value: Any) -> tuple[bool, Any]:
    """Return a key that sorts numbers by size, and names after them."""
    is_number = isinstance(value, int | float)
    return (not is_number, value if is_number else str(value))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
