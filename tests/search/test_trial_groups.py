"""TrialGroups of trials follow one another, and no trial is handed out twice or lost."""

import signal
from types import SimpleNamespace

import numpy as np
import pytest
import ray
from ray.exceptions import RayActorError
from ray.tune.search import Searcher

from psvae_tune.search.callback import JournalCallback
from psvae_tune.search.searcher import StudySearcher
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trial_groups import TrialGroup, TrialGroups
from psvae_tune.search.trial_spec import StageContext, TrialSpec
from psvae_tune.search.tuner import restore_sigint, wait_for_each
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import StudyFolder
from tests.support.studies import make_config, make_stage


class TuneTrial(SimpleNamespace):
    """A trial as Ray Tune hands it to schedulers and callbacks."""

    def is_finished(self):
        return self.has_ended

    def get_error(self):
        return RayActorError()

    __hash__ = object.__hash__


@pytest.fixture
def batch_of(tmp_path, monkeypatch):
    """Return a maker of groups, whose contexts stay here instead of in Ray's object store."""
    monkeypatch.setattr(ray, "put", lambda value: value)
    folder = StudyFolder(tmp_path / "study")
    target = TrackingTarget(f"sqlite:///{tmp_path}/mlflow.db", "0", "study")
    context = StageContext(make_stage(), make_config(), folder, target, ("digest",), 2)
    journal = StageJournal(folder, "alpha", context.settings_id)

    def make(names, max_live=np.inf):
        return TrialGroup(
            [TrialSpec({}, name, name) for name in names], context, journal, max_live
        )

    return make


@pytest.mark.parametrize("seed", range(20))
def test_a_batch_begins_when_all_trials_of_the_one_before_have_ended(batch_of, seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, size=4)
    limits = rng.integers(1, 5, size=4)
    names = [[f"{row}.{column}" for column in range(size)] for row, size in enumerate(sizes)]
    made = iter([batch_of(row, limit) for row, limit in zip(names, limits, strict=True)])
    groups = TrialGroups(next(made), made)
    searcher, live, order = StudySearcher(groups), {}, []
    while (found := searcher.suggest("id")) != Searcher.FINISHED:
        if found is not None:
            name = TrialSpec.from_ray(found).trial_id
            order.append(name)
            live[name] = TuneTrial(has_ended=False)
            groups.live.add(live[name])
            assert len(live) <= limits[int(name[0])]
            assert {other[0] for other in live} == {name[0]}
        if found is None or rng.random() < 0.3:
            live.pop(rng.choice(list(live))).has_ended = True
    assert not live
    assert order == [name for row in names for name in row]


def test_a_trial_that_met_a_dead_worker_is_handed_out_again(batch_of):
    groups = TrialGroups(batch_of(["first"]), iter(()))
    searcher, callback = StudySearcher(groups), JournalCallback(groups, observer=None)
    journal, config = groups.current.journal, searcher.suggest("id")
    trial = TuneTrial(has_ended=True, trial_id="id", config=config)
    # Ray Tune counts the death of an idle worker twice within one step.
    callback.on_trial_recover(iteration=7, trials=[], trial=trial)
    callback.on_trial_error(iteration=7, trials=[], trial=trial)
    assert not journal.trial_ends()
    assert searcher.suggest("another")["spec"] == config["spec"]
    # A worker that dies while it trains, or starts, does so in a later step.
    callback.on_trial_recover(iteration=8, trials=[], trial=trial)
    callback.on_trial_error(iteration=9, trials=[], trial=trial)
    assert journal.trial_ends()["first"].outcome == "failed"
    assert searcher.suggest("yet another") == Searcher.FINISHED


def test_ctrl_c_interrupts_the_wait_for_a_batch_and_nothing_later(batch_of):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    caught = []

    def decide():
        yield batch_of(["first"])
        signal.raise_signal(signal.SIGINT)
        yield batch_of(["second"])

    try:
        with restore_sigint() as interruptible:
            signal.signal(signal.SIGINT, lambda *_: caught.append("by Ray Tune"))
            groups = wait_for_each(decide(), interruptible)
            next(groups)
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                next(groups)
        assert caught == ["by Ray Tune"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
