"""A study whose folder was moved, or copied, is used from where it is now."""

import copy
import shutil
from pathlib import Path

import mlflow
import pytest

from psvae_tune.errors import TrackingError
from psvae_tune.files import sha256, try_lock
from psvae_tune.results.logged_study import open_study
from psvae_tune.tracking.client import open_client, open_target, sqlite_uri
from psvae_tune.tracking.folders import StudyFolder
from tests.support.logged_studies import RAW, call, log_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def first(tmp_path_factory, recording):
    """A folder with one study of one trial."""
    raw = copy.deepcopy(RAW)
    raw["search"]["space"]["ps_vae.alpha"]["grid_search"] = [10]
    raw["training"]["max_n_epochs"] = 1
    folder = tmp_path_factory.mktemp("first") / "studies"
    log_study(folder, recording, "mouse", raw)
    return folder


@pytest.fixture
def moved(first, tmp_path):
    """The same study in another folder; its first folder is gone."""
    here = tmp_path / "a place of 100%?"
    shutil.copytree(first, tmp_path / "before" / "studies")
    # As if it had been made there.
    before = tmp_path / "before" / "studies"
    open_client(sqlite_uri(before / "mlflow.db"))
    study = StudyFolder(before / "mouse")
    study.save_tracking(sqlite_uri(before / "mlflow.db"), study.read_tracking()["experiment_id"])
    shutil.move(before, here)
    return here


def contents(folder):
    return {path: sha256(path) for path in folder.rglob("*") if path.is_file()}


def places(folder):
    """Return where the files of the runs, of the models and of their versions are kept."""
    client = mlflow.MlflowClient(sqlite_uri(folder / "mlflow.db"))
    ids = [item.experiment_id for item in client.search_experiments() if item.name != "Default"]
    runs = [run.info.artifact_uri for run in client.search_runs(ids)]
    models = [model.artifact_location for model in client.search_logged_models(ids)]
    versions = client.search_model_versions()
    return (
        runs
        + models
        + [client.get_model_version_download_uri(v.name, v.version) for v in versions]
    )


def use(folder, to):
    """Do with the study what reads and writes its files."""
    study = folder / "mouse"
    for arguments in (
        ("export", study, "--to", to / "export"),
        ("report", study),
        ("promote", study, "--name", "mouse"),
        ("sync", study),
    ):
        done = call(*arguments)
        assert done.exit_code == 0, (arguments, done.output)
    assert (to / "export" / "model.pt").stat().st_size


@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # of MLflow, which it may not see
def test_a_folder_that_was_moved(moved, tmp_path):
    use(moved, tmp_path)
    assert not (tmp_path / "before" / "studies").exists()
    assert all(place.startswith(("models:/", moved.as_uri())) for place in places(moved))
    weights = moved / "artifacts"
    assert any(weights.rglob("report.html"))
    # The store named by its URI is the same one.
    uri = sqlite_uri(moved / "mlflow.db")
    to = tmp_path / "by_uri"
    assert call("export", "mouse", "--tracking-uri", uri, "--to", to).exit_code == 0
    assert (to / "model.pt").exists()


@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")
def test_a_copy_leaves_the_first_as_it_is(first, tmp_path):
    before = contents(first)
    shutil.copytree(first, tmp_path / "copy")
    use(tmp_path / "copy", tmp_path)
    assert contents(first) == before


def test_a_store_that_was_named_is_moved_with_the_folder_that_it_is_in(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    target = open_target("sqlite:///track.db", "mouse", "study", None)
    run = target.client().create_run(target.experiment_id).info.run_id
    target.client().log_text(run, "text", "file.txt")
    kept = StudyFolder(tmp_path / "project" / "studies" / "study")
    kept.root.mkdir(parents=True)
    kept.save_tracking(target.uri, target.experiment_id)
    shutil.move(tmp_path / "project", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    uri = StudyFolder(tmp_path / "moved" / "studies" / "study").read_tracking()["uri"]
    assert uri == sqlite_uri(tmp_path / "moved" / "track.db")
    assert Path(open_client(uri).download_artifacts(run, "file.txt")).read_text() == "text"


def test_a_store_that_is_used_under_another_path_is_left_alone(moved):
    before = sha256(moved / "mlflow.db")
    with (moved / "mouse" / "lock").open("w") as lock:
        assert try_lock(lock)
        with pytest.raises(TrackingError, match="used under another path by the study 'mouse'"):
            open_study(sqlite_uri(moved / "mlflow.db"), "mouse")
    assert sha256(moved / "mlflow.db") == before
    assert open_study(sqlite_uri(moved / "mlflow.db"), "mouse").finished


def test_a_link_to_the_folder_changes_nothing(first, tmp_path):
    (tmp_path / "link").symlink_to(first)
    before = sha256(first / "mlflow.db")
    assert open_study(sqlite_uri(tmp_path / "link" / "mlflow.db"), "mouse").finished
    assert sha256(first / "mlflow.db") == before


def test_an_export_without_weights_is_an_error(moved, tmp_path):
    for weights in moved.rglob("model.pt"):
        weights.unlink()
    done = call("export", moved / "mouse", "--to", tmp_path / "export")
    assert done.exit_code == 2
    assert "holds no weights" in done.output
    assert not (tmp_path / "export").exists()
    shutil.rmtree(moved / "artifacts")
    assert call("export", moved / "mouse", "--to", tmp_path / "export").exit_code == 2
