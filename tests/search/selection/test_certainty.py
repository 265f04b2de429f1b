"""A choice says where it rests on less than the sampling error, and nowhere else."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from psvae_tune.config.selection_rule import parse_rule
from psvae_tune.config.wording import to_digits
from psvae_tune.search.selection.select import select
from psvae_tune.tracking.trial_result import N_UNSUPERVISED, TrialResult
from tests.support.selections import GOALS

LEAD = "In what decided"
LIMIT = re.compile(r"away from the limit of `(.+)`, ([0-9.]+), so")


def trial(alpha, seed=0, **metrics):
    """Give metrics without their split; `r2_error` is the error of `r2`, the label R²."""
    names = {"r2": "label_r2", "mse": "frame_mse", "active": "active_units"}
    return TrialResult(
        trial_id=f"{alpha}-{seed}",
        name=f"alpha={alpha} seed={seed}",
        params={"ps_vae.alpha": alpha, "rng_seed_model": seed, N_UNSUPERVISED: 2},
        metrics={
            "val/" + key.replace(short := key.partition("_")[0], names[short], 1): value
            for key, value in metrics.items()
        },
        completed=True,
    )


def doubts(trials, rule):
    """Return the text of the lead, and by limit the names of trials that are near it."""
    reasons = select(trials, parse_rule(rule), GOALS).reasons
    lead = [reason for reason in reasons if reason.startswith(LEAD)]
    limits = {
        (found[1], found[2]): set(re.findall(r"alpha=\d+ seed=\d+", reason))
        for reason in reasons
        if (found := LIMIT.search(reason))
    }
    assert len(lead) <= 1
    return (lead or [None])[0], limits


def draw_trials(rng):
    """Draw trials on a coarse grid, so that values tie, with errors of the size of a step."""
    return [
        trial(
            alpha,
            r2=round(rng.uniform(0.5, 1), 2),
            r2_error=rng.uniform(0, 0.1),
            mse=round(rng.uniform(0.01, 0.03), 3),
            mse_error=rng.uniform(0, 0.005),
        )
        for alpha in range(1, rng.integers(3, 8))
    ]


def values(found, key):
    return found.metrics[key], found.metrics[f"{key}_error"]


def expected_lead(first, second, keys):
    """Return whether all keys differ by less than the error of their difference."""
    pairs = [(values(first, key), values(second, key)) for key in keys]
    return bool(pairs) and all(abs(a - b) < math.hypot(e, f) for (a, e), (b, f) in pairs)


@pytest.mark.parametrize("seed", range(60))
def test_the_lead_of_the_best(seed):
    trials = draw_trials(np.random.default_rng(seed))
    lead, limits = doubts(trials, {"best": "val/label_r2"})
    order = sorted(trials, key=lambda one: (-one.metrics["val/label_r2"], one.name))
    assert (lead is not None) == expected_lead(*order[:2], ["val/label_r2"])
    assert not limits


@pytest.mark.parametrize("seed", range(60))
def test_a_tolerance_and_what_comes_then(seed):
    trials = draw_trials(np.random.default_rng(seed))
    rule = {
        "within": {"metric": "val/label_r2", "tolerance": 0.1},
        "then": {"val/frame_mse": "min"},
    }
    lead, limits = doubts(trials, rule)
    order = sorted(trials, key=lambda one: (-one.metrics["val/label_r2"], one.name))
    limit = 0.9 * order[0].metrics["val/label_r2"]
    near = {
        one.name
        for one in order[1:]
        if abs(one.metrics["val/label_r2"] - limit) < one.metrics["val/label_r2_error"]
    }
    assert limits == ({("val/label_r2", to_digits(limit)): near} if near else {})
    inside = [one for one in order if one.metrics["val/label_r2"] >= limit - 1e-9]
    inside.sort(key=lambda one: (one.metrics["val/frame_mse"], one.name))
    is_close = len(inside) > 1 and (
        inside[0].metrics["val/frame_mse"] < inside[1].metrics["val/frame_mse"]
        and expected_lead(*inside[:2], ["val/frame_mse"])
    )
    assert (lead is not None) == is_close


@pytest.mark.parametrize("seed", range(60))
def test_a_requirement(seed):
    trials = [*draw_trials(np.random.default_rng(seed)), trial(9, r2=1.0, r2_error=0.0, mse=1.0)]
    rule = {"best": "val/frame_mse", "require": {"val/label_r2": ">= 0.75"}}
    near = {
        one.name
        for one in trials
        if abs(one.metrics["val/label_r2"] - 0.75) < one.metrics["val/label_r2_error"]
    }
    assert doubts(trials, rule)[1] == ({("val/label_r2", "0.75"): near} if near else {})


def front_of(trials):
    """Return the trials that no other dominates, and their costs and errors on the unit square."""
    keys = ["val/frame_mse", "val/label_r2"]
    costs = np.array([[one.metrics[key] for key in keys] for one in trials]) * (1, -1)
    errors = np.array([[one.metrics[f"{key}_error"] for key in keys] for one in trials])
    rows = [
        row
        for row, own in enumerate(costs)
        if not any((other <= own).all() and (other < own).any() for other in costs)
    ]
    low, width = costs[rows].min(axis=0), np.ptp(costs[rows], axis=0)
    width = np.where(width > 0, width, np.inf)
    return [trials[row] for row in rows], (costs[rows] - low) / width, errors[rows] / width


@pytest.mark.parametrize("seed", range(60))
def test_a_compromise_is_doubtful_if_its_distance_is(seed):
    """The largest distance of each is in one metric, and has the error of that one."""
    trials = draw_trials(np.random.default_rng(seed))
    lead, _ = doubts(trials, {"chebyshev": {"val/frame_mse": 1, "val/label_r2": 2}})
    _, scaled, errors = front_of(trials)
    distances, errors = scaled * (1, 2), errors * (1, 2)
    order = sorted(range(len(distances)), key=lambda row: (distances[row].max(), row))
    found = [(distances[row].max(), errors[row][distances[row].argmax()]) for row in order[:2]]
    is_close = len(found) > 1 and found[1][0] - found[0][0] < math.hypot(found[0][1], found[1][1])
    assert (lead is not None) == is_close


@pytest.mark.parametrize("seed", range(60))
def test_a_knee_is_doubtful_if_its_distance_is(seed):
    trials = draw_trials(np.random.default_rng(seed))
    selection = select(trials, parse_rule({"knee": ["val/frame_mse", "val/label_r2"]}), GOALS)
    lead = [reason for reason in selection.reasons if reason.startswith(LEAD)]
    front, scaled, errors = front_of(trials)
    distances = (1 - scaled.sum(axis=1)) / math.sqrt(2)
    if len(front) == 1:
        assert not lead
    elif distances.max() > 0:
        first, second = (front.index(one) for one in (selection.chosen, selection.runner_up))
        error = math.hypot(*errors[first], *errors[second]) / math.sqrt(2)
        assert bool(lead) == (distances[first] - distances[second] < error)
    else:  # there is no knee, and the better frames decide
        expected = expected_lead(selection.chosen, selection.runner_up, ["val/frame_mse"])
        assert bool(lead) == expected


@pytest.mark.parametrize("kind", ["knee", "pareto", "chebyshev"])
@pytest.mark.parametrize("seed", range(20))
def test_who_may_be_on_the_front_is_told(seed, kind):
    """Whom no other is sure to dominate: better in both by the error of the difference."""
    trials = draw_trials(np.random.default_rng(seed))
    keys = ["val/frame_mse", "val/label_r2"]
    rule = {
        "knee": {"knee": keys},
        "pareto": {"pareto": keys, "then": {"ps_vae.alpha": "min"}},
        "chebyshev": {"chebyshev": dict.fromkeys(keys, 1)},
    }[kind]
    reasons = select(trials, parse_rule(rule), GOALS).reasons
    told = {
        name
        for one in reasons
        if "other clips may put" in one and "on the front" in one
        for name in re.findall(r"alpha=\d+ seed=\d+", one)
    }
    front, _, _ = front_of(trials)

    def is_sure(first, second):
        (mse, mse_error), (r2, r2_error) = (values(second, key) for key in keys)
        (own_mse, own_mse_error), (own_r2, own_r2_error) = (values(first, key) for key in keys)
        return mse - own_mse >= math.hypot(mse_error, own_mse_error) and (
            own_r2 - r2 >= math.hypot(r2_error, own_r2_error)
        )

    near = [one for one in trials if one not in front and not any(is_sure(f, one) for f in front)]
    assert told == {one.name for one in near}


def test_the_sentence_says_what_and_by_how_much():
    trials = [trial(1, r2=0.9, r2_error=0.03), trial(2, r2=0.88, r2_error=0.04)]
    assert doubts(trials, {"best": "val/label_r2"})[0] == (
        "In what decided, `val/label_r2` (± 0.05), the two differ by less than the sampling error "
        "over clips, so other clips may decide otherwise."
    )


def test_a_hyperparameter_leaves_no_doubt():
    trials = [trial(1, r2=0.9, r2_error=0.3), trial(2, r2=0.9, r2_error=0.3)]
    rule = {
        "within": {"metric": "val/label_r2", "tolerance": 0.5},
        "then": {"ps_vae.alpha": "min"},
    }
    assert doubts(trials, rule)[0] is None
    assert not any(
        "not known: `" in one for one in select(trials, parse_rule(rule), GOALS).reasons
    )


def test_a_lead_in_a_metric_without_an_error_is_not_known_to_be_more_than_chance():
    trials = [trial(1, r2=0.9, r2_error=0.3, mse=0.1), trial(2, r2=0.89, mse=0.2)]
    unknown = (
        "Whether other clips may decide otherwise is not known: `val/label_r2` has no sampling "
        "error over clips."
    )
    assert unknown in select(trials, parse_rule({"best": "val/label_r2"}), GOALS).reasons
    trials = [trial(1, r2=0.9, r2_error=0.01, mse=0.2), trial(2, r2=0.5, r2_error=0.01, mse=0.1)]
    rule = parse_rule({"chebyshev": {"val/frame_mse": 1, "val/label_r2": 2}})
    assert any(
        "not known: the largest weighted distance" in one
        for one in select(trials, rule, GOALS).reasons
    )


@pytest.mark.parametrize("was_stopped", [True, False])
def test_early_stopping_without_errors_is_told(was_stopped):
    """A trial that failed instead was held against no other one."""
    trials = [trial(1, r2=0.9, r2_error=0.01), trial(2, r2=0.5)]
    trials[1] = replace(trials[1], completed=False, was_stopped=was_stopped)
    reasons = select(trials, parse_rule({"best": "val/label_r2"}), GOALS).reasons
    how = "was stopped early" if was_stopped else "did not complete"
    assert reasons[0] == f"Set aside: alpha=2 seed=0 ({how})."
    assert any("whether other clips would have stopped" in one for one in reasons) == was_stopped


def test_errors_of_seeds_do_not_average_out():
    """Their fits are scored on the same clips."""
    trials = [
        trial(alpha, seed, r2=r2, r2_error=error)
        for alpha, r2 in ((1, 0.90), (2, 0.86))
        for seed, error in ((0, 0.02), (1, 0.04))
    ]
    assert "± 0.04243" in doubts(trials, {"best": "val/label_r2"})[0]


def test_collapsing_by_chance_is_told():
    trials = [trial(1, mse=0.1, active=2, active_error=0.3), trial(2, mse=0.2, active=2)]
    rule = {"best": "val/frame_mse", "require": {"val/active_units": "all"}}
    assert doubts(trials, rule)[1] == {("val/active_units", "2"): {"alpha=1 seed=0"}}
    assert (
        "alpha=1 seed=0 is less than its sampling error over clips (± 0.3) away from the limit of "
        "`val/active_units`, 2, so other clips may put it on the other side."
    ) in select(trials, parse_rule(rule), GOALS).reasons


def test_each_limit_has_a_sentence_with_the_errors_of_those_near_it():
    """The number of unsupervised latents is the limit, and a stage may vary it."""
    trials = [
        trial(alpha, mse=0.1, active=n_latents, active_error=error)
        for alpha, n_latents, error in ((1, 2, 0.3), (2, 2, 0.4), (3, 4, 0.5))
    ]
    trials[2] = replace(trials[2], params=trials[2].params | {N_UNSUPERVISED: 4})
    rule = {"best": "val/frame_mse", "require": {"val/active_units": "all"}}
    assert doubts(trials, rule)[1] == {
        ("val/active_units", "2"): {"alpha=1 seed=0", "alpha=2 seed=0"},
        ("val/active_units", "4"): {"alpha=3 seed=0"},
    }
    assert any(
        "(± 0.3 and ± 0.4)" in one for one in select(trials, parse_rule(rule), GOALS).reasons
    )
