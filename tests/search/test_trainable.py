"""Trials in this process, against a real store."""

import itertools
from dataclasses import replace

import mlflow
import pytest
import torch
import yaml
from torch.nn import functional as F

from psvae_tune.config.metric_catalog import NOT_ABOVE_ONE, NOT_NEGATIVE
from psvae_tune.config.wording import name_trial
from psvae_tune.errors import ClusterError, StorageError
from psvae_tune.models.model_file import load_model
from psvae_tune.search.trainable import resume_or_start, run_trial
from psvae_tune.search.trial_spec import StageContext, TrialSpec
from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.folders import StudyFolder
from psvae_tune.tracking.mlflow_private import metric_key
from psvae_tune.tracking.tags import DEVICE, N_THREADS, PARENT, PATH, PRECISION, TORCH, TRIAL
from psvae_tune.tracking.trial_run import EpochMetrics, TrialRun, TrialRunSpec, close_trial
from psvae_tune.training.batches import prepare_data
from psvae_tune.training.checkpoint import load_state
from psvae_tune.training.fit import start
from psvae_tune.training.precision import pick_dtype
from tests.support.studies import make_config, make_session, make_stage

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return the URI of a store and the folder of its artifacts."""
    folder = tmp_path_factory.mktemp("store")
    return f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts"


@pytest.fixture
def make_context(store, tmp_path, request):
    def make(study="study", scheduler=None, **sections):
        target = open_target(store[0], request.node.name, study, store[1])
        folder, config = StudyFolder(tmp_path / study), make_config(**sections)
        stage = make_stage(scheduler=scheduler)
        return StageContext(stage, config, folder, target, (make_session().digest,), 2)

    return make


def trial(context, params=None, n=None):
    """Run a trial, or its first ``n`` reports as if it was cut off there."""
    reports = run_trial(context.spec(params or {}), [make_session()], context, CPU)
    return list(itertools.islice(reports, n))


def only_run(context):
    client = mlflow.MlflowClient(context.target.uri)
    (run,) = client.search_runs([context.target.experiment_id])
    return client, run


def test_a_trial_reports_every_validation_and_then_its_end(make_context):
    context = make_context()
    *epochs, last = trial(context, {"ps_vae.alpha": 20})
    assert [report.epoch for report in epochs] == [1, 2, 3, 4]
    assert not any(report.is_finished for report in epochs)
    assert last.is_finished
    assert {"val/frame_mse", "test/label_r2", "val/leak_r2", "test/hsic"} <= set(last.best_metrics)
    assert last.best_metrics["val/frame_mse"] == min(
        report.best_metrics["val/frame_mse"] for report in epochs[1:]
    )


def test_no_metric_leaves_the_range_that_bounds_are_checked_against(make_context):
    metrics = {
        key.partition("/")[2]: v for key, v in trial(make_context())[-1].best_metrics.items()
    }
    assert all(metrics[name] <= 1 for name in NOT_ABOVE_ONE & set(metrics))
    assert all(metrics[name] >= 0 for name in NOT_NEGATIVE & set(metrics))
    assert len(set(metrics) & (NOT_ABOVE_ONE | NOT_NEGATIVE)) > 10


def test_its_run_holds_params_metrics_and_files(make_context, tmp_path):
    context = make_context()
    report = trial(context, {"ps_vae.alpha": 20})[-1]
    client, run = only_run(context)
    assert run.info.run_name == "alpha=20"
    assert run.data.tags[TRIAL] == report.trial_id
    assert run.data.params["ps_vae.alpha"] == "20.0"
    assert float(run.data.params["alpha_normalised"]) == pytest.approx(20 * 2 / 144)
    assert run.data.metrics["test/label_r2"] == report.best_metrics["test/label_r2"]
    assert run.data.metrics["best/frame_mse"] == report.best_metrics["val/frame_mse"]
    path = client.download_artifacts(run.info.run_id, "config.yaml", str(tmp_path))
    with open(path) as file:
        assert yaml.safe_load(file)["model"]["ps_vae.alpha"] == 20
    saved = load_model(client.download_artifacts(run.info.run_id, "model.pt", str(tmp_path)))
    assert saved.model.config.alpha == 20
    assert saved.label_scaler.mean.shape == (1, 2)


@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_a_run_says_what_its_numbers_depend_on_beside_its_settings(make_context, precision):
    context = make_context(training={"precision": precision})
    trial(context, n=1)
    torch.set_num_threads(torch.get_num_threads() + 1)
    try:
        trial(context, n=1)  # goes on elsewhere
        _, run = only_run(context)
        found = run.data.tags
        assert found[PRECISION] == str(pick_dtype(precision, CPU)).removeprefix("torch.")
        assert found[DEVICE] == "cpu"
        assert found[N_THREADS] == str(torch.get_num_threads())
        assert found[TORCH] == torch.__version__
    finally:
        torch.set_num_threads(torch.get_num_threads() - 1)


@pytest.mark.parametrize("n_before", [1, 3, 4])
def test_a_trial_that_was_cut_off_goes_on_in_its_own_run(make_context, n_before):
    straight = trial(make_context("straight"))
    context = make_context("cut", training={"checkpoint_every": 2})
    trial(context, n=n_before)
    rest = trial(context)
    assert rest[-1].best_metrics == straight[-1].best_metrics
    client = mlflow.MlflowClient(context.target.uri)
    runs = client.search_runs([context.target.experiment_id], "tags.`psvae_tune.study` = 'cut'")
    assert len(runs) == 1
    for key in ("train/loss", "val/frame_mse"):
        history = client.get_metric_history(runs[0].info.run_id, key)
        assert [item.step for item in history] == [1, 2, 3, 4]


@pytest.mark.parametrize("scheduler", [None, {"asha": {}}])
def test_an_epoch_that_may_not_be_trained_again_is_logged_before_it_is_told_of(
    make_context, scheduler
):
    def logged():
        client, run = only_run(context)
        return [item.step for item in client.get_metric_history(run.info.run_id, "train/loss")]

    context = make_context(scheduler=scheduler, training={"checkpoint_every": 2})
    told = run_trial(context.spec({}), [make_session()], context, CPU)
    for report in itertools.islice(told, 3):
        n_safe = report.epoch if scheduler else report.epoch // 2 * 2
        assert logged()[:n_safe] == [*range(1, n_safe + 1)]
    told.close()  # as when the study is interrupted
    trial(context)
    assert logged() == [1, 2, 3, 4]


def test_epochs_that_are_too_many_for_one_request_are_all_logged_once(store):
    target = open_target(store[0], "many", "study", store[1])
    run = TrialRun.open(target, TrialRunSpec("stage", "id", "name", {}, []))
    numbers = range(1, 61)
    epochs = [EpochMetrics.now(n, {f"train/{key}": n * key for key in range(50)}) for n in numbers]
    run.log(epochs)
    run.log(epochs)
    run.log([EpochMetrics.now(61, {f"train/{key}": 0.0 for key in range(900)})])
    history = mlflow.MlflowClient(store[0]).get_metric_history(run.run_id, "train/2")
    assert [(item.step, item.value) for item in history] == [
        *((n, 2 * n) for n in numbers),
        (61, 0),
    ]


def test_an_epoch_is_told_of_when_the_last_checkpoint_is_safe(make_context):
    context = make_context(training={"checkpoint_every": 1})
    for report in run_trial(context.spec({}), [make_session()], context, CPU):
        if report.epoch > 1 and not report.is_finished:
            state = start(context.base, prepare_data([make_session()], context.base), CPU)
            load_state(state, context.folder.checkpoint(report.trial_id).read_bytes())
            assert state.epoch >= report.epoch - 1


@pytest.mark.parametrize("every", [1, 4], ids=["each epoch", "the last epoch"])
def test_a_checkpoint_that_cannot_be_written_ends_the_trial(make_context, every):
    context = make_context(training={"checkpoint_every": every})
    context.folder.root.mkdir()
    (context.folder.root / "checkpoints").write_text("a file in the place of the folder")
    with pytest.raises(FileExistsError):
        trial(context)


def test_a_trial_whose_end_nobody_noted_is_not_trained_again(make_context):
    context = make_context(training={"checkpoint_every": 2})
    straight = trial(context)
    (again,) = trial(context)
    assert again == straight[-1]


def test_a_trial_that_diverges_says_so_and_is_not_tried_again(make_context):
    context = make_context(training={"learning_rate": 1e30, "max_n_epochs": 20})
    last = trial(context)[-1]
    assert "no longer finite in epoch" in last.failure
    assert not last.is_finished


@pytest.mark.parametrize("changed", ["base", "recordings"])
def test_a_worker_that_sees_another_trial_than_its_driver_refuses_it(make_context, changed):
    context = make_context()
    session = make_session()
    if changed == "base":
        spec = replace(context, base=make_config(training={"max_n_epochs": 5})).spec({})
    else:
        spec = context.spec({})
        session = replace(session, digest="another")
    with pytest.raises(ClusterError, match=f"has the identity {spec.trial_id} for the driver"):
        next(run_trial(spec, [session], context, CPU))
    assert not context.folder.root.exists()


def test_a_trial_of_the_same_settings_in_another_study_has_its_own_run(make_context):
    for study in ("one", "two"):
        trial(make_context(study), n=1)
    target = make_context("one").target
    client = mlflow.MlflowClient(target.uri)
    assert len(client.search_runs([target.experiment_id])) == 2


def test_closing_a_trial_sets_why(make_context):
    context = make_context()
    report = trial(context, n=1)[-1]
    close_trial(context.target, report.trial_id, "FINISHED", "stopped early at epoch 1")
    _, run = only_run(context)
    assert run.info.status == "FINISHED"
    assert run.data.tags["psvae_tune.stop_reason"] == "stopped early at epoch 1"


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"ps_vae.alpha": 500.0}, "alpha=500"),
        ({"ps_vae.alpha": 0.5, "rng_seed_model": 3}, "alpha=0.5 seed=3"),
        ({"n_ae_latents": 12, "learning_rate": 1e-4}, "latents=12 learning_rate=0.0001"),
    ],
)
def test_trials_are_named_by_what_varies(params, name):
    assert name_trial(params) == name


def test_label_names_become_metric_names_that_mlflow_takes(store):
    target = open_target(store[0], "names", "study", store[1])
    run = TrialRun.open(target, TrialRunSpec("stage", "id", "name", {}, []))
    names = ["paw left", "<b>x</b>", "ohr%", "ümlaut", "a/b", "x!"]
    run.log([EpochMetrics.now(1, {f"test/label_r2/{name}": 1.0 for name in names})])
    found = mlflow.MlflowClient(store[0]).get_run(run.run_id)
    assert {metric_key(f"test/label_r2/{name}") for name in names} == set(found.data.metrics)


def test_a_validation_that_does_not_fit_into_memory_fails_the_trial_with_a_sentence(
    make_context, monkeypatch
):
    convolve = F.conv2d

    def conv2d(x, *arguments, **settings):
        if torch.is_inference_mode_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB.")
        return convolve(x, *arguments, **settings)

    monkeypatch.setattr(F, "conv2d", conv2d)
    (report,) = trial(make_context())
    assert "validation: does not fit into the memory of the GPU in epoch 1" in report.failure
    assert "gpus_per_trial" in report.failure


def going_on(make_context, **stage):
    """Return the context of a stage that goes on from a trial, which has been trained."""
    context = replace(make_context(), keeps_states=True)
    parent = context.spec({"ps_vae.alpha": 10})
    assert trial(context, {"ps_vae.alpha": 10})[-1].is_finished
    stage = make_stage(**{"start_from": "chosen", "epochs": 4, "ramp_epochs": 2, **stage})
    return replace(context, stage=stage, chosen=parent)


def test_a_trial_goes_on_from_the_last_state_of_another_and_its_run_says_so(make_context):
    context = going_on(make_context)
    spec = context.spec({"ps_vae.alpha": 20})
    config, data = context.config(spec), prepare_data([make_session()], context.base)
    state = resume_or_start(context.folder.root / "none", config, data, CPU, context.folder)
    there = start(context.base, data, CPU)
    load_state(there, context.folder.last_state(context.chosen.trial_id).read_bytes())
    assert there.epoch == 4
    assert (state.epoch, state.best) == (0, None)
    weights = there.model.state_dict()
    for name, value in state.model.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)
    old, new = there.optimizer.state_dict()["state"], state.optimizer.state_dict()["state"]
    assert all(torch.equal(old[i]["exp_avg"], new[i]["exp_avg"]) for i in old)

    *epochs, last = trial(context, {"ps_vae.alpha": 20})
    assert [report.epoch for report in epochs] == [1, 2, 3, 4]
    assert last.best_metrics["val/frame_mse"] == min(
        report.best_metrics["val/frame_mse"] for report in epochs[1:]
    )
    client = mlflow.MlflowClient(context.target.uri)
    run = client.get_run(context.target.find_run(TRIAL, spec.trial_id))
    assert run.data.tags[PATH] == "alpha=10"
    assert run.data.tags[PARENT] == context.chosen.trial_id
    assert run.data.params["max_n_epochs"] == "4"


def test_a_trial_without_a_change_of_weights_is_the_one_that_it_would_go_on_from(make_context):
    context = going_on(make_context)
    same, other = context.spec({"ps_vae.alpha": 10}), context.spec({"ps_vae.alpha": 20})
    assert same == context.chosen
    assert context.spec({"ps_vae.alpha": 20}, other) == other
    assert context.spec({"ps_vae.alpha": 40}, other).path == ("alpha=10", "alpha=20")
    assert TrialSpec.from_ray(other.to_ray()) == other


def test_a_trial_that_goes_on_and_is_cut_off_ends_with_the_numbers_of_one_that_was_not(
    make_context,
):
    stages = [going_on(make_context)]
    again = make_context("again", training={"checkpoint_every": 1})
    stages.append(replace(stages[0], folder=again.folder, target=again.target, base=again.base))
    again.folder.last_states.mkdir(parents=True)
    kept = stages[0].folder.last_state(stages[0].chosen.trial_id).read_bytes()
    again.folder.last_state(stages[0].chosen.trial_id).write_bytes(kept)
    whole = trial(stages[0], {"ps_vae.alpha": 20})
    trial(stages[1], {"ps_vae.alpha": 20}, n=2)
    rest = trial(stages[1], {"ps_vae.alpha": 20})
    assert len(rest) < len(whole)
    assert rest[-1].best_metrics == whole[-1].best_metrics


@pytest.mark.parametrize("content", [None, b"", b"0" * 1000])
def test_a_trial_whose_start_was_lost_says_which_file_is_missing(make_context, content):
    context = going_on(make_context)
    path = context.folder.last_state(context.chosen.trial_id)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(StorageError, match=f"{path}: must hold the last state of the trial"):
        trial(context, {"ps_vae.alpha": 20})


def test_last_states_are_kept_only_where_a_trial_may_be_gone_on_from(make_context):
    context = make_context()
    trial(context)
    assert not context.folder.last_states.exists()
