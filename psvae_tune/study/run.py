"""A whole study: recordings in, a choice and its runs out."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ray
import torch

from psvae_tune.config.stage_settings import list_hidden_sets
from psvae_tune.data.session import Session
from psvae_tune.errors import DataError, DeletedError, StudyInterrupted
from psvae_tune.files import write_bytes
from psvae_tune.redaction import hide_passwords
from psvae_tune.search.progress import StudyObserver, TrialReport
from psvae_tune.search.trainable import run_trial
from psvae_tune.search.trial_spec import StageContext
from psvae_tune.study.check_buildable import check_buildable
from psvae_tune.study.delivery import LoggedChoice, close_study_run, deliver_outcome
from psvae_tune.study.location import StudyLocation
from psvae_tune.study.plan import StudyPlan
from psvae_tune.study.resume_check import note_request
from psvae_tune.study.stages import StageOutcome, run_stages
from psvae_tune.tracking.baseline_runs import log_baselines
from psvae_tune.tracking.chart_view import save_view
from psvae_tune.tracking.client import RunStatus, TrackingTarget, reason_of, writing
from psvae_tune.tracking.folders import remove_folder
from psvae_tune.tracking.outbox import Outbox
from psvae_tune.tracking.study_run import StudyRun
from psvae_tune.training.baselines import measure_baselines

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """The choices of a study, and where it is kept and logged."""

    location: StudyLocation
    stages: tuple[StageOutcome, ...]
    logged: LoggedChoice | None
    """None if the choice waits for the tracking server; `sync_study` delivers it."""


def run(
    plan: StudyPlan,
    sessions: Sequence[Session],
    location: StudyLocation,
    observer: StudyObserver,
    wait_for_ray: Callable[[], None],
) -> StudyOutcome:
    """Run a study, or what is left of it, to its end.

    Parameters
    ----------
    plan
        The settings of the study and the headers of its recordings.
    sessions
        The recordings.
    location
        Folder and runs of the study, which is locked; one that was interrupted there goes on.
    observer
        Told of every stage and every trial.
    wait_for_ray
        Returns once Ray has started, or this process has joined a cluster.

    Side effects: writes to the study's folder and to MLflow; ends Ray, or leaves the cluster.

    Raises
    ------
    UserError
        If something stands in the way; then nothing has been trained.
    StudyError
        If the study was interrupted, or no trial can be chosen.
    """
    _note_start(plan, sessions, location)
    with _open_study_run(location.target, plan) as study_run:
        _log_baselines(study_run, plan, sessions)
        wait_for_ray()
        stages = run_stages(plan.study, sessions, location, observer)
        ray.shutdown()
        logged = _keep_outcome(location, stages, study_run)
    return StudyOutcome(location, tuple(stages), logged)


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
    _note_start(plan, sessions, location)
    try:
        for report in run_trial(spec, sessions, context, device):
            yield report
            status = "FAILED" if report.failure else "FINISHED"
    finally:
        outbox = Outbox.of(location.folder, location.target, spec.trial_id)
        outbox.close(status, "trained inline")
    location.folder.checkpoint(spec.trial_id).unlink(missing_ok=True)


def _note_start(plan: StudyPlan, sessions: Sequence[Session], location: StudyLocation) -> None:
    """Keep in the folder of a study that can be run what is needed to resume it.

    Side effects: writes to the folder.
    """
    check_buildable(plan.study, sessions)
    folder, target = location.folder, location.target
    note_request(folder, plan.contents, sessions)
    folder.save_tracking(target.uri, target.experiment_id)


def _log_baselines(study_run: StudyRun, plan: StudyPlan, sessions: Sequence[Session]) -> None:
    """Log the scores that need no network, while Ray starts. Side effects: logs to MLflow."""
    try:
        base = plan.study.base
        log_baselines(
            study_run,
            lambda: measure_baselines(sessions, base, list_hidden_sets(plan.study.stages, base)),
            base.model.n_ae_latents,
        )
    except DataError:
        raise
    except Exception as error:  # stores raise what their database or HTTP library raises
        logger.warning("the baselines are not logged: %s", reason_of(error))


@contextmanager
def _open_study_run(target: TrackingTarget, plan: StudyPlan) -> Iterator[StudyRun]:
    """Open the run of the study, and close it with the status that the study ends with."""
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
        close_study_run(study_run, status)


def _keep_outcome(
    location: StudyLocation, stages: Sequence[StageOutcome], study_run: StudyRun
) -> LoggedChoice | None:
    """Write the choice of every stage to the folder, and log it if the server is there.

    Raises
    ------
    DeletedError
        If the run of the chosen trial was deleted.

    Side effects: writes to the study's folder and to MLflow; removes the checkpoints.
    """
    folder = location.folder
    folder.save_selection({item.stage.name: item.selection.to_dict() for item in stages})
    try:
        # No later stage can ask for those of trials that were stopped early, or go on from others.
        remove_folder(folder.checkpoints)
        remove_folder(folder.last_states)
    except Exception as error:  # file systems behind URLs raise what their libraries raise
        logger.warning("checkpoints were left behind: %s", reason_of(error))
    write_bytes(folder.unlogged, b"")
    try:
        return deliver_outcome(location, study_run)
    except DeletedError:
        raise  # it waits for a person
    except Exception as error:  # stores raise what their database or HTTP library raises
        logger.warning("the choice waits to be logged: %s", reason_of(error))
        return None
