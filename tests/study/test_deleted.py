"""Somebody deletes on MLflow's pages what a study still needs."""

import pytest

from psvae_tune.data.demo import write_demo
from psvae_tune.errors import DeletedError
from psvae_tune.results.choices import override
from psvae_tune.results.logged_study import open_study
from psvae_tune.results.report_data import explain_choice
from psvae_tune.study.delivery import sync_study
from psvae_tune.study.location import StudyLocation
from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.outbox import Outbox
from tests.support.logged_studies import log_study, with_space

pytestmark = pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # of MLflow


@pytest.fixture(scope="module")
def location(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deleted")
    write_demo(folder / "demo.h5", n_clips=10, clip_length=10, size=16)
    raw = with_space({"ps_vae.alpha": {"grid_search": [10, 100]}})
    raw["training"] = {"max_n_epochs": 1, "learning_rate": 1e-3}
    study = log_study(folder / "out", folder / "demo.h5", "study", raw)
    return StudyLocation(OutputFolder(folder / "out").study("study"), study.target)


@pytest.fixture
def study(location):
    """The study as MLflow knows it, with its choice still to be delivered."""
    location.folder.unlogged.touch()
    return open_study(location.target.uri, "study")


def test_the_chosen_run(location, study):
    client, chosen = location.target.client(), study.chosen
    client.delete_run(chosen.run_id)
    message = f"trial {chosen.name!r} of study 'study': its run {chosen.run_id} was deleted"
    for _ in range(2):
        with pytest.raises(DeletedError, match=message) as raised:
            sync_study(location)
        assert f"mlflow runs restore --run-id {chosen.run_id}" in raised.value.hint
        assert "psvae-tune choose study --trial" in raised.value.hint
    now = open_study(location.target.uri, "study")
    with pytest.raises(DeletedError, match=message):
        now.require_chosen()
    assert "was deleted" in explain_choice(now)[0]
    # What is late for a run that is gone has nowhere to go.
    outbox = Outbox.of(location.folder, location.target, chosen.trial_id)
    outbox.log_late({"best/udr": 0.5})
    assert not location.folder.outboxes.exists() or not [*location.folder.outboxes.iterdir()]
    client.restore_run(chosen.run_id)
    assert sync_study(location).override is None
    assert open_study(location.target.uri, "study").chosen.run_id == chosen.run_id


def test_the_chosen_run_after_which_a_person_chooses_another(location, study):
    client, chosen = location.target.client(), study.chosen
    other = next(trial for trial in study.finished if trial.run_id != chosen.run_id)
    client.delete_run(chosen.run_id)
    override(open_study(location.target.uri, "study"), other, "somebody", "")
    logged = sync_study(location)
    assert logged.override["trial_id"] == other.trial_id
    assert logged.model_uri in {
        model.model_uri
        for model in client.search_logged_models(
            [location.target.experiment_id], f"source_run_id = '{other.run_id}'"
        )
    }
    location.folder.unlogged.touch()
    client.delete_run(other.run_id)
    with pytest.raises(DeletedError, match=f"its run {other.run_id} was deleted"):
        sync_study(location)
    for run_id in (chosen.run_id, other.run_id):
        client.restore_run(run_id)


def test_the_experiment_and_the_run_of_the_study(location, study):
    client, target = location.target.client(), location.target
    client.delete_run(study.run_id)
    with pytest.raises(DeletedError, match=f"study 'study': its run {study.run_id} was deleted"):
        open_study(target.uri, "study")
    client.restore_run(study.run_id)
    client.delete_experiment(target.experiment_id)
    message, restore = "experiment 'experiment': was deleted", "mlflow experiments restore"
    for use in (
        lambda: sync_study(location),
        lambda: open_study(target.uri, "study"),
        lambda: open_target(target.uri, "experiment", "another", None),
    ):
        with pytest.raises(DeletedError, match=message) as raised:
            use()
        assert f"{restore} --experiment-id {target.experiment_id}" in raised.value.hint
    client.restore_experiment(target.experiment_id)
    assert sync_study(location) is not None
