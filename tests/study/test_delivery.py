"""What waited of a study reaches its tracking store from the study's folder alone."""

from dataclasses import replace

import mlflow
import numpy as np
import pytest

from psvae_tune.data.demo import write_demo
from psvae_tune.data.session_file import read_session
from psvae_tune.errors import StorageError
from psvae_tune.results.choices import override
from psvae_tune.results.logged_study import open_study
from psvae_tune.results.publish import REPORT
from psvae_tune.study.delivery import sync_study
from psvae_tune.study.location import StudyLocation
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.outbox import Outbox
from tests.support.logged_studies import log_study, with_space


@pytest.fixture
def location(tmp_path):
    """Return a study whose choice waits, and whose recording is gone."""
    recording = tmp_path / "demo.h5"
    write_demo(recording, n_clips=10, clip_length=10, size=16)
    raw = with_space({"ps_vae.alpha": {"grid_search": [10, 100]}})
    study = log_study(tmp_path / "out", recording, "study", raw)
    recording.unlink()
    folder = OutputFolder(tmp_path / "out").study("study")
    folder.unlogged.touch()
    return StudyLocation(folder, study.target)


@pytest.mark.filterwarnings("ignore:.*type hint is inferred as AnyType:UserWarning")
def test_the_choice_is_logged_without_the_recordings(location, tmp_path):
    (first, *_) = open_study(location.target.uri, "study").trials
    away = replace(location.target, uri="http://127.0.0.1:9")
    Outbox.of(location.folder, away, first.trial_id).log_late({"best/udr": 0.5})
    choice = sync_study(location)
    study = open_study(location.target.uri, "study")
    assert study.status == "FINISHED"
    assert study.find_trial(first.trial_id).metrics["best/udr"] == 0.5
    assert choice.override is None
    assert study.chosen.trial_id == study.selection["search"]["trial_id"]
    assert study.read_artifact(study.run_id, REPORT)
    write_demo(tmp_path / "new.h5", seed=1, n_clips=10, clip_length=10, size=16)
    frames = read_session(tmp_path / "new.h5", needs_labels=False).frames[:5]
    mlflow.set_tracking_uri(location.target.uri)
    served = mlflow.pyfunc.load_model(choice.model_uri)
    assert np.isfinite(served.predict(frames)["latents"]).all()
    # A second time there is nothing to deliver.
    assert not location.folder.unlogged.exists()
    assert sync_study(location) is None


def test_the_choice_of_a_person_stands(location):
    study = open_study(location.target.uri, "study")
    other = next(trial for trial in study.finished if not trial.is_selected)
    override(study, other, "someone", "one latent, one movement")
    choice = sync_study(location)
    assert choice.override["trial_id"] == other.trial_id
    study = open_study(location.target.uri, "study")
    assert study.chosen.trial_id == other.trial_id
    assert study.selection["search"]["trial_id"] != other.trial_id


def test_a_study_that_runs_delivers_by_itself(tmp_path):
    folder = OutputFolder(tmp_path).study("study")
    nowhere = StudyLocation(folder, TrackingTarget("", "", "study"))
    with folder.lock(), pytest.raises(StorageError, match="run by another process"):
        sync_study(nowhere)
