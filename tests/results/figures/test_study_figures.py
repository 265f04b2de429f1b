"""Figures, report and choices of one study, which is fitted in this process.

The file is long because the study takes longer to make than all that is tested on it.
"""

import io
import json
import os
import re
import subprocess
from dataclasses import replace

import mlflow
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from PIL import Image

from psvae_tune.errors import StudyError, TrackingError, UserError
from psvae_tune.results.figures.parameter_figures import (
    draw_panels,
    draw_parallel,
)
from psvae_tune.results.figures.study_figures import (
    draw_front,
)
from psvae_tune.results.figures.style import ORANGE
from psvae_tune.results.logged_study import LoggedStudy, open_study
from psvae_tune.results.publish import publish
from psvae_tune.results.report import make_report
from psvae_tune.results.report_data import explain_choice, make_study_figures
from psvae_tune.results.study_measures import measure_progress
from tests.support.logged_studies import call, data_of, log_study, with_space
from tests.support.pictures import colour_at, open_picture, to_pixel


@pytest.fixture(scope="module")
def study(folder, recording):
    space = {
        "ps_vae.alpha": {"grid_search": [10, 1000]},
        "rng_seed_model": {"grid_search": [0, 1]},
    }
    return log_study(folder, recording, "study", with_space(space))


def test_a_study_comes_back_from_mlflow_alone(study):
    assert [trial.params["ps_vae.alpha"] for trial in study.trials] == [10, 10, 1000, 1000]
    assert study.varied == ["ps_vae.alpha", "rng_seed_model"]
    assert study.front_metrics == ("frame_mse", "label_r2")
    best = min(study.finished, key=lambda trial: trial.metrics["best/frame_mse"])
    assert study.chosen.trial_id == study.selection["search"]["trial_id"]
    assert best in study.front()
    result = best.result()
    assert result.metrics["val/frame_mse"] == best.metrics["best/frame_mse"]
    assert result.completed


def test_a_study_has_every_figure(study):
    figures = dict(make_study_figures(study))
    assert set(figures) == {
        "panels_ps_vae_alpha.png",
        "front.png",
        "parallel_coordinates.png",
        "importance.png",
        "progress.png",
    }
    for content in figures.values():
        assert open_picture(content).shape[2] == 3


def place_of(trial, x="best/frame_mse", y="best/label_r2"):
    return trial.metrics[x], trial.metrics[y]


def test_the_front_shows_trials_where_their_metrics_are(study):
    labels = {trial.run_id: study.label(trial) for trial in study.trials}
    front, metrics = study.front(), ("frame_mse", "label_r2")
    reasons = ["Because of `x`."]
    figure = draw_front(study.finished, front, metrics, labels, reasons, "best", {})
    (axes,) = figure.axes
    shown = {line.get_marker(): [*map(tuple, line.get_xydata())] for line in axes.lines}
    assert shown["o"] == [place_of(trial) for trial in study.finished]
    assert shown["s"] == sorted(place_of(trial) for trial in front)
    assert "steps-post" in {line.get_drawstyle() for line in axes.lines}
    assert shown["*"] == [place_of(study.chosen)]
    assert colour_at(figure, axes, *place_of(study.chosen)) == to_pixel(ORANGE)
    assert {text.get_text() for text in axes.texts} == {
        labels[trial.run_id] for trial in front if trial != study.chosen
    }
    assert axes.get_xlabel() == "frame_mse (less is better)"
    assert axes.get_ylabel() == "label_r2 (more is better)"
    assert figure.get_supxlabel() == "Why: Because of `x`."
    assert "front: best" in {text.get_text() for text in axes.get_legend().get_texts()}


def test_panels_show_trials_their_mean_and_their_spread_over_seeds(study):
    figure = draw_panels(study.finished, "ps_vae.alpha", study.varied)
    axes = next(axes for axes in figure.axes if axes.get_title(loc="left") == "frame_mse")
    values = {
        alpha: [
            trial.metrics["best/frame_mse"]
            for trial in study.finished
            if trial.params["ps_vae.alpha"] == alpha
        ]
        for alpha in (10, 1000)
    }
    (points,) = (line for line in axes.lines if line.get_marker() == ".")
    assert sorted(map(tuple, points.get_xydata())) == sorted(
        (alpha, value) for alpha, items in values.items() for value in items
    )
    ring, means = axes.lines[0], axes.lines[-1]
    chosen = study.chosen
    assert [*map(tuple, ring.get_xydata())] == [
        (chosen.params["ps_vae.alpha"], chosen.metrics["best/frame_mse"])
    ]
    assert [*means.get_xdata()] == [10, 1000]
    assert means.get_ydata() == pytest.approx([np.mean(items) for items in values.values()])
    (bars,) = (item for item in axes.collections if isinstance(item, LineCollection))
    for (low, high), items in zip(bars.get_segments(), values.values(), strict=True):
        assert high[1] - low[1] == pytest.approx(2 * np.std(items, ddof=1))
    assert axes.get_xscale() == "log"
    assert draw_panels(study.finished[:1], "ps_vae.alpha", study.varied) is None


def test_parallel_coordinates_show_a_line_a_trial(study):
    names = ["ps_vae.alpha", "rng_seed_model", "best/frame_mse"]
    figure = draw_parallel(study.finished, study.front(), names)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == names
    low, high = (
        bound(trial.metrics["best/frame_mse"] for trial in study.finished) for bound in (min, max)
    )
    # Of two values the lower one is at 0 and the higher one at 1, on whatever scale.
    expected = {
        (
            float(trial.params["ps_vae.alpha"] == 1000),
            float(trial.params["rng_seed_model"]),
            round((trial.metrics["best/frame_mse"] - low) / (high - low), 9),
        ): trial
        for trial in study.finished
    }
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    shown = {tuple(np.round(line.get_ydata(), 9)): line for line in lines}
    assert shown.keys() == expected.keys()
    for heights, line in shown.items():
        is_chosen = expected[heights] == study.chosen
        assert (to_rgb(line.get_color()) == to_rgb(ORANGE)) == is_chosen
        is_solid = is_chosen or expected[heights] in study.front()
        assert line.get_linestyle() == ("-" if is_solid else "--")


def test_progress_counts_the_epochs_of_all_trials_until_each_ended(study):
    keys = ["best/frame_mse", "best/label_r2"]
    epochs, points = measure_progress(study, keys)
    losses = {trial.run_id: study.history(trial, "train/loss") for trial in study.trials}
    ended = sorted(study.trials, key=lambda trial: losses[trial.run_id][-1])
    for trial, n_epochs, point in zip(ended, epochs, points, strict=True):
        end = losses[trial.run_id][-1][0]
        assert n_epochs == sum(time <= end for items in losses.values() for time, _, _ in items)
        assert point.tolist() == [trial.metrics[key] for key in keys]


def test_the_report_holds_every_trial_and_nothing_from_elsewhere(study):
    report = make_report(study, dict(make_study_figures(study)))
    assert f"on the front: {study.front_meaning}" in report
    data = data_of(report)
    assert {row["run_id"] for row in data["trials"]} == {trial.run_id for trial in study.trials}
    assert all(row["thumbnail"].startswith("data:image/webp") for row in data["trials"])
    assert "<b>mouse" not in report
    assert "&lt;b&gt;mouse &amp; co.h5" in report
    for address in re.findall(r'(?:src|href)="([^"]*)"', report):
        assert address.startswith("data:")
    assert "http://" not in report.replace("http://www.w3.org/2000/svg", "")
    for trial in study.front():
        assert f'id="strip-{trial.run_id}"' in report


def test_publishing_fills_the_run_of_the_study(study):
    publish(study)
    client = mlflow.MlflowClient(study.target.uri)
    files = {item.path for item in client.list_artifacts(study.run_id)}
    assert {"report.html", "figures", "selection.json", "study.yaml"} <= files
    run = client.get_run(study.run_id)
    assert "**Take ps_vae.alpha = " in run.data.tags["mlflow.note.content"]
    marked = client.search_runs([study.target.experiment_id], "tags.`psvae_tune.pareto` = 'true'")
    assert {run.info.run_id for run in marked} == {trial.run_id for trial in study.front()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # of MLflow, which it may not see
def test_a_promoted_model_says_what_the_library_says(study, folder, recording, tmp_path):
    result = call("promote", "study", "--name", "mouse", "--output", folder)
    assert result.exit_code == 0, result.output
    client = mlflow.MlflowClient(study.target.uri)
    version = client.get_model_version_by_alias("mouse", "champion")
    assert version.tags["psvae_tune.study"] == "study"
    assert version.tags["psvae_tune.trial"] == study.label(study.chosen)
    assert len(json.loads(version.tags["psvae_tune.label_scaler"])["mean"][0]) == 4
    with_output = ("--output", folder, "--to", tmp_path)
    assert call("predict", "models:/mouse@champion", recording, *with_output).exit_code == 0
    (table,) = tmp_path.glob("*.csv")
    expected = study.read_artifact(study.chosen.run_id, "latents/session_0.csv").decode()
    rows, wanted = (text.splitlines() for text in (table.read_text(), expected))
    assert rows[0] == wanted[0]
    numbers, target = (
        np.array([line.split(",")[4:] for line in lines[1:]], float) for lines in (rows, wanted)
    )
    np.testing.assert_allclose(numbers, target, atol=1e-4)
    mlflow.set_tracking_uri(study.target.uri)
    served = mlflow.pyfunc.load_model("models:/mouse@champion")
    assert served.metadata.signature.inputs is not None
    assert call("promote", "study", "--name", "mouse", "--output", folder).exit_code == 0
    assert client.get_model_version_by_alias("mouse", "champion").version == 2


def test_an_export_is_complete_and_replaces_nothing(study, folder, tmp_path):
    target = tmp_path / "copy"
    arguments = ("export", "study", "--to", target, "--output", folder)
    assert call(*arguments).exit_code == 0
    names = {path.name for path in target.rglob("*") if path.is_file()}
    assert {"model.pt", "config.yaml", "card.json", "session_0.h5", "traversals.png"} <= names
    assert json.loads((target / "card.json").read_text())["run_id"] == study.chosen.run_id
    result = call(*arguments)
    assert result.exit_code == 2
    assert "exists already" in result.output


@pytest.mark.slow
def test_a_trial_is_written_as_onnx(study, folder, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    trial = next(item for item in study.finished if item.run_id != study.chosen.run_id)
    for name, arguments in ((study.chosen, ()), (trial, ("--trial", trial.run_id))):
        file = tmp_path / f"{name.run_id}.onnx"
        command = ("export", "study", "--onnx", file, "--output", folder, *arguments)
        assert call(*command).output == f"{file}\n"
        told = runtime.InferenceSession(file).get_modelmeta().custom_metadata_map
        assert told["study"] == "study"
        assert told["trial"] == study.label(name)
        assert told["run_id"] == name.run_id
        done = call(*command)
        assert done.exit_code == 2
        assert "exists already" in done.output


@pytest.mark.slow
def test_studies_beside_each_other(study, folder, recording, tmp_path):
    raw = with_space({"n_ae_latents": {"grid_search": [2, 3]}}, model_class="ae", n_ae_latents=2)
    for name in ("ps_vae.beta", "ps_vae.anneal_epochs"):
        del raw["model"][name]
    raw["search"]["objectives"] = {"val/frame_mse": "min"}
    log_study(folder, recording, "plain", raw)
    file = tmp_path / "comparison.png"
    result = call("compare", "study", "plain", "--output", folder, "--file", file)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if line.startswith(("study,", "plain,"))]
    assert len(lines) == 3
    assert Image.open(io.BytesIO(file.read_bytes())).width > 500
    # Of the metrics of a front, this model has one that makes sense beside the frames.
    assert call("report", "plain", "--output", folder).exit_code == 0


def test_a_study_without_a_finished_trial_is_an_error_and_no_empty_report(folder, recording):
    study = log_study(folder, recording, "none", n_cut=2, n_failed=1)
    for action in (publish, lambda item: make_report(item, {})):
        with pytest.raises(StudyError, match="has no finished trial to report"):
            action(study)
    result = call("report", "none", "--output", folder)
    assert result.exit_code == 1
    assert "3 trials: 2 stopped early, 1 failed" in result.output


def test_runs_of_other_tools_are_left_alone(study):
    client = mlflow.MlflowClient(study.target.uri)
    client.create_run(study.target.experiment_id, run_name="other")
    again = open_study(study.target.uri, "study")
    assert [trial.run_id for trial in again.trials] == [trial.run_id for trial in study.trials]


def test_a_name_that_several_trials_have(study):
    twins = (*study.trials, replace(study.trials[0], run_id="other", trial_id="other"))
    ambiguous = LoggedStudy(study.target, study.run_id, "", "", {}, twins)
    with pytest.raises(UserError, match="2 trials are called 'alpha=10 seed=0'"):
        ambiguous.find_trial("alpha=10 seed=0")
    with pytest.raises(StudyError, match="did you mean 'alpha=10 seed="):
        ambiguous.find_trial("alpha=10 seed=7")


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("sqlite:////nowhere/at/all.db", "does not exist"),
        ("http://127.0.0.1:9", "does not answer"),
        (None, "knows no study 'studi'"),
    ],
)
def test_a_study_that_cannot_be_found(study, uri, problem):
    with pytest.raises(TrackingError, match=problem):
        open_study(uri or study.target.uri, "studi")


@pytest.fixture(scope="module")
def unpromoted(folder, recording):
    """Return a study whose models other tests have not logged."""
    space = {"ps_vae.alpha": {"grid_search": [10, 1000]}}
    return log_study(folder, recording, "unpromoted", with_space(space))


@pytest.fixture
def read_only(folder, unpromoted):
    """Let nobody write the artifacts of the studies, not even root, whom modes do not stop."""
    artifacts = folder / "artifacts"
    if os.geteuid():
        artifacts.chmod(0o500)
        try:
            yield
        finally:
            artifacts.chmod(0o700)
        return
    bind = ["mount", "--bind", str(artifacts), str(artifacts)]
    if subprocess.run(bind, check=False, capture_output=True).returncode:
        pytest.skip("root may not mount here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(artifacts)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(artifacts)], check=True)


@pytest.mark.filterwarnings("ignore:.*type hint is inferred as AnyType:UserWarning")
@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "unpromoted"),
        ("choose", "unpromoted", "--trial", "{run}"),
        ("promote", "unpromoted", "--name", "mouse-of-nobody"),
    ],
    ids=" ".join,
)
def test_a_read_only_artifact_store_is_one_error(unpromoted, folder, read_only, arguments):
    chosen = unpromoted.chosen
    other = next(trial for trial in unpromoted.finished if trial.run_id != chosen.run_id)
    arguments = [argument.format(run=other.run_id) for argument in arguments]
    result = call(*arguments, "--output", folder)
    assert result.exit_code == 2, result.output
    assert "cannot be written" in result.output
    assert isinstance(result.exception, SystemExit)
    assert open_study(unpromoted.target.uri, "unpromoted").chosen.run_id == chosen.run_id


def test_a_read_only_artifact_store_can_still_be_read(study, folder, read_only, tmp_path):
    file, exported = tmp_path / "report.html", tmp_path / "exported"
    assert call("report", "study", "--file", file, "--output", folder).exit_code == 0
    assert data_of(file.read_text())["trials"]
    assert call("export", "study", "--to", exported, "--output", folder).exit_code == 0
    assert (exported / "model.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "problem", "exit_code"),
    [
        (("report", "x", "--output", "absent"), "holds no studies", 2),
        (("choose", "study", "--trial", "x"), "has no trial 'x'", 1),
        (("predict", "absent.pt", "{recording}"), "does not exist", 2),
        (("predict", "x", "absent.mp4"), "is no file", 2),
        (("predict", "models:/absent@champion", "{recording}"), "cannot be read", 2),
        (("compare", "study", "none"), "has no finished trial to compare", 1),
    ],
)
def test_bad_requests_are_one_error(study, folder, recording, arguments, problem, exit_code):
    arguments = [argument.format(recording=recording) for argument in arguments]
    if "--output" not in arguments:
        arguments += ["--output", str(folder)]
    result = call(*arguments)
    assert result.exit_code == exit_code
    assert problem in result.output
    assert isinstance(result.exception, SystemExit)


def test_the_report_shows_the_sampling_error_beside_its_metric(study):
    report = make_report(study, {})
    assert "best/frame_mse_error" in study.chosen.metrics
    for trial in study.finished:
        for name in ("frame_mse", "label_r2"):
            value, error = (trial.metrics[f"best/{name}{end}"] for end in ("", "_error"))
            assert f">{value:.4g} ± {error:.2g}</td>" in report
    chosen = study.chosen.metrics
    value, error = chosen["best/frame_mse"], chosen["best/frame_mse_error"]
    assert f"frame_mse {value:.4g} ± {error:.2g}" in explain_choice(study)[0]


def test_a_trial_without_a_metric_of_the_front_leaves_it_to_the_others(study):
    first, *others = study.trials
    metrics = {key: value for key, value in first.metrics.items() if key != "best/label_r2"}
    less = replace(study, trials=(replace(first, metrics=metrics), *others))
    assert less.front_metrics == study.front_metrics
    assert first.run_id not in {trial.run_id for trial in less.front()}
    assert "front.png" in dict(make_study_figures(less))
    assert first.run_id in make_report(less, {})
