"""The front of a study holds only trials that meet what is required of them."""

import copy

import numpy as np
import pytest
import yaml

from psvae_tune.results.logged_study import LoggedStudy
from psvae_tune.results.trial_record import TrialRecord
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.trial_result import N_UNSUPERVISED
from tests.support.study_texts import FILE

STAGES = [
    {"name": "free", "select": {"best": "val/frame_mse"}},
    {"name": "bound", "select": {"best": "val/frame_mse", "require": {"val/label_r2": ">= 0.3"}}},
    {"name": "whole", "select": {"best": "val/frame_mse", "require": {"val/active_units": "all"}}},
]


def make_study(folder, stages, n_trials=60, seed=0):
    """Return a study of made-up trials, some of which lack a metric that a rule asks for."""
    rng = np.random.default_rng(seed)
    raw = copy.deepcopy(FILE)
    raw["search"] = {"stages": [{**FILE["search"], **stage} for stage in stages]}
    (folder / "study.yaml").write_text(yaml.safe_dump(raw))
    trials = []
    for i in range(n_trials):
        metrics = {
            "best/epoch": 3.0,
            "best/frame_mse": round(rng.uniform(0.1, 0.2), 2),
            "best/label_r2": round(rng.uniform(0, 1), 1),
            "best/active_units": float(rng.integers(1, 4)),
        }
        if i % 10 == 0:
            del metrics["best/active_units"]
        stage = stages[i % len(stages)]["name"]
        params = {"ps_vae.alpha": i, N_UNSUPERVISED: int(rng.integers(1, 4))}
        trial = TrialRecord(
            f"run{i}", f"t{i}", f"t{i}", stage, "FINISHED", "", params, metrics, False
        )
        trials.append(trial)
    target = TrackingTarget(f"sqlite:///{folder}/none.db", "0", "study")
    return LoggedStudy(target, "run", "FINISHED", "x", {}, tuple(trials), folder.as_uri())


def meets(trial):
    if trial.stage == "bound":
        return trial.metrics["best/label_r2"] >= 0.3
    if trial.stage == "whole":
        return trial.metrics.get("best/active_units", 0) >= trial.params[N_UNSUPERVISED]
    return True


@pytest.mark.parametrize("seed", range(5))
def test_no_trial_of_those_that_meet_is_better_than_one_of_the_front(tmp_path, seed):
    study = make_study(tmp_path, STAGES, seed=seed)
    meeting = [trial for trial in study.trials if meets(trial)]
    assert 10 < len(meeting) < len(study.trials)

    def is_beaten(trial):
        error, r2 = trial.metrics["best/frame_mse"], trial.metrics["best/label_r2"]
        pairs = [(t.metrics["best/frame_mse"], t.metrics["best/label_r2"]) for t in meeting]
        return any(e <= error and r >= r2 and (e, r) != (error, r2) for e, r in pairs)

    assert study.front() == [trial for trial in meeting if not is_beaten(trial)]


def test_what_the_front_is_of_is_said(tmp_path):
    assert make_study(tmp_path, STAGES[:1]).front_meaning == "no trial is better in both"
    bound = make_study(tmp_path, STAGES)
    assert bound.front_meaning == "no trial that meets what is required is better in both"
