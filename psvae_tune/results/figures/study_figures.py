"""The figures of a study that show its metrics: the front of two, and how the best improved."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from psvae_tune.config.metric_catalog import METRICS, sign
from psvae_tune.metrics.pareto import hypervolume
from psvae_tune.results.figures.style import (
    BLUE,
    FONT_SIZE,
    GREEN,
    GREY,
    ORANGE,
    new_figure,
    tidy,
)
from psvae_tune.results.trial_record import TrialRecord

_MAX_NAMES = 12  # more names on a front would cover each other
_REASON_WIDTH, _MAX_REASON_LINES = 105, 6  # characters, lines


def name_with_goal(metric: str) -> str:
    """Return the name of a metric, with the direction in which it is better."""
    return f"{metric} ({'less' if METRICS[metric].goal == 'min' else 'more'} is better)"


def draw_front(
    trials: Sequence[TrialRecord],
    front: Sequence[TrialRecord],
    metrics: tuple[str, str],
    labels: Mapping[str, str],
    reasons: Sequence[str],
    meaning: str,
    baselines: Mapping[str, tuple[str, float]],
) -> Figure:
    """Draw all finished trials by two metrics, with their front and the chosen one.

    Parameters
    ----------
    trials
        Finished trials.
    front
        The trials that no other dominates. There are none if no trial has finite values.
    metrics
        Names without a split.
    labels
        Name of a trial, by its run.
    reasons
        Sentences that say why the chosen trial was chosen.
    meaning
        Words for what a trial on the front is.
    baselines
        A baseline of a metric, in words and its score; drawn as a line.
    """
    figure = new_figure(7.5, 5.6 if reasons else 4.6)
    axes = figure.add_subplot()

    def place(trial: TrialRecord) -> tuple[float, float]:
        return trial.metrics[f"best/{metrics[0]}"], trial.metrics[f"best/{metrics[1]}"]

    axes.plot(*_columns(map(place, trials)), "o", color=GREY, markersize=5)
    if front:
        line = _columns(sorted(map(place, front)))
        # A step: nothing between two trials has the better values of both.
        steps = "steps-post" if METRICS[metrics[0]].goal == "min" else "steps-pre"
        axes.plot(*line, "-", color=BLUE, linewidth=1, drawstyle=steps)
        axes.plot(*line, "s", color=BLUE, markersize=7, label=f"front: {meaning}")
    in_order = sorted(front, key=place)
    named = in_order[:: max(1, -(-len(in_order) // _MAX_NAMES))]
    for index, trial in enumerate(trial for trial in named if not trial.is_selected):
        axes.annotate(
            labels[trial.run_id],
            place(trial),
            # Names of neighbours would cover each other.
            xytext=(-6, 10) if index % 2 else (-6, -14),
            textcoords="offset points",
            fontsize=FONT_SIZE - 1,
        )
    for trial in (trial for trial in trials if trial.is_selected):
        label = f"chosen: {labels[trial.run_id]}"
        axes.plot(
            *place(trial), "*", color=ORANGE, markersize=17, label=label, markeredgecolor="black"
        )
    for metric, draw, style in zip(
        metrics, (axes.axvline, axes.axhline), (":", "--"), strict=True
    ):
        if metric in baselines:
            what, score = baselines[metric]
            draw(score, color=GREEN, linestyle=style, linewidth=1, label=what)
    tidy(axes, "validation, best epoch", *map(name_with_goal, metrics))
    axes.margins(0.12)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=FONT_SIZE - 1, frameon=False, loc="best")
    if reasons:
        text = _wrap("Why: " + " ".join(reasons), _REASON_WIDTH, _MAX_REASON_LINES)
        figure.supxlabel(text, fontsize=FONT_SIZE - 1, x=0.02, ha="left")
    return figure


def _columns(points: Iterable[tuple[float, float]]) -> tuple[list[float], list[float]]:
    pairs = list(points)
    return [x for x, _ in pairs], [y for _, y in pairs]


def draw_progress(
    epochs: Sequence[int], points: NDArray[np.float64], metrics: Sequence[str]
) -> Figure:
    """Draw the best value so far, and of two metrics the hypervolume, against epochs spent.

    Parameters
    ----------
    epochs
        (trial,) ascending. Epochs that all trials together had spent when each of them ended.
    points
        (trial, metric). Values at the best epoch of the trial.
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
            # The worst values, mostly of stopped trials, would squeeze all others together.
            low, high = np.percentile(points[:, index], [0, 90] if signs[index] > 0 else [10, 100])
            pad = 0.08 * (high - low) or 0.1 * abs(high) or 0.1
            axes.set_ylim(low - pad, high + pad)
        tidy(axes, name, "epochs spent by all trials")
    figure.suptitle(
        "line: best so far, points: trials as they ended, at their best epochs", fontsize=FONT_SIZE
    )
    return figure


def hypervolumes(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the hypervolume of the first 1, 2, … trials.

    Parameters
    ----------
    costs
        (trial, metric) of two metrics of which less is better.

    Returns
    -------
    NDArray
        (trial,), as a share of the rectangle between the best and the worst values.
    """
    low, high = costs.min(axis=0), costs.max(axis=0)
    extent = np.where(high > low, high - low, 1.0)
    reference = np.array([1.0, 1.0]) + 1e-9
    share, shares, front = 0.0, [], np.empty((0, 2))
    for point in (costs - low) / extent:
        # Only the front is kept, because a point behind it changes nothing.
        if not (front <= point).all(axis=1).any():
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            share = hypervolume(front, reference)
        shares.append(share)
    return np.array(shares)


def _wrap(text: str, width: int, n_lines: int) -> str:
    lines = textwrap.wrap(text, width)
    return "\n".join(lines[:n_lines]) + (" …" if len(lines) > n_lines else "")
