"""A whole study: recordings in, a choice and its runs out."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import torch

from psvae_tune.cluster.ray_session import start_ray
from psvae_tune.data.session import Session
from psvae_tune.errors import PsvaeTuneError, StudyInterrupted, TrackingError
from psvae_tune.files import write_bytes
from psvae_tune.redaction import hide_passwords
from psvae_tune.results.logged_study import open_study
from psvae_tune.results.publish import publish
from psvae_tune.search.progress import StudyObserver, TrialReport
from psvae_tune.search.trainable import run_trial
from psvae_tune.search.trial_spec import StageContext
from psvae_tune.study.interrupt import explain_interruption, sigterm_as_sigint
from psvae_tune.study.load_sessions import check_buildable
from psvae_tune.study.location import StudyLocation
from psvae_tune.study.plan import StudyPlan
from psvae_tune.study.resume_check import check_unchanged, note_request
from psvae_tune.study.stages import StageOutcome, run_stages
from psvae_tune.tracking.chart_view import save_view
from psvae_tune.tracking.client import SELECTED, RunStatus, TrackingTarget, reason_of, writing
from psvae_tune.tracking.folders import remove_folder
from psvae_tune.tracking.model_registry import log_model
from psvae_tune.tracking.outbox import close_trial, deliver_all
from psvae_tune.tracking.study_run import StudyRun

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoggedChoice:
    """What MLflow holds of the choice of a study."""

    model_uri: str
    override: Mapping[str, Any] | None
    """The choice of a person, which stands although the study has gone on."""


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """What a study found, and where it lies."""

    location: StudyLocation
    stages: tuple[StageOutcome, ...]
    logged: LoggedChoice | None
    """None: it waits, with what else the tracking server has not taken, for `sync`."""


@contextmanager
def _claim(
    plan: StudyPlan,
    sessions: Sequence[Session],
    location: StudyLocation,
    *,
    accept_changes: bool = False,
) -> Iterator[None]:
    """Hold a study, with what is needed to go on kept. Side effects: writes to its folder."""
    check_buildable(plan.study, sessions)
    with location.folder.lock():
        if not accept_changes:
            check_unchanged(location.folder, plan.contents, sessions)
        note_request(location.folder, plan.contents, sessions)
        target = location.target
        location.folder.save_tracking(
            {"uri": hide_passwords(target.uri), "experiment_id": target.experiment_id}
        )
        yield


def run(
    plan: StudyPlan,
    sessions: Sequence[Session],
    location: StudyLocation,
    observer: StudyObserver,
    *,
    accept_changes: bool = False,
) -> StudyOutcome:
    """Run a study, or what is left of it, to its end.

    Parameters
    ----------
    plan
        What to run.
    sessions
        Its recordings.
    location
        Where it is kept and logged; one that was interrupted there goes on.
    observer
        Is told of every trial.
    accept_changes
        Whether to go on although the settings or the recordings are not those it began with.

    Side effects: writes to the study's folder and to MLflow; starts Ray here, unless this process
    has joined a cluster, and ends that.

    Raises
    ------
    UserError
        If something stands in the way; then nothing has been trained.
    StudyError
        If it was interrupted, or no trial can be chosen.
    """
    with (
        explain_interruption(location.folder),
        _claim(plan, sessions, location, accept_changes=accept_changes),
        _study_run(location.target, plan) as study_run,
    ):
        if not ray.is_initialized():
            start_ray(sum(session.frames.nbytes for session in sessions))
        try:
            # After Ray's start, which would end the process instead.
            with sigterm_as_sigint():
                stages = run_stages(plan.study, sessions, location, observer)
        finally:
            ray.shutdown()
        return _conclude(plan, sessions, location, stages, study_run)


def run_inline(
    plan: StudyPlan, sessions: Sequence[Session], location: StudyLocation
) -> Iterator[TrialReport]:
    """Train the settings that a study starts from, in this process and without Ray.

    Side effects: as those of `run`, but for one trial.
    """
    context = StageContext(
        plan.study.stages[0].model_copy(update={"name": "inline", "scheduler": None}),
        plan.study.base,
        location.folder,
        location.target,
        digests=tuple(session.digest for session in sessions),
        n_labels=sessions[0].header.n_labels,
        movies=plan.study.tracking.movies,
    )
    spec = context.spec({})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    status: RunStatus = "KILLED"
    with explain_interruption(location.folder), _claim(plan, sessions, location):
        try:
            for report in run_trial(spec, sessions, context, device):
                yield report
                status = "FAILED" if report.failure else "FINISHED"
        finally:
            close_trial(location.folder, location.target, spec.trial_id, status, "trained inline")
        location.folder.checkpoint(spec.trial_id).unlink(missing_ok=True)


@contextmanager
def _study_run(target: TrackingTarget, plan: StudyPlan) -> Iterator[StudyRun]:
    """Open the run of the study, and close it as the study ended."""
    varied = dict.fromkeys(name for stage in plan.study.stages for name in stage.space)
    objectives = [key.partition("/")[2] for s in plan.study.stages for key in s.objectives]
    with writing(hide_passwords(f"tracking URI {target.uri}")):
        study_run = StudyRun.open(target, plan.study.base.params)
        save_view(target, list(varied), list(dict.fromkeys(objectives)))
    status: RunStatus = "FAILED"
    try:
        yield study_run
        status = "FINISHED"
    except (StudyInterrupted, KeyboardInterrupt, OSError):
        status = "KILLED"
        raise
    finally:
        try:
            study_run.close(status)
        except Exception as error:  # stores raise what their database or HTTP library raises
            why = reason_of(error)
            logger.warning("the run of the study could not be closed: %s", why)


def _conclude(
    plan: StudyPlan,
    sessions: Sequence[Session],
    location: StudyLocation,
    stages: Sequence[StageOutcome],
    study_run: StudyRun,
) -> StudyOutcome:
    """Write down what was chosen.

    Side effects: writes to the study's folder and to MLflow; removes the checkpoints.
    """
    selection = {outcome.stage.name: outcome.selection.to_dict() for outcome in stages}
    location.folder.save_selection(selection)
    try:
        # Of trials stopped early: a later stage could have asked for them again, and none is left.
        remove_folder(location.folder.checkpoints)
    except Exception as error:  # file systems behind URLs raise what their libraries raise
        logger.warning("checkpoints were left behind: %s", reason_of(error))
    logged = None
    write_bytes(location.folder.unlogged, b"")
    try:
        if n_waiting := deliver_all(location.folder, location.target):
            raise TrackingError(
                f"study {location.folder.name}", f"{n_waiting} trials wait for the tracking server"
            )
        logged = _log_choice(plan, sessions, location, stages, study_run)
        location.folder.unlogged.unlink()
    except Exception as error:  # stores raise what their database or HTTP library raises
        logger.warning("the choice waits to be logged: %s", reason_of(error))
    return StudyOutcome(location, tuple(stages), logged)


def _log_choice(
    plan: StudyPlan,
    sessions: Sequence[Session],
    location: StudyLocation,
    stages: Sequence[StageOutcome],
    study_run: StudyRun,
) -> LoggedChoice:
    """Log what was chosen, and why. Side effects: in MLflow."""
    for file in (location.folder.selection, location.folder.study_file):
        study_run.log_text(file.read_text(encoding="utf-8"), file.name)
    chosen = stages[-1].selection.chosen
    override = open_study(location.target.uri, location.target.study).override
    study_run.mark([chosen.trial_id if override is None else override["trial_id"]], SELECTED)
    config = plan.study.base
    for outcome in stages:
        varied = {name: outcome.selection.chosen.params[name] for name in outcome.stage.space}
        config = config.with_params(varied)
    header = sessions[0].header
    model_uri = log_model(
        location.target,
        chosen.trial_id,
        sessions[0].frames[:2],
        config.model.n_ae_latents,
        config.model.count_supervised(header.n_labels),
    )
    try:
        publish(open_study(location.target.uri, location.target.study))
    except PsvaeTuneError as error:  # the study is over, and the command makes it again
        logger.warning("no report: %s; psvae-tune report makes it again", error)
    return LoggedChoice(model_uri, override)
