"""Schedulers stop the trials that are behind, and only after the annealing."""

import math
from collections import Counter
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import MedianStoppingRule

from psvae_tune.config.scheduler import Asha, rungs
from psvae_tune.search.progress import TrialReport, to_result
from psvae_tune.search.schedulers import MedianStop, ParetoAsha, make_scheduler
from psvae_tune.search.selection.possible import EPOCH
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trial_spec import StageContext
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import StudyFolder
from tests.support.studies import make_config, make_stage


@pytest.mark.parametrize(
    ("grace", "factor", "anneal", "last", "expected"),
    [
        ("anneal_end", 1.5, 40, 400, [200, 300]),
        ("anneal_end", 3, 60, 200, [100]),
        ("anneal_end", 3, 0, 10, [5]),
        ("anneal_end", 3, 20, 90, [45]),
        (20, 2, 10, 100, [20, 40, 80]),
        ("anneal_end", 3, 10, 10, []),
        ("anneal_end", 1.5, 18, 30, [18, 27]),
        (5, 3, 0, 90, [5, 15, 45]),
    ],
)
def test_rungs_lie_between_the_annealing_and_the_end(grace, factor, anneal, last, expected):
    assert rungs(Asha(grace_period=grace, reduction_factor=factor), anneal, last) == expected


@pytest.mark.parametrize("algorithm", ["grid", "random"])
def test_rungs_follow_from_the_stage_whatever_trials_are_left_of_it(tmp_path, algorithm):
    """The annealing that the space varies counts, and that of the settings before it does not."""
    kind, budget = "grid_search", {}
    if algorithm == "random":
        kind, budget = "choice", {"algorithm": algorithm, "num_trials": 4}
    space = {"ps_vae.anneal_epochs": {kind: [3, 6]}, "ps_vae.alpha": {kind: [10, 20]}}
    asha = {"asha": {"reduction_factor": 1.5}}
    stage = make_stage(space=space, scheduler=asha, **budget)
    base = make_config({"ps_vae.anneal_epochs": 11}, {"max_n_epochs": 16})
    target = TrackingTarget("", "", "study")
    context = StageContext(stage, base, StudyFolder(tmp_path), target, ("digest",), 2)
    journal = StageJournal(context.folder, stage.name, context.settings_id)
    made = make_scheduler(context, journal)
    trial = SimpleNamespace(
        config=context.spec({"ps_vae.anneal_epochs": 3, "ps_vae.alpha": 10}).to_ray()
    )
    for epoch in range(1, 17):
        metrics = {"val/frame_mse": 1 / epoch}
        made.on_trial_result(None, trial, to_result(TrialReport("a", epoch, metrics)))
    # And half as many epochs before each rung, for the pace.
    assert sorted(journal.standings()) == [4, 6, 8, 12]


MSE = {"val/frame_mse": "min"}
R2 = {"val/label_r2": "max"}
BOTH = {**MSE, **R2}


class Recorder(list):
    def __call__(self, name, mark, standing):
        self.append((name, mark, {key: standing[key] for key in standing if key != EPOCH}))


def stand(trial, report):
    finite = {key: value for key, value in report.best_metrics.items() if math.isfinite(value)}
    return {**finite, EPOCH: report.epoch}


def stage_of(objectives):
    """Return a stage whose rule compares the objectives and requires units."""
    rule = {"best": next(iter(objectives))} if len(objectives) == 1 else {"knee": list(objectives)}
    return make_stage(
        objectives=objectives, select={**rule, "require": {"val/active_units": ">= 1"}}
    )


def scheduler(objectives, epochs=(2, 4), factor=2, seen=None, n_epochs=2):
    """Return a scheduler, by default of trials that have no time left to catch up."""
    kept = Recorder()
    stage = stage_of(objectives)
    return ParetoAsha(stage, stand, seen or {}, kept, n_epochs, list(epochs), factor), kept


NAMES = {"mse": "frame_mse", "r2": "label_r2", "units": "active_units"}


def at(units=1, epoch=None, **values):
    """Return a standing with values under their short names."""
    values |= {"units": units}
    found = {f"val/{NAMES[key]}": value for key, value in values.items()}
    return found if epoch is None else found | {EPOCH: epoch}


def report(asha, name, epoch, **metrics):
    metrics = at(**metrics)
    return asha.on_trial_result(None, None, to_result(TrialReport(name, epoch, metrics)))


def test_a_trial_that_may_catch_up_is_not_stopped():
    """One that halves its error with a doubling of the epochs, and one that stands still."""
    asha, _ = scheduler(MSE, epochs=(4,), factor=9, n_epochs=8)
    for epoch in (2, 4):
        report(asha, "first", epoch, mse=1.0)
    for name, before, now in (("late", 4.0, 2.0), ("slow", 2.1, 2.0), ("even", 2.0, 2.0)):
        assert report(asha, name, 2, mse=before) == "CONTINUE"
        assert report(asha, name, 4, mse=now) == ("CONTINUE" if name == "late" else "STOP")


def test_a_trial_whose_pace_is_unknown_goes_on():
    """As after a crash of an earlier version, which kept rungs alone."""
    seen = {4: {"first": at(mse=1.0, epoch=4), "old": at(mse=9.0, epoch=4)}}
    for n_epochs, goes_on in ((8, True), (4, False)):
        asha, _ = scheduler(MSE, epochs=(4,), factor=9, seen=seen, n_epochs=n_epochs)
        assert asha.goes_on("old", 4) == goes_on


def test_nothing_is_decided_before_the_first_rung():
    asha, kept = scheduler(MSE)
    assert report(asha, "good", 2, mse=0.1) == "CONTINUE"
    assert report(asha, "bad", 1, mse=9.0) == "CONTINUE"
    assert report(asha, "bad", 2, mse=9.0) == "STOP"
    assert kept == [("good", 2, at(mse=0.1)), ("bad", 1, at(mse=9.0)), ("bad", 2, at(mse=9.0))]


def test_a_trial_is_stopped_at_a_rung_and_not_between_two():
    """What it was at a rung says less and less of what it is."""
    asha, _ = scheduler(R2, factor=3)
    assert report(asha, "first", 2, r2=0.1) == "CONTINUE"
    assert report(asha, "second", 2, r2=0.5) == "CONTINUE"
    assert report(asha, "first", 3, r2=0.2) == "CONTINUE"
    report(asha, "second", 4, r2=0.5)
    assert report(asha, "first", 4, r2=0.2) == "STOP"


def test_a_decision_is_made_again_after_a_crash():
    """It was noted where the trial stood, and maybe not that it was stopped."""
    seen = {2: {"good": at(mse=0.1, epoch=2), "bad": at(mse=9.0, epoch=2)}}
    asha, kept = scheduler(MSE, seen=seen)
    assert report(asha, "bad", 2, mse=9.0) == "STOP"
    assert report(asha, "good", 3, mse=0.1) == "CONTINUE"
    assert kept == []


def test_where_validations_are_rare_the_pace_is_that_between_two_of_them():
    """Every fourth epoch: 4 stands for the half of rung 10, 12 for the rung."""
    halving = {4: 0.4, 8: 0.2, 12: 0.4 / 3}
    asha, _ = scheduler(MSE, epochs=(10,), factor=9, n_epochs=24)
    for epoch in (4, 8, 12):
        report(asha, "first", epoch, mse=0.06)
    decisions = [report(asha, "late", epoch, mse=mse) for epoch, mse in halving.items()]
    assert decisions == ["CONTINUE"] * 3  # 0.13 at epoch 12, at this pace 0.0 at epoch 24
    decisions = [report(asha, "slow", epoch, mse=0.2 - epoch / 1000) for epoch in halving]
    assert decisions == ["CONTINUE", "CONTINUE", "STOP"]
    asha, _ = scheduler(MSE, epochs=(10,), factor=9, n_epochs=24)
    report(asha, "first", 12, mse=0.06)
    assert report(asha, "without a pace", 12, mse=9.0) == "CONTINUE"


def test_one_objective_keeps_the_best_part():
    asha, _ = scheduler(MSE, factor=3)
    for value in range(9):
        report(asha, str(value), 2, mse=value)
    assert [name for name in map(str, range(9)) if asha.goes_on(name, 2)] == ["0", "1", "2"]


def test_several_objectives_keep_the_front():
    asha, _ = scheduler(BOTH)
    front = {"a": (1, 0.1), "b": (2, 0.5), "c": (3, 0.9)}
    behind = {"d": (2, 0.4), "e": (3, 0.5), "f": (4, 0.8)}
    for name, (mse, r2) in {**behind, **front}.items():
        report(asha, name, 2, mse=mse, r2=r2)
    assert {name for name in [*front, *behind] if asha.goes_on(name, 2)} == set(front)


def test_of_a_front_none_is_stopped_however_large_the_factor():
    """Chance would stop the one that the rule of the stage is going to choose."""
    asha, _ = scheduler(BOTH, factor=9)
    for i in range(6):
        assert report(asha, str(i), 2, mse=i, r2=i / 10) == "CONTINUE"
    assert report(asha, "behind", 2, mse=3.5, r2=0.3) == "STOP"
    assert report(asha, "collapsed", 2, mse=9, r2=9, units=0) == "STOP"
    assert report(asha, "without a value", 2, mse=-1) == "STOP"
    assert all(asha.goes_on(name, 2) for name in "012345")


def test_what_misses_a_requirement_is_behind_what_meets_it_however_good():
    asha, kept = scheduler(MSE)
    assert report(asha, "fine", 2, mse=9.0) == "CONTINUE"
    assert report(asha, "collapsed", 2, mse=0.0, units=0) == "STOP"
    assert kept == [("fine", 2, at(mse=9.0)), ("collapsed", 2, at(mse=0.0, units=0))]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_what_is_not_a_number_is_behind_everything(value):
    asha, _ = scheduler(MSE)
    metrics = {} if value is None else {"mse": value}
    assert report(asha, "fine", 2, mse=1e9) == "CONTINUE"
    assert report(asha, "broken", 2, **metrics) == "STOP"


def test_a_rung_that_validation_jumps_over_still_counts():
    asha, kept = scheduler(MSE)
    report(asha, "a", 7, mse=0.5)
    assert kept == [("a", 4, at(mse=0.5))]


def test_what_was_seen_before_a_crash_counts():
    asha, kept = scheduler(MSE, seen={2: {"old": at(mse=0.1, epoch=2)}})
    assert report(asha, "new", 2, mse=0.2) == "STOP"
    assert report(asha, "old", 2, mse=0.1) == "CONTINUE"
    assert kept == [("new", 2, at(mse=0.2))]


def test_the_last_report_of_a_finished_or_failed_trial_stops_nothing():
    asha, kept = scheduler(
        MSE, seen={2: {"other": at(mse=0.1, epoch=2), "done": at(mse=5.0, epoch=2)}}
    )
    for end in ({"is_finished": True}, {"failure": "diverged"}):
        result = to_result(TrialReport("done", 9, {}, **end))
        assert asha.on_trial_result(None, None, result) == "CONTINUE"
    assert kept == []


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=20),
    st.sampled_from([1.5, 2.0, 3.0]),
)
def test_the_front_and_as_many_as_asked_go_on_none_before_its_better(points, factor):
    asha, _ = scheduler(BOTH, factor=factor)
    for index, (a, b) in enumerate(points):
        report(asha, str(index), 2, mse=a, r2=-b)
    kept = {index for index in range(len(points)) if asha.goes_on(str(index), 2)}
    front = {
        index
        for index, (a, b) in enumerate(points)
        if not any(c <= a and d <= b and (c, d) != (a, b) for c, d in points)
    }
    assert front <= kept
    assert len(kept) in {len(front), int(np.ceil(len(points) / factor))}
    assert len(kept) >= len(points) / factor
    for loser in kept:
        for winner in range(len(points)):
            (a, b), (c, d) = points[winner], points[loser]
            if a < c and b < d:
                assert winner in kept


def median(objectives=MSE, seen=None, grace=2, min_trials=2, n_epochs=1):
    kept = Recorder()
    stage = stage_of(objectives)
    return MedianStop(stage, stand, seen or {}, kept, n_epochs, grace, min_trials), kept


def test_a_trial_worse_than_the_median_of_the_others_is_stopped():
    rule, kept = median()
    for name, value in {"a": 1.0, "b": 2.0, "c": 3.0}.items():
        for epoch in (1, 2, 3):
            assert report(rule, name, epoch, mse=value) == (
                "STOP" if name == "c" and epoch == 2 else "CONTINUE"
            )
            if name == "c" and epoch == 2:
                break
    assert ("a", 2, at(mse=1.0)) in kept
    assert ("c", 2, at(mse=3.0)) in kept


def test_too_few_other_trials_stop_and_pause_nothing():
    rule, _ = median(min_trials=2)
    assert report(rule, "a", 2, mse=1.0) == "CONTINUE"
    assert report(rule, "b", 2, mse=9.0) == "CONTINUE"
    assert report(rule, "c", 2, mse=9.0) == "STOP"


@pytest.mark.parametrize("metrics", [{}, {"mse": math.nan}, {"mse": math.inf}])
def test_a_trial_without_a_value_is_worse_than_any_median(metrics):
    rule, kept = median()
    assert report(rule, "broken", 2, **metrics) == "CONTINUE"  # nothing to compare with
    for name, mse in (("a", 1.0), ("b", 2.0)):
        for epoch in (2, 3):
            report(rule, name, epoch, mse=mse)
    assert report(rule, "broken", 3, **metrics) == "STOP"
    assert kept[0] == ("broken", 2, at())


def test_a_good_value_inside_the_annealing_does_not_save_a_trial():
    rule, _ = median(R2)
    for name in ("a", "b"):
        for epoch in (1, 2, 3):
            report(rule, name, epoch, r2=0.8)
    assert report(rule, "c", 1, r2=0.99) == "CONTINUE"
    assert report(rule, "c", 2, r2=0.3) == "STOP"


def test_the_median_knows_what_was_seen_before_a_crash():
    seen = {
        2: {name: at(mse=1.0, epoch=2) for name in "ab"},
        3: {"a": at(mse=1.0, epoch=3)},
    }
    rule, kept = median(seen=seen)
    assert report(rule, "a", 2, mse=1.0) == "CONTINUE"  # trained again
    assert report(rule, "c", 2, mse=5.0) == "STOP"
    assert kept == [("c", 2, at(mse=5.0))]


def test_the_median_leaves_the_end_of_a_trial_alone():
    rule, kept = median(seen={2: {name: at(mse=1.0, epoch=2) for name in "ab"}})
    for end in ({"is_finished": True}, {"failure": "diverged"}):
        result = to_result(TrialReport("c", 9, {}, **end))
        assert rule.on_trial_result(None, None, result) == "CONTINUE"
    assert kept == []


class RayTrial(NamedTuple):
    trial_id: str


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.floats(0, 1)), max_size=60),
    st.sampled_from(["min", "max"]),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_the_median_decides_as_rays_rule_does(reports, goal, grace, min_trials):
    """Ray's rule is told of no epoch before the grace period, whose values it would count."""
    key, metric = ("mse", "val/frame_mse") if goal == "min" else ("r2", "val/label_r2")
    rule, _ = median({metric: goal}, grace=grace, min_trials=min_trials)
    rays = MedianStoppingRule("epoch", metric, goal, grace, min_trials, np.inf)
    epochs, stopped, best = Counter(), set(), {}
    for name, drawn in reports:
        if name in stopped:
            continue
        epochs[name] += 1
        better = min if goal == "min" else max
        value = best[name] = better(drawn, best.get(name, drawn))
        decision = report(rule, name, epochs[name], **{key: value})
        if epochs[name] >= grace:
            result = {"epoch": epochs[name], metric: value}
            assert decision == rays.on_trial_result(None, RayTrial(name), result)
        if decision == "STOP":
            stopped.add(name)
