"""Studies that Optuna searches, as a user runs them: the command, a real Ray, a real store."""

import signal

import pytest
import yaml
from optuna.trial import TrialState

from psvae_tune.config.study import parse_study
from psvae_tune.data.demo import write_demo
from psvae_tune.data.session_file import read_session
from psvae_tune.search.sampler import StageSampler
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trial_spec import StageContext
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import StudyFolder
from tests.support.tiny_study import LEARNING_RATES, STUDY, command, finish, runs_of, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEARCH = {
    "algorithm": "optuna",
    "num_trials": 10,
    "space": {
        "ps_vae.alpha": {"loguniform": [1, 1000]},
        "learning_rate": {"choice": LEARNING_RATES},
    },
    "points_to_evaluate": [{"ps_vae.alpha": 50, "learning_rate": LEARNING_RATES[0]}],
    "objectives": {"val/frame_mse": "min", "val/label_r2": "max"},
    "select": {"knee": ["val/frame_mse", "val/label_r2"], "require": {"val/label_r2": ">= -1"}},
}

ONE_AT_A_TIME = {"max_concurrent_trials": 1}
"""Spares the start of a second worker, which takes longer than a trial."""


def make_study(folder, resources=None, **search):
    write_demo(folder / "demo.h5", n_clips=12, clip_length=20, size=16)
    raw = {**STUDY, "search": {**SEARCH, **search}, "resources": resources or {}}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def suggestions(folder):
    """Return the suggestions of the study in a folder, from its journal alone."""
    kept = StudyFolder(folder / "out/study")
    study = parse_study(kept.read_study_file(), "study.yaml", n_labels=4)
    digest = read_session(folder / "demo.h5", needs_labels=True).digest
    (stage,) = study.stages
    target = TrackingTarget(**kept.read_tracking(), study="study")
    context = StageContext(stage, study.base, kept, target, (digest,), 4)
    return StageSampler(context, StageJournal(kept, stage.name, context.settings_id))


def test_stopped_trials_are_pruned_and_only_finished_ones_complete(tmp_path):
    asha = {"asha": {"reduction_factor": 2}}
    file = make_study(tmp_path, scheduler=asha)
    _, err = finish(command(tmp_path, "run", str(file), "--output", "out", "--name", "study"))
    assert "Traceback" not in err
    runs = {run.data.tags["psvae_tune.trial_id"]: run for run in runs_of(tmp_path, "trial")}
    sampler = suggestions(tmp_path)
    specs, trials = sampler.specs(), sampler.study().trials
    assert len(runs) == len(specs) == 10
    assert specs[0].params == SEARCH["points_to_evaluate"][0]
    by_trial = {
        suggestion.trial_id: trial
        for suggestion, trial in zip(sampler.journal.suggestions(), trials, strict=True)
    }
    finished = {name for name, run in runs.items() if "test/frame_mse" in run.data.metrics}
    assert 0 < len(finished) < 10
    for name, trial in by_trial.items():
        assert trial.state == (TrialState.COMPLETE if name in finished else TrialState.PRUNED)
        if name in finished:
            best = [runs[name].data.metrics[f"best/{key}"] for key in ("frame_mse", "label_r2")]
            assert trial.values == pytest.approx(best)
            assert trial.constraints["val/label_r2"] == pytest.approx(-1 - best[1])
        else:
            assert trial.values is None


def test_a_sampled_study_whose_driver_is_killed_ends_as_if_it_had_not_been(tmp_path):
    """It is resumed with the budget of the other one, which is larger than it was at first."""
    names = {}
    for case, n_trials in (("whole", 3), ("killed", 2)):
        folder = tmp_path / case
        folder.mkdir()
        file = make_study(folder, ONE_AT_A_TIME, num_trials=n_trials)
        process = command(folder, "run", str(file), "--output", "out", "--name", "study")
        if case == "killed":
            journal = folder / "out/study/journal.jsonl"
            wait_for(
                lambda journal=journal: (
                    journal.exists() and journal.read_text().count('"event": "ask"') == 2
                ),
                process,
            )
            process.send_signal(signal.SIGKILL)
            process.communicate()
            process = command(folder, "resume", "out/study", "--set", "search.num_trials=3")
        _, err = finish(process)
        names[case] = [spec.name for spec in suggestions(folder).specs()]
        statuses = [run.info.status for run in runs_of(folder, "trial")]
        assert statuses == ["FINISHED"] * 3
    assert "stage search: 3 trials, 1 of them known already" in err
    assert names["killed"] == names["whole"]


def test_only_the_survivors_of_shorter_schedules_train_in_full(tmp_path):
    grid = {"ps_vae.alpha": {"grid_search": [1, 10, 100, 1000]}}
    objectives = {"val/frame_mse": "min", "val/label_r2": "max"}
    search = {"space": grid, "objectives": objectives, "select": {"best": "val/label_r2"}}
    write_demo(tmp_path / "demo.h5", n_clips=12, clip_length=20, size=16)
    raw = {
        **STUDY,
        "search": {**search, "fidelity": {"schedule": {"reduction_factor": 2}}},
        "resources": ONE_AT_A_TIME,
    }
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(raw))
    out, err = finish(command(tmp_path, "run", str(file), "--output", "out", "--name", "study"))
    assert "stage search: 4 trials at 1/4 of the epochs" in err
    assert "stage search: 2 trials at 1/2 of the epochs" in err
    runs = runs_of(tmp_path, "trial")
    lengths = {}
    for run in runs:
        rung = run.data.tags.get("psvae_tune.rung", "full")
        lengths.setdefault(rung, []).append(int(run.data.params["max_n_epochs"]))
        assert "test/frame_mse" in run.data.metrics
        factor = {"1/4": 4, "1/2": 2, "full": 1}[rung]
        assert int(run.data.params["ps_vae.anneal_epochs"]) == max(1, round(2 / factor))
    assert lengths == {"1/4": [2] * 4, "1/2": [4] * 2, "full": [8]}
    (chosen,) = [run for run in runs if "psvae_tune.selected" in run.data.tags]
    assert "psvae_tune.rung" not in chosen.data.tags
    assert "at 1/2 of the epochs (did not complete)" in out
    _, err = finish(command(tmp_path, "resume", "out/study"))
    assert "stage search: 4 trials at 1/4 of the epochs, 4 of them known already" in err
    assert len(runs_of(tmp_path, "trial")) == 7
