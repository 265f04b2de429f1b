"""Whole studies as a user runs them: the command, a real Ray, a real MLflow store."""

import json
import os
import re
from pathlib import Path

import mlflow
import numpy as np
import pytest

from psvae_tune.config.wording import without_zeros
from psvae_tune.data.session_file import read_session
from tests.support.tiny_study import LEARNING_RATES, command, finish, make_study, runs_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory):
    """Return the folder and the output of a finished study of 16 trials."""
    folder = tmp_path_factory.mktemp("sixteen")
    file = make_study(folder, 16)
    out, err = finish(command(folder, "run", str(file), "--output", "out", "--name", "study"))
    return folder, out, err


def test_sixteen_trials_leave_sixteen_ended_runs_and_one_study(sixteen):
    folder, _, _ = sixteen
    trials, (study,) = runs_of(folder, "trial"), runs_of(folder, "study")
    assert len(trials) == 16
    assert {run.info.status for run in [*trials, study]} == {"FINISHED"}
    assert {run.info.run_name for run in trials} == {
        f"learning_rate={rate:g} alpha={1 + 10 * i:02}"
        for i in range(8)
        for rate in LEARNING_RATES
    }
    stopped = [run for run in trials if "test/label_r2" not in run.data.metrics]
    assert 0 < len(stopped) < 16
    for run in trials:
        reason = run.data.tags["psvae_tune.stop_reason"]
        assert reason.startswith("stopped early at epoch") == (run in stopped)


def test_workers_are_reused(sixteen):
    folder, _, _ = sixteen
    workers = {run.data.tags["psvae_tune.worker"] for run in runs_of(folder, "trial")}
    assert len(workers) <= len(os.sched_getaffinity(0))


def test_a_study_that_ended_leaves_no_checkpoint(sixteen):
    folder, _, _ = sixteen
    assert not (folder / "out/study/checkpoints").exists()


def test_a_run_holds_what_a_reader_needs(sixteen):
    folder, _, _ = sixteen
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'out' / 'mlflow.db'}")
    run = next(r for r in runs_of(folder, "trial") if "test/label_r2" in r.data.metrics)
    assert run.data.params["ps_vae.beta"] == "1.0"
    assert float(run.data.params["alpha_normalised"]) == pytest.approx(
        float(run.data.params["ps_vae.alpha"]) * 4 / 256
    )
    steps = [item.step for item in client.get_metric_history(run.info.run_id, "val/frame_mse")]
    assert steps == list(range(1, 9))
    best = [item.value for item in client.get_metric_history(run.info.run_id, "val/frame_mse")]
    assert run.data.metrics["best/frame_mse"] == min(best[1:])
    assert "test/label_r2/paw_left_x" in run.data.metrics
    (dataset,) = run.inputs.dataset_inputs
    digest = read_session(folder / "demo.h5", needs_labels=True).digest
    assert digest.startswith(dataset.dataset.digest)
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "model.pt"} <= files


@pytest.mark.filterwarnings("ignore:.*type hint is inferred as AnyType:UserWarning")
def test_the_chosen_model_answers_in_the_users_units(sixteen):
    folder, out, _ = sixteen
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'out' / 'mlflow.db'}")
    uri = re.search(r"^model +(\S+)$", out, re.M)[1]
    session = read_session(folder / "demo.h5", needs_labels=True)
    found = mlflow.pyfunc.load_model(uri).predict(session.frames)
    assert found["latents"].shape == (240, 6)
    for index in range(4):
        valid = session.label_masks[:, index]
        truth, guess = session.labels[valid, index], found["labels"][valid, index]
        assert abs(np.mean(guess) - np.mean(truth)) < 1  # pixels


def test_the_output_tells_the_pick_and_where_to_look(sixteen):
    folder, out, err = sixteen
    selection = json.loads((folder / "out/study/selection.json").read_text())
    chosen = selection["search"]["name"]
    assert re.search(rf"^pick +{chosen}$", out, re.M)
    (run,) = [r for r in runs_of(folder, "trial") if "psvae_tune.selected" in r.data.tags]
    assert without_zeros(run.info.run_name) == chosen
    assert "psvae-tune ui --output" in out
    lines = [line for line in err.splitlines() if re.match(r"  \d+/16 ", line)]
    assert len(lines) == 16
    assert "Traceback" not in err
    (study,) = runs_of(folder, "study")
    assert chosen in study.data.tags["mlflow.note.content"]


def test_the_readme_shows_the_lines_that_are_printed(sixteen, root):
    _, out, _ = sixteen
    readme = (root / "README.md").read_text()
    shown = re.search(r"<!-- sample:run -->\n```\n(.*?)```", readme, re.S)[1]
    names = [line.split()[0] for line in shown.splitlines()]
    assert names == [line.split()[0] for line in out.splitlines()[-len(names) :]]
    metrics = re.findall(r"\w+/\w+(?= [\d.]+)", shown)
    scores = re.search(r"^scores .*$", out, re.M)[0]
    assert all(metric in scores for metric in metrics)


def test_a_name_that_the_store_knows_from_elsewhere_is_refused(sixteen, tmp_path):
    folder, _, _ = sixteen
    store = f"sqlite:///{folder / 'out' / 'mlflow.db'}"
    call = ("run", str(folder / "study.yaml"), "--output", str(tmp_path), "--name", "study")
    process = command(folder, *call, "--tracking-uri", store)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "is in the experiment 'tiny' already" in err
    assert not (tmp_path / "study").exists()


def metrics_of(folder: Path) -> dict[str, dict[str, float]]:
    """Return the metrics of every trial, but not what it cost, which differs each time."""
    return {
        run.info.run_name: {
            key: value for key, value in run.data.metrics.items() if not key.startswith("perf/")
        }
        for run in runs_of(folder, "trial")
    }


def test_a_name_that_is_taken_is_refused(sixteen):
    folder, _, _ = sixteen
    process = command(folder, "run", "study.yaml", "--output", "out", "--name", "study")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "psvae-tune resume" in err


def test_resuming_a_study_that_has_ended_trains_nothing_and_keeps_the_choice_of_a_person(sixteen):
    """It comes last, because it changes the choice."""
    folder, first, _ = sixteen
    before = metrics_of(folder)
    (pick,) = [run for run in runs_of(folder, "trial") if "psvae_tune.selected" in run.data.tags]
    other = next(
        run
        for run in runs_of(folder, "trial")
        if run.info.run_id != pick.info.run_id and "test/label_r2" in run.data.metrics
    )
    name, reason = other.info.run_name, "one latent, one movement"
    finish(command(folder, "choose", "out/study", "--trial", name, "--reason", reason))
    out, err = finish(command(folder, "resume", "out/study"))
    assert "16 of them known already" in err
    assert re.search(r"^pick .*$", out, re.M)[0] == re.search(r"^pick .*$", first, re.M)[0]
    assert metrics_of(folder) == before
    models = [re.search(r"^model +(\S+)$", text, re.M)[1] for text in (out, first)]
    assert models[0] == models[1]
    stands = re.escape(without_zeros(name))
    assert re.search(rf"^stands +{stands}, chosen by .+: {reason}$", out, re.M)
    chosen = [run for run in runs_of(folder, "trial") if "psvae_tune.selected" in run.data.tags]
    assert [run.info.run_id for run in chosen] == [other.info.run_id]
    (study,) = runs_of(folder, "study")
    assert reason in study.data.tags["mlflow.note.content"]
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'out' / 'mlflow.db'}")
    for key in ("baseline/ridge_label_r2", "baseline/pca_frame_mse"):
        assert len(client.get_metric_history(study.info.run_id, key)) == 1
    scores = {run.info.run_name: run.data.metrics for run in runs_of(folder, "baseline")}
    assert len(scores) == 4
    ridge = scores["baseline: ridge regression on the pixels"]
    assert ridge["best/label_r2"] == study.data.metrics["baseline/ridge_label_r2"]
    assert ridge.keys() > {"best/label_r2/paw_left_x"}
    mean = scores["baseline: the mean frame"]
    assert mean == {"best/frame_mse": study.data.metrics["baseline/mean_frame_mse"]}
    assert "ridge regression on the pixels has" in study.data.tags["mlflow.note.content"]
