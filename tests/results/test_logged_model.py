"""A model is logged whole or not at all, whatever cuts its logging off."""

import pytest

from psvae_tune.errors import TrackingError
from psvae_tune.results.choices import log_fitted_model
from psvae_tune.results.logged_study import open_study
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.model_registry import download_model
from tests.support.logged_studies import log_study, with_space

pytestmark = pytest.mark.slow


@pytest.fixture
def study(recording, tmp_path):
    space = {"ps_vae.alpha": {"grid_search": [10, 100]}}
    return log_study(tmp_path / "out", recording, "study", with_space(space))


def list_models(study):
    return study.target.client().search_logged_models([study.target.experiment_id])


@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # of MLflow, which it may not see
def test_what_was_logged_in_part_is_logged_anew(study, tmp_path):
    """A disk that takes no folder, and then a process that is killed before the first file."""
    trial = study.finished[0]
    in_the_way = OutputFolder(tmp_path / "out").artifacts / "models"
    in_the_way.write_bytes(b"")
    with pytest.raises(TrackingError, match=r"cannot be written: (File exists|Not a directory)"):
        log_fitted_model(study, trial)
    in_the_way.unlink()
    client = study.target.client()
    client.create_logged_model(study.target.experiment_id, "model", source_run_id=trial.run_id)
    assert client.get_run(trial.run_id).info.status == "FINISHED"
    uri = log_fitted_model(study, trial)
    assert download_model(study.target.uri, uri, tmp_path).is_file()
    assert [model.status for model in list_models(study)] == ["READY"]
    assert log_fitted_model(open_study(study.target.uri, "study"), trial) == uri
    assert len(list_models(study)) == 1
