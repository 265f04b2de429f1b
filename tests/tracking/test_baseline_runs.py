"""Baselines are logged once, whatever an earlier start had logged."""

import pytest

from psvae_tune.tracking.baseline_runs import SCORES, log_baselines
from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.study_run import StudyRun

FOUND = {
    "n_unsupervised": 2.0,
    "mean_frame_mse": 0.02,
    "pca_frame_mse": 0.009,
    "ridge_label_r2": 0.9,
    "ridge_label_r2/paw": 0.8,
    "residual_pca_frame_mse": 0.01,
    "components_hidden_correlation": 0.4,
    "components_hidden_gain": 0.3,
}


@pytest.fixture
def study_run(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return StudyRun.open(open_target(uri, "baselines", "study", tmp_path / "artifacts"), {})


def baselines(study_run):
    target = study_run.target
    runs = target.client().search_runs(
        [target.experiment_id], "tags.`psvae_tune.kind` = 'baseline'"
    )
    return {run.info.run_name: run for run in runs}


def check(study_run):
    runs = baselines(study_run)
    assert {name: run.data.metrics for name, run in runs.items()} == {
        "baseline: ridge regression on the pixels": {
            "best/label_r2": 0.9,
            "best/label_r2/paw": 0.8,
        },
        "baseline: PCA with 6 components": {"best/frame_mse": 0.009},
        "baseline: a regression on the labels with 2 components of the rest": {
            "best/frame_mse": 0.01,
        },
        "baseline: components of what the other labels leave": {
            "best/hidden_correlation": 0.4,
            "best/hidden_gain": 0.3,
        },
        "baseline: the mean frame": {"best/frame_mse": 0.02},
    }
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    run = study_run.target.client().get_run(study_run.run_id)
    assert run.data.metrics == {f"{SCORES}{name}": value for name, value in FOUND.items()}


def test_a_second_start_measures_nothing_and_logs_nothing(study_run):
    log_baselines(study_run, lambda: FOUND, 6)
    check(study_run)
    before = {name: run.info.run_id for name, run in baselines(study_run).items()}
    log_baselines(study_run, pytest.fail, 6)
    check(study_run)
    assert {name: run.info.run_id for name, run in baselines(study_run).items()} == before


def test_a_study_of_an_earlier_version_gets_its_runs(study_run):
    client = study_run.target.client()
    for name, value in FOUND.items():
        client.log_metric(study_run.run_id, f"{SCORES}{name}", value)
    log_baselines(study_run, pytest.fail, 6)
    check(study_run)


def test_a_start_that_was_cut_off_is_made_good(study_run):
    log_baselines(study_run, lambda: FOUND, 6)
    client = study_run.target.client()
    first, second, *_ = baselines(study_run).values()
    client.update_run(first.info.run_id, status="RUNNING")
    client.delete_run(second.info.run_id)
    log_baselines(study_run, lambda: FOUND, 6)
    check(study_run)
