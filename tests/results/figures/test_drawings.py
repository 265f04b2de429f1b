"""Figures of trials that are made up, and the measures that they show."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from psvae_tune.metrics.pareto import hypervolume
from psvae_tune.results.figures.parameter_figures import (
    draw_importance,
)
from psvae_tune.results.figures.study_figures import (
    draw_front,
    draw_progress,
    hypervolumes,
)
from psvae_tune.results.figures.style import to_png
from psvae_tune.results.study_measures import measure_importance
from psvae_tune.results.trial_record import TrialRecord


def test_importance_shows_the_shares():
    figure = draw_importance({"best/a": {"x": 0.25, "y": 0.75}, "best/b": {"x": 1.0}})
    shown = {
        axes.get_title(loc="left"): dict(
            zip(
                (text.get_text() for text in axes.get_yticklabels()),
                (bar.get_width() for bar in axes.patches),
                strict=True,
            )
        )
        for axes in figure.axes
    }
    assert shown == {"best/a": {"x": 0.25, "y": 0.75}, "best/b": {"x": 1.0}}


def test_progress_shows_the_best_so_far():
    points = np.array([[0.3, 0.1], [0.4, 0.5], [0.2, 0.4]])
    figure = draw_progress([3, 6, 9], points, ("frame_mse", "label_r2"))
    mse, r2, volume = figure.axes
    for axes, best, column in ((mse, [0.3, 0.3, 0.2], 0), (r2, [0.1, 0.5, 0.5], 1)):
        line, trials = axes.lines
        assert [*line.get_xdata()] == [*trials.get_xdata()] == [3, 6, 9]
        assert [*line.get_ydata()] == best
        assert [*trials.get_ydata()] == [*points[:, column]]
    expected = hypervolumes(points * [1, -1])
    assert volume.lines[0].get_ydata() == pytest.approx(expected)


def test_trials_without_a_front_are_drawn():
    metrics = {"best/frame_mse": 0.1, "best/label_r2": math.nan}
    trials = [TrialRecord(name, name, name, "", "", "", {}, metrics, False) for name in "ab"]
    labels = {trial.run_id: trial.name for trial in trials}
    png = to_png(draw_front(trials, [], ("frame_mse", "label_r2"), labels, [], "", {}))
    assert Image.open(io.BytesIO(png)).format == "PNG"


def test_the_front_has_a_line_for_each_baseline():
    metrics = {"best/frame_mse": 0.1, "best/label_r2": 0.5}
    trial = TrialRecord("a", "a", "a", "", "", "", {}, metrics, False)
    baselines = {"label_r2": ("ridge", 0.8), "frame_mse": ("PCA", 0.05)}
    pair = ("frame_mse", "label_r2")
    figure = draw_front([trial], [], pair, {"a": "a"}, [], "", baselines)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines["PCA"].get_xdata()) == {0.05}
    assert set(lines["ridge"].get_ydata()) == {0.8}
    texts = {text.get_text() for text in figure.axes[0].get_legend().get_texts()}
    assert texts == {"PCA", "ridge"}


@pytest.mark.parametrize("n_values", [2, 6, 1000])
def test_the_hypervolume_so_far_is_that_of_all_points_so_far(n_values):
    costs = np.random.default_rng(0).integers(0, n_values, (60, 2)).astype(float)
    low, high = costs.min(axis=0), costs.max(axis=0)
    unit, reference = (costs - low) / (high - low), np.ones(2)
    wanted = [hypervolume(unit[: i + 1], reference) for i in range(len(unit))]
    assert hypervolumes(costs) == pytest.approx(wanted, abs=1e-6)


def test_what_decides_a_metric_is_important():
    def trial(alpha, seed):
        params = {"alpha": alpha, "seed": seed}
        return TrialRecord("", "", "", "", "", "", params, {"best/x": alpha}, False)

    trials = [trial(alpha, seed) for alpha in (1, 2, 3, 4) for seed in (0, 1, 2)]
    shares = measure_importance(trials, ["alpha", "seed"], ["best/x"])["best/x"]
    assert shares["alpha"] > 0.95
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("varied", [["alpha"], ["alpha", "seed"]])
def test_where_one_hyperparameter_varies_none_is_more_important(varied):
    trials = [
        TrialRecord("", "", "", "", "", "", {"alpha": alpha, "seed": 0}, {"best/x": alpha}, False)
        for alpha in (1, 2, 3, 4)
    ]
    assert measure_importance(trials, varied, ["best/x"]) == {}
