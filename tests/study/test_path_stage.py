"""The walk of a stage through weights, its trainings left to the test; and one as users run it."""

import signal

import pytest
import yaml

from psvae_tune.config.study import Resources
from psvae_tune.config.wording import without_zeros
from psvae_tune.data.demo import write_demo
from psvae_tune.errors import StudyError, StudyInterrupted
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trial_spec import StageContext
from psvae_tune.search.tuner import RunContext
from psvae_tune.study.stages import _StageRunner
from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.folders import StudyFolder
from tests.support.studies import make_config, make_stage
from tests.support.tiny_study import STUDY, command, finish, runs_of, wait_for

GRID = {
    "ps_vae.alpha": {"grid_search": [1, 10, 100]},
    "ps_vae.beta": {"grid_search": [2, 20]},
}


class Notes:
    """Keeps what it is told of stages."""

    def __init__(self):
        self.started = []

    def stage_started(self, stage, n_trials, n_done, rung=None):
        self.started.append((n_trials, n_done))


@pytest.fixture
def walk_path(tmp_path):
    target = open_target(f"sqlite:///{tmp_path / 'mlflow.db'}", "test", "study", tmp_path / "art")
    first = StageContext(make_stage(), make_config(), StudyFolder(tmp_path / "s"), target, (), 2)
    base = first.base.with_params({"ps_vae.alpha": 1, "ps_vae.beta": 2})
    chosen = first.spec({"ps_vae.alpha": 1, "ps_vae.beta": 2})
    stage = make_stage(name="path", space=GRID, start_from="neighbour", epochs=4)
    context = StageContext(
        stage, base, first.folder, target, (), 2, chosen=chosen, keeps_states=True
    )
    done = StageJournal(first.folder, first.stage.name, first.settings_id)
    done.note_end(chosen.trial_id, "finished", "", 4, {"val/frame_mse": 0.5})

    def walk(failing=(), n_fronts=None, keeps=True):
        """Return the trials of each front, as if those of some weights failed."""
        first.folder.last_states.mkdir(parents=True, exist_ok=True)
        if keeps:
            first.folder.last_state(chosen.trial_id).touch()
        journal, notes = StageJournal(first.folder, "path", context.settings_id), Notes()
        runner = _StageRunner(context, RunContext(None, Resources(), 0, notes), journal)
        fronts = []
        for group in runner.train_all():
            fronts.append([*group.specs])
            if len(fronts) == n_fronts:
                continue  # cut off
            for spec in group.specs:
                outcome = "failed" if spec.name in failing else "finished"
                journal.note_end(spec.trial_id, outcome, "", 4, {"val/frame_mse": 0.1})
        return fronts, notes.started

    return walk


def test_every_point_goes_on_from_the_nearest_one_and_a_front_runs_at_once(walk_path):
    fronts, started = walk_path()
    assert [[spec.name for spec in front] for front in fronts] == [
        ["alpha=1 beta=20", "alpha=10 beta=2"],
        ["alpha=10 beta=20", "alpha=100 beta=2"],
        ["alpha=100 beta=20"],
    ]
    assert started == [(6, 1)]  # alpha=1 beta=2 is the trial that was chosen before
    by_id = {spec.trial_id: spec for front in fronts for spec in front}
    last = fronts[-1][0]
    assert last.path[0] == "alpha=1 beta=2"
    assert by_id[last.continuation.parent].name == last.path[-1]


def test_a_point_whose_start_failed_goes_on_from_where_that_one_was_to(walk_path):
    fronts, _ = walk_path(failing={"alpha=10 beta=2"})
    (further,) = [spec for spec in fronts[1] if spec.name == "alpha=100 beta=2"]
    assert further.path == ("alpha=1 beta=2",)
    assert further.continuation.weights == {"ps_vae.alpha": 1, "ps_vae.beta": 2}


def test_a_cut_off_front_is_told_with_the_trials_of_all_fronts(walk_path):
    with pytest.raises(StudyInterrupted, match="3 of 6 trials of stage `path` have ended"):
        walk_path(n_fronts=2)
    fronts, started = walk_path()
    assert [len(front) for front in fronts] == [2, 1]
    assert started == [(6, 3)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_with_a_path_is_cut_off_and_resumed(tmp_path):
    write_demo(tmp_path / "demo.h5", n_clips=12, clip_length=20, size=16)
    goals = {"objectives": {"val/frame_mse": "min"}}
    path = {"start_from": "neighbour", "epochs": 4, **goals}
    stages = [
        {"name": "start", "space": {"ps_vae.alpha": {"grid_search": [10]}}, **goals},
        {"name": "path", "space": {"ps_vae.alpha": {"grid_search": [20, 40, 80]}}, **path},
        {
            "name": "joint",
            "algorithm": "optuna",
            "num_trials": 3,
            "space": {"ps_vae.beta": {"loguniform": [1, 10]}},
            **path,
        },
        {"name": "fresh", "space": {"rng_seed_model": {"grid_search": [0]}}, **goals},
    ]
    raw = {**STUDY, "search": {"stages": stages}, "resources": {"max_concurrent_trials": 1}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw))
    process = command(tmp_path, "run", "study.yaml", "--output", "out", "--name", "study")
    states = tmp_path / "out/study/last_states"
    wait_for(lambda: len(list(states.glob("*.pt"))) == 2, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=100)
    finish(command(tmp_path, "resume", "out/study"))
    runs = {run.data.tags["psvae_tune.trial_id"]: run for run in runs_of(tmp_path, "trial")}
    by_stage = {}
    for run in runs.values():
        by_stage.setdefault(run.data.tags["psvae_tune.stage"], []).append(run)
    assert {name: len(of) for name, of in by_stage.items()} == {
        "start": 1,
        "path": 3,
        "joint": 3,
        "fresh": 1,
    }
    for run in (*by_stage["path"], *by_stage["joint"]):
        parent = runs[run.data.tags["psvae_tune.continued_from"]]
        assert run.data.tags["psvae_tune.path"].endswith(without_zeros(parent.info.run_name))
        assert run.data.params["max_n_epochs"] == "4"
    assert "psvae_tune.path" not in by_stage["fresh"][0].data.tags
    assert by_stage["fresh"][0].data.params["max_n_epochs"] == "8"
    assert not (tmp_path / "out/study/last_states").exists()
    finish(command(tmp_path, "report", "out/study", "--file", "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "8 trials: 8 finished. 6 of them went on from others" in page
    assert "finished, on from alpha=" in page


def test_a_study_that_has_ended_says_that_no_trial_can_be_added(walk_path):
    with pytest.raises(StudyError, match="no further trial of stage `path` can go on from others"):
        walk_path(keeps=False)
