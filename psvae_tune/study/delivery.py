"""The outcome of a study reaches MLflow, from the study's folder alone, at once or later."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from psvae_tune.config.wording import and_list
from psvae_tune.errors import DeletedError, PsvaeTuneError, TrackingError
from psvae_tune.results.baseline_report import describe_baselines, list_warnings
from psvae_tune.results.choices import log_fitted_model
from psvae_tune.results.logged_study import open_study
from psvae_tune.results.publish import publish
from psvae_tune.study.location import StudyLocation
from psvae_tune.tracking.client import RunStatus, reason_of
from psvae_tune.tracking.deleted import check_experiment, missing_trial
from psvae_tune.tracking.outbox import deliver_all
from psvae_tune.tracking.study_run import StudyRun
from psvae_tune.tracking.tags import SELECTED

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoggedChoice:
    """The choice of a study as MLflow holds it."""

    model_uri: str
    """URI of the model of the trial that the rule chose."""
    override: Mapping[str, Any] | None
    """The choice of a person, which stands although the study has gone on."""
    remarks: tuple[str, ...]
    """Sentences on what is wrong with the rule's choice, and how it stands beside baselines."""


def deliver_outcome(location: StudyLocation, study_run: StudyRun) -> LoggedChoice:
    """Send what waits of the trials, then log the choice that the study's folder holds.

    Side effects: changes runs in MLflow; empties the outbox; removes the note that the choice is
    not logged.

    Raises
    ------
    TrackingError
        If the server does not take everything.
    """
    _deliver_trials(location)
    choice = _log_choice(location, study_run)
    location.folder.unlogged.unlink()
    return choice


def sync_study(location: StudyLocation) -> LoggedChoice | None:
    """Deliver what the tracking server has not taken of a study that does not run.

    Returns None if no choice waited: it has been logged, or the study has not ended.

    Side effects: as those of `deliver_outcome`.

    Raises
    ------
    StorageError
        If another process runs the study.
    TrackingError
        If the server does not take everything, or the run of the chosen trial was deleted.
    """
    try:
        check_experiment(location.target)
    except DeletedError:
        raise
    except Exception as error:  # stores raise what their database or HTTP library raises
        logger.debug("whether it was deleted is not known: %s", reason_of(error))
    with location.folder.lock():
        _deliver_trials(location)
        if not location.folder.unlogged.exists():
            return None
        study_run = StudyRun.open(location.target, {})
        try:
            return deliver_outcome(location, study_run)
        finally:
            close_study_run(study_run, "FINISHED")


def close_study_run(study_run: StudyRun, status: RunStatus) -> None:
    """Close the run of a study; a server that is away is only a warning. Side effects: MLflow."""
    try:
        study_run.close(status)
    except Exception as error:  # stores raise what their database or HTTP library raises
        logger.warning("the run of the study could not be closed: %s", reason_of(error))


def _deliver_trials(location: StudyLocation) -> None:
    if n_waiting := deliver_all(location.folder, location.target):
        raise TrackingError(
            f"tracking URI {location.target.uri}",
            f"has not taken what {n_waiting} trials have logged",
            hint="-v says why; psvae-tune sync goes on where this stopped",
        )


def _log_choice(location: StudyLocation, study_run: StudyRun) -> LoggedChoice:
    """Log which trial was chosen, and why. Side effects: changes runs in MLflow."""
    for file in (location.folder.selection, location.folder.study_file):
        study_run.log_text(file.read_text(encoding="utf-8"), file.name)
    study = open_study(location.target.uri, location.target.study)
    rule = list(study.selection.values())[-1]
    stands = study.override or rule
    trials = {trial.trial_id: trial for trial in study.trials}
    if stands["trial_id"] not in trials:
        raise missing_trial(study.target, stands["trial_id"], stands["name"])
    study_run.mark([stands["trial_id"]], SELECTED)
    # A person may have chosen another trial because the run of this one is gone.
    chosen = trials.get(rule["trial_id"], trials[stands["trial_id"]])
    model_uri = log_fitted_model(study, chosen)
    marked = [replace(t, is_selected=t.trial_id == stands["trial_id"]) for t in study.trials]
    try:
        publish(replace(study, trials=tuple(marked)))
    except PsvaeTuneError as error:  # the study is over, and the command makes it again
        logger.warning("no report: %s; psvae-tune report makes it again", error)
    warnings = list_warnings(study, chosen)
    remarks = [f"Mind that {and_list(warnings)}."] if warnings else []
    remarks += describe_baselines(study, chosen)
    return LoggedChoice(model_uri, study.override, tuple(remarks))
