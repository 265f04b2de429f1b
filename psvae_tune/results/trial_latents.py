"""Latents and predicted labels of a trial, read back from its run in MLflow."""

from dataclasses import replace

from psvae_tune.errors import TrackingError
from psvae_tune.results.choices import describe_origin
from psvae_tune.results.logged_study import LoggedStudy
from psvae_tune.results.prediction_files import from_hdf5
from psvae_tune.results.predictions import Predictions
from psvae_tune.results.trial_record import TrialRecord


def read_predictions(study: LoggedStudy, trial: TrialRecord) -> tuple[Predictions, ...]:
    """Return what a trial has logged of every session, and which study and run it is of.

    Raises
    ------
    TrackingError
        If its run holds no latents.
    StorageError
        If they are damaged, or do not say which frames they are of.
    """
    origin = describe_origin(study, trial)
    predictions: list[Predictions] = []
    while True:
        path = f"latents/session_{len(predictions)}.h5"
        content = study.read_artifact(trial.run_id, path)
        if content is None:
            break
        found = from_hdf5(content, f"{path} of run {trial.run_id}")
        predictions.append(replace(found, model={**origin, **found.model}))
    if not predictions:
        raise TrackingError(f"run {trial.run_id}", f"holds no `{path}`")
    return tuple(predictions)
