"""Latents and predicted labels of a trial, read back from its run in MLflow."""

from dataclasses import replace

from psvae_tune.errors import TrackingError
from psvae_tune.results.logged_study import LoggedStudy
from psvae_tune.results.prediction_files import from_hdf5
from psvae_tune.results.predictions import Predictions
from psvae_tune.results.trial_record import TrialRecord


def read_predictions(study: LoggedStudy, trial: TrialRecord) -> tuple[Predictions, ...]:
    """Return what a trial has logged of every session, with the trial's name, run and settings.

    Raises
    ------
    TrackingError
        If its run holds no latents.
    StorageError
        If they are damaged, or do not say which frames they are of.
    """
    model = {
        "study": study.name,
        "trial": study.label(trial),
        "run_id": trial.run_id,
        "settings": dict(trial.params),
    }
    predictions: list[Predictions] = []
    while True:
        path = f"latents/session_{len(predictions)}.h5"
        content = study.read_artifact(trial.run_id, path)
        if content is None:
            break
        found = from_hdf5(content, f"{path} of run {trial.run_id}")
        predictions.append(replace(found, model=model))
    if not predictions:
        raise TrackingError(f"run {trial.run_id}", f"holds no `{path}`")
    return tuple(predictions)
