"""The outcome of a study as a notebook holds it, of a study fitted in this process."""

import subprocess
import sys

import numpy as np
import pytest
import yaml

import psvae_tune as pt
from psvae_tune.data.demo import write_demo
from psvae_tune.results.study_result import StudyResult
from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.study_run import StudyRun
from tests.support.logged_studies import log_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    demo = folder / "demo.h5"
    write_demo(demo, n_clips=10, clip_length=12)
    log_study(folder, demo, "study", n_failed=1)
    return folder


@pytest.fixture
def result(folder):
    return pt.open_study("study", output=folder)


def test_a_study_is_opened_by_its_name_and_by_its_folder(folder, result):
    log = pt.open_study(folder / "study")
    assert log.name == result.name == "study"
    assert "3 trials, chosen alpha=" in repr(result)


@pytest.mark.slow
def test_a_study_is_looked_at_without_torch(folder):
    code = (
        "import sys, psvae_tune as pt\n"
        f"study = pt.open_study('study', output={str(folder)!r})\n"
        "assert study.report(sys.argv[1])\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder / "report.html")], check=True)


def test_the_table_holds_what_mlflow_holds(result):
    table = result.trials()
    assert list(table.index) == ["alpha=10", "alpha=100", "alpha=1000"]
    assert list(table["ps_vae.alpha"]) == [10, 100, 1000]
    assert list(table["state"][:2]) == ["finished", "finished"]
    assert table["state"].iloc[2] == "no longer finite"
    assert np.isnan(table["test/frame_mse"].iloc[2])
    for record in result.logged.finished:
        row = table[table["run_id"] == record.run_id].iloc[0]
        for key in ("best/frame_mse", "best/label_r2", "test/label_r2"):
            assert row[key] == record.metrics[key]


def test_the_front_is_what_no_other_trial_dominates(result):
    table = result.trials().dropna(subset=["best/frame_mse"])
    errors, r2s = table["best/frame_mse"], table["best/label_r2"]
    expected = [
        name
        for name in table.index
        if not any(
            errors[o] <= errors[name]
            and r2s[o] >= r2s[name]
            and (errors[o] < errors[name] or r2s[o] > r2s[name])
            for o in table.index
        )
    ]
    assert list(result.pareto_front().index) == expected


def test_the_choice_and_its_model_are_those_of_the_rule(result):
    table = result.trials()
    assert result.best.name == table["best/frame_mse"].idxmin()
    sentence, *reasons = result.explain()
    assert f"ps_vae.alpha = {result.best.params['ps_vae.alpha']:g} " in sentence
    assert reasons
    model = result.best_model()
    assert model.model.config.label_weight == result.best.params["ps_vae.alpha"]


@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # of MLflow, which it may not see
def test_a_person_may_choose_otherwise_and_promote_that(folder, result):
    other = next(r for r in result.logged.finished if r.run_id != result.best.run_id)
    changed = result.choose(other.name, "clearer")
    assert changed.best.run_id == other.run_id
    assert "clearer" in " ".join(changed.explain())
    uri = changed.promote("mouse")
    loaded = pt.load_model(uri, output=folder)
    frames = np.zeros((2, 1, 32, 32), np.uint8)
    assert np.array_equal(loaded.transform(frames), changed.best_model().transform(frames))


def test_a_report_goes_to_a_file_or_to_the_run(result, tmp_path):
    content = result.report(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == content
    assert b"alpha=100" in content
    assert result.report().startswith(b"<!")
    with pytest.raises(pt.PsvaeTuneError, match="cannot be written"):
        result.report(tmp_path)


def test_trials_that_are_not_there_or_not_finished_are_refused(result):
    with pytest.raises(pt.PsvaeTuneError, match="did you mean 'alpha=10'"):
        result.choose("alpha=101")
    with pytest.raises(pt.PsvaeTuneError, match="has not finished"):
        result.choose("alpha=1000")


def test_a_study_without_trials_says_so(tmp_path):
    target = open_target(f"sqlite:///{tmp_path}/mlflow.db", "empty", "empty", tmp_path / "files")
    StudyRun.open(target, {}).close("FAILED")
    result = pt.open_study("empty", tracking_uri=target.uri)
    assert isinstance(result, StudyResult)
    assert "0 trials, nothing chosen yet" in repr(result)
    assert len(result.trials()) == len(result.pareto_front()) == 0
    assert "Nothing is recommended yet" in result.explain()[0]
    with pytest.raises(pt.PsvaeTuneError, match="has no chosen trial yet"):
        result.best_model()


def test_a_study_of_an_earlier_version_is_opened_as_it_was(folder):
    """Its file holds a setting that is gone, and compares what may not be compared any more."""
    write_demo(folder / "old.h5", n_clips=10, clip_length=12)
    study = log_study(folder, folder / "old.h5", "old")
    contents = yaml.safe_load(study.read_artifact(study.run_id, "study.yaml"))
    contents["search"] |= {
        "constraints": {"val/label_r2": ">= 0.1"},
        "objectives": {"test/frame_mse": "min", "val/label_r2": "max"},
    }
    StudyRun(study.target, study.run_id).log_text(yaml.safe_dump(contents), "study.yaml")
    old = pt.open_study("old", output=folder)
    assert list(old.pareto_front().index) == list(study_front(old))
    assert b"alpha=10" in old.report(folder / "old.html")


def study_front(result):
    table = result.trials()
    errors, r2s = table["test/frame_mse"], table["best/label_r2"]
    for name in table.index:
        dominates = (errors <= errors[name]) & (r2s >= r2s[name])
        if not (dominates & ((errors < errors[name]) | (r2s > r2s[name]))).any():
            yield name
