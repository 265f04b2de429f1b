"""A person overrides the rule's choice, promotes the chosen model, or exports a trial."""

import io
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from psvae_tune.errors import PsvaeTuneError, StorageError, StudyError, TrackingError
from psvae_tune.files import replace_when_whole, require_absent, write_bytes
from psvae_tune.results.figures.images import COMPARISON
from psvae_tune.results.logged_study import CHOICES, LoggedStudy, open_study
from psvae_tune.results.publish import publish
from psvae_tune.results.trial_record import TrialRecord
from psvae_tune.tracking.client import reason_of, writing
from psvae_tune.tracking.model_registry import find_model, log_model, register_model
from psvae_tune.tracking.study_run import StudyRun
from psvae_tune.tracking.tags import SELECTED

if TYPE_CHECKING:
    from psvae_tune.models.model_file import SavedModel


def override(study: LoggedStudy, trial: TrialRecord, user: str, reason: str) -> LoggedStudy:
    """Choose another trial of a study, and keep the person and the reason.

    Earlier choices stay in the study's history. Side effects: writes to the study's run, moves a
    tag, and makes the report again.

    Parameters
    ----------
    study
        Study to choose in.
    trial
        Finished trial to choose.
    user
        Name of the person who chooses.
    reason
        Reason for the choice; may be empty.

    Returns
    -------
    LoggedStudy
        The study after the choice.

    Raises
    ------
    StudyError
        If the trial has not finished.
    TrackingError
        If the store cannot be written; then the choice is what it was.
    """
    if not trial.is_finished:
        raise StudyError(
            f"trial {trial.name!r}",
            f"has not finished, got {trial.stop_reason or trial.status.lower()}",
            hint=f"choose from {', '.join(item.name for item in study.finished[:10])}",
        )
    history = study.choices or _first_choice(study)
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    history = [*history, _entry(study, trial, user, reason, now)]
    run = StudyRun(study.target, study.run_id)
    with writing(f"run {study.run_id}"):
        run.log_text(json.dumps(history, indent=2), CHOICES)
        run.mark([trial.trial_id], SELECTED)
    changed = open_study(study.target.uri, study.name)
    publish(changed)
    return changed


def _first_choice(study: LoggedStudy) -> list[dict[str, Any]]:
    chosen = study.chosen
    return [] if chosen is None else [_entry(study, chosen, "rule", "", "")]


def _entry(
    study: LoggedStudy, trial: TrialRecord, by: str, reason: str, time: str
) -> dict[str, Any]:
    return {
        "time": time,
        "by": by,
        "reason": reason,
        "trial_id": trial.trial_id,
        "run_id": trial.run_id,
        "name": study.label(trial),
    }


def promote(study: LoggedStudy, name: str) -> str:
    """Register the chosen model of a study under a name, with the alias ``champion``.

    Side effects: writes to MLflow; logs the model first if its run has none.

    Returns
    -------
    str
        The version.

    Raises
    ------
    StudyError
        If nothing is chosen yet.
    TrackingError
        If the trial's files are gone, or the registry refuses.
    """
    trial = study.require_chosen()
    model_uri = log_fitted_model(study, trial)
    saved = _read_model(study, trial)
    tags = {
        "psvae_tune.study": study.name,
        "psvae_tune.study_run": study.run_id,
        "psvae_tune.trial": study.label(trial),
        "psvae_tune.label_names": json.dumps(saved.extra.get("label_names", [])),
        "psvae_tune.label_scaler": json.dumps(
            saved.label_scaler.to_dict() if saved.label_names else None
        ),
    }
    return register_model(study.target, trial.run_id, model_uri, name, tags)


def log_fitted_model(study: LoggedStudy, trial: TrialRecord) -> str:
    """Log the model of a finished trial in MLflow's model format, unless its run has one.

    The example of its input are the frames that all trials of the study are compared on.

    Side effects: writes to MLflow.

    Returns
    -------
    str
        The URI of the model.

    Raises
    ------
    TrackingError
        If the trial's files are gone, or the store cannot be written.
    """
    model_uri = find_model(study.target, trial.run_id)
    if model_uri is None:
        bases = np.load(io.BytesIO(_require(study, trial, f"{COMPARISON}/bases.npz")))
        partition = _read_model(study, trial).model.partition
        with writing(f"run {trial.run_id}"):
            model_uri = log_model(
                study.target,
                trial.trial_id,
                bases["frames"],
                partition.n_latents,
                partition.n_supervised,
            )
    return model_uri


def _read_model(study: LoggedStudy, trial: TrialRecord) -> "SavedModel":
    from psvae_tune.models.model_file import load_model

    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        path.write_bytes(_require(study, trial, "model.pt"))
        return load_model(path)


def _require(study: LoggedStudy, trial: TrialRecord, path: str) -> bytes:
    content = study.read_artifact(trial.run_id, path)
    if content is None:
        raise TrackingError(f"run {trial.run_id}", f"holds no `{path}`")
    return content


def export(study: LoggedStudy, trial: TrialRecord, folder: Path) -> None:
    """Copy a trial's weights, settings, latents, figures and movies out of MLflow.

    Parameters
    ----------
    study, trial
        Study, and the trial of it to copy.
    folder
        New folder, which appears whole or not at all.

    Raises
    ------
    StorageError
        If the folder exists.
    TrackingError
        If the store does not hand the files out.
    """
    require_absent(folder, "folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replace_when_whole(folder) as unfinished:
            unfinished.mkdir()
            study.target.client().download_artifacts(trial.run_id, "", str(unfinished))
            if not (unfinished / "model.pt").is_file():
                raise TrackingError(
                    f"run {trial.run_id}", f"holds no weights in {trial.artifacts}"
                )
            shutil.rmtree(unfinished / COMPARISON, ignore_errors=True)
            card = json.dumps(_card(study, trial), indent=2)
            write_bytes(unfinished / "card.json", card.encode())
    except OSError as error:
        raise StorageError(str(folder), f"cannot be written: {error.strerror}") from error
    except PsvaeTuneError:
        raise
    except Exception as error:  # stores raise what their database or HTTP library raises
        raise TrackingError(
            f"run {trial.run_id}", f"cannot be read: {reason_of(error)}"
        ) from error


def check_onnx(study: LoggedStudy, trial: TrialRecord, path: Path, session_index: int) -> None:
    """Make sure before the work that `export_onnx` can write its file.

    Raises
    ------
    PsvaeTuneError
        If it cannot.
    """
    from psvae_tune.models.onnx_file import check_onnx_target

    check_onnx_target(_read_model(study, trial), path, session_index)


def export_onnx(study: LoggedStudy, trial: TrialRecord, path: Path, session_index: int) -> None:
    """Write the encoder of a trial to an ONNX file; see `FittedModel.export_onnx`.

    Its metadata names the study, the trial and its run, too.

    Raises
    ------
    TrackingError
        If the trial's files are gone, or the store does not hand them out.
    """
    from psvae_tune.models.onnx_file import write_onnx

    saved = _read_model(study, trial)
    write_onnx(saved, path, session_index, describe_origin(study, trial))


def describe_origin(study: LoggedStudy, trial: TrialRecord) -> dict[str, str]:
    """Return the names of a trial and its study, and its run, as files of its model tell them."""
    return {"study": study.name, "trial": study.label(trial), "run_id": trial.run_id}


def _card(study: LoggedStudy, trial: TrialRecord) -> dict[str, Any]:
    """Return the description of a model for a person who has only its file."""
    return {
        **describe_origin(study, trial),
        "is_chosen": trial.is_selected,
        "sessions": study.sessions,
        "params": dict(trial.params),
        "metrics": {k: v for k, v in trial.metrics.items() if k.startswith(("best/", "test/"))},
    }
