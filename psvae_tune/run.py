"""A whole study: recordings in, a choice and its runs out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ray
import torch

from psvae_tune.data.hdf5 import read_session
from psvae_tune.data.types import Session
from psvae_tune.errors import StudyError
from psvae_tune.plan import Plan, session_path
from psvae_tune.storage import OutputFolder, StudyFolder
from psvae_tune.tracking import (
    SELECTED,
    RunStatus,
    StudyRun,
    TrackingTarget,
    close_trial,
    hide_password,
    log_model,
    open_target,
)
from psvae_tune.trial import Progress, TrialJob, run_trial
from psvae_tune.tune import StageOutcome, check_buildable, run_study, start_ray
from psvae_tune.watch import Watcher

OnFrames = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """What a study found, and where it lies."""

    folder: StudyFolder
    target: TrackingTarget
    stages: tuple[StageOutcome, ...]
    model_uri: str


def read_sessions(plan: Plan, on_frames: OnFrames | None = None) -> list[Session]:
    """Read the recordings of a study into memory.

    Parameters
    ----------
    plan
        Names them.
    on_frames
        Is told how many frames of all recordings have been read.
    """
    sessions: list[Session] = []
    for name in plan.study.base.data.sessions:
        n_before = sum(session.header.n_frames for session in sessions)
        progress = None if on_frames is None else lambda n, first=n_before: on_frames(first + n)
        needs_labels = plan.study.base.model.needs_labels
        sessions.append(
            read_session(session_path(name), needs_labels=needs_labels, progress=progress)
        )
    return sessions


def run(
    plan: Plan,
    sessions: Sequence[Session],
    output: OutputFolder,
    name: str,
    tracking_uri: str | None,
    watcher: Watcher,
) -> StudyOutcome:
    """Run a study, or what is left of it, to its end.

    Parameters
    ----------
    plan
        What to run.
    sessions
        Its recordings.
    output
        Where everything is kept.
    name
        Of the study; one that was interrupted goes on.
    tracking_uri
        A store or server of MLflow; None for a store in ``output``.
    watcher
        Is told of every trial.

    Side effects: writes to ``output`` and to MLflow; starts Ray on this machine and ends it.

    Raises
    ------
    RequestError
        If something stands in the way; then nothing has been trained.
    StudyError
        If it was interrupted, or no trial can be chosen.
    """
    check_buildable(plan.study, sessions)
    folder, target = _open(plan, output, name, tracking_uri)
    with _study_run(target, plan) as study_run:
        start_ray(sum(session.frames.nbytes for session in sessions))
        try:
            stages = run_study(plan.study, sessions, folder, target, watcher)
        finally:
            ray.shutdown()
        return _conclude(plan, sessions, folder, target, stages, study_run)


def run_inline(
    plan: Plan,
    sessions: Sequence[Session],
    output: OutputFolder,
    name: str,
    tracking_uri: str | None,
) -> Iterator[Progress]:
    """Train the settings that a study starts from, in this process and without Ray.

    Side effects: as those of `run`, but for one trial.
    """
    check_buildable(plan.study, sessions)
    folder, target = _open(plan, output, name, tracking_uri)
    job = TrialJob(plan.study.base, "inline", folder, target)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    status: RunStatus = "KILLED"
    trial_id = plan.study.base.fingerprint([session.digest for session in sessions])
    try:
        for progress in run_trial({}, sessions, job, device):
            yield progress
            status = "FAILED" if progress.failure else "FINISHED"
    finally:
        close_trial(target, trial_id, status, "trained inline")


def _open(
    plan: Plan, output: OutputFolder, name: str, tracking_uri: str | None
) -> tuple[StudyFolder, TrackingTarget]:
    """Make the places that a study writes to. Side effects: creates them."""
    output.prepare()
    uri = tracking_uri or plan.study.tracking.uri
    target = open_target(
        uri or output.default_tracking_uri,
        plan.study.experiment_name,
        name,
        output.artifacts if uri is None else None,
    )
    folder = output.study(name)
    folder.save_study_file(plan.raw)
    folder.save_tracking({"uri": hide_password(target.uri), "experiment_id": target.experiment_id})
    return folder, target


@contextmanager
def _study_run(target: TrackingTarget, plan: Plan) -> Iterator[StudyRun]:
    """Open the run of the study, and close it as the study ended."""
    study_run = StudyRun.open(target, plan.study.base.params)
    status: RunStatus = "FAILED"
    try:
        yield study_run
        status = "FINISHED"
    except (StudyError, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        study_run.close(status)


def _conclude(
    plan: Plan,
    sessions: Sequence[Session],
    folder: StudyFolder,
    target: TrackingTarget,
    stages: Sequence[StageOutcome],
    study_run: StudyRun,
) -> StudyOutcome:
    """Write down what was chosen. Side effects: writes to the study's folder and to MLflow."""
    selection = {outcome.stage.name: outcome.selection.to_dict() for outcome in stages}
    folder.save_selection(selection)
    study_run.log_file(folder.selection)
    study_run.log_file(folder.root / "study.yaml")
    study_run.describe(to_markdown(stages))
    final = stages[-1]
    chosen = final.selection.chosen
    study_run.mark([chosen.trial_id], SELECTED)
    config = plan.study.base
    for outcome in stages:
        varied = {name: outcome.selection.chosen.params[name] for name in outcome.stage.space}
        config = config.with_params(varied)
    header = sessions[0].header
    model_uri = log_model(
        target,
        chosen.trial_id,
        sessions[0].frames[:2],
        config.model.n_ae_latents,
        config.model.count_supervised(header.n_labels),
    )
    return StudyOutcome(folder, target, tuple(stages), model_uri)


def to_markdown(stages: Sequence[StageOutcome]) -> str:
    """Return the choice of every stage and its reasons."""
    parts = []
    for outcome in stages:
        reasons = "\n".join(f"- {reason}" for reason in outcome.selection.reasons)
        parts.append(f"**{outcome.stage.name}: {outcome.selection.chosen.name}**\n\n{reasons}")
    return "\n\n".join(parts)
