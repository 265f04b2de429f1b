"""The stages of a study, one after another, each from what the one before chose."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ray

from psvae_tune.cluster.gpu_packing import measure_gpu_share
from psvae_tune.cluster.nodes import list_nodes
from psvae_tune.config.selection_rule import SEED_PARAMETER, total_shortfall
from psvae_tune.config.stage import Stage
from psvae_tune.config.study import Study
from psvae_tune.config.trial import with_fewer_epochs
from psvae_tune.data.session import Session
from psvae_tune.errors import StudyError, StudyInterrupted
from psvae_tune.search.progress import StudyObserver
from psvae_tune.search.sampler import StageSampler
from psvae_tune.search.schedulers import make_scheduler
from psvae_tune.search.seed_agreement import with_udr
from psvae_tune.search.selection.select import Selection, select
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.successive_halving import epoch_divisors, select_survivors
from psvae_tune.search.trainable import TrialContext
from psvae_tune.search.trial_spec import Origin, TrialSpec
from psvae_tune.search.tuner import RunContext, train
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import StudyFolder
from psvae_tune.tracking.outbox import close_trial
from psvae_tune.tracking.trial_result import TrialResult


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """How a stage ended."""

    stage: Stage
    trials: tuple[TrialResult, ...]
    selection: Selection


def run_study(
    study: Study,
    sessions: Sequence[Session],
    folder: StudyFolder,
    target: TrackingTarget,
    observer: StudyObserver,
) -> list[StageOutcome]:
    """Run every stage of a study that has not been run, each from what the one before chose.

    Ray must have been started. What the journal of the study holds is not run again.

    Side effects: trains; writes the study's folder; logs the trials' runs to MLflow.

    Raises
    ------
    StudyError
        If a stage ends without a trial that can be chosen, or is interrupted.
    """
    base = study.base
    digests = tuple(session.digest for session in sessions)
    n_labels = sessions[0].header.n_labels
    stored, gpus = ray.put(list(sessions)), study.resources.gpus_per_trial
    if gpus == "auto":
        gpus = measure_gpu_share(study, stored, list_nodes())
    shared = RunContext(stored, digests, n_labels, study.resources, gpus, observer)
    outcomes: list[StageOutcome] = []
    for stage in study.stages:
        job = TrialContext(
            base,
            stage.name,
            folder,
            target,
            study.tracking.movies,
            may_be_stopped=stage.scheduler is not None,
        )
        origin = Origin(base, digests, n_labels)
        points, dropped = _run_stage(stage, origin, job, shared)
        trials = origin.results(points, StageJournal(folder, stage.name).trial_ends())
        if SEED_PARAMETER in stage.space:
            trials = with_udr(points, trials, origin, sessions, job)
        trials += dropped
        selection = select(trials, stage.select)
        observer.stage_selected(stage, selection)
        outcomes.append(StageOutcome(stage, tuple(trials), selection))
        chosen = next(point for point in points if point.trial_id == selection.chosen.trial_id)
        base = base.with_params(chosen.params)
    return outcomes


def _run_stage(
    stage: Stage, origin: Origin, job: TrialContext, shared: RunContext
) -> tuple[list[TrialSpec], list[TrialResult]]:
    """Train what the journal does not hold.

    Returns the points that were to train in full, and the short trainings of the others.
    """
    record = StageJournal(job.folder, stage.name)
    dropped: list[TrialResult] = []
    if stage.fidelity is not None:
        points = _draw(stage, origin, record)
        points, dropped = _halve(stage, points, origin, job, shared, record)
        _run_points(stage, points, job, shared, record)
    elif stage.algorithm == "grid":
        points = origin.points(stage.grid())
        _run_points(stage, points, job, shared, record)
    else:
        points = _run_sampling(StageSampler(stage, origin, record), job, shared)
    ends = record.trial_ends()
    if not any(ends[point.trial_id].is_finished for point in points):
        reasons = {ends[point.trial_id].reason for point in points}
        raise StudyError(
            f"study {job.folder.name}",
            [f"no trial of stage `{stage.name}` was finished", *sorted(reasons)],
        )
    return points, dropped


def _draw(stage: Stage, origin: Origin, record: StageJournal) -> list[TrialSpec]:
    """Return all points of a stage. Side effects: notes those that are drawn at random."""
    if stage.algorithm == "grid":
        return origin.points(stage.grid())
    sampling = StageSampler(stage, origin, record)
    while sampling.ask() is not None:
        pass
    return sampling.points()


def _halve(
    stage: Stage,
    points: list[TrialSpec],
    origin: Origin,
    job: TrialContext,
    shared: RunContext,
    record: StageJournal,
) -> tuple[list[TrialSpec], list[TrialResult]]:
    """Train on shorter schedules; return the points that survive, and the results of others."""
    assert stage.fidelity is not None
    factor = stage.fidelity.schedule.reduction_factor
    dropped: list[TrialResult] = []
    for reduction in epoch_divisors(len(points), factor):
        short = replace(
            job, base=with_fewer_epochs(job.base, reduction), rung=f"1/{reduction:.3g}"
        )
        start = replace(origin, base=short.base, rung=short.rung)
        trained = [start.point(point.params) for point in points]
        _run_points(stage, trained, short, shared, record)
        ends = record.trial_ends()
        trained_ends = [ends[point.trial_id] for point in trained]
        missed = [
            total_shortfall(
                stage.requirements, end.best_metrics, origin.count_unsupervised(point.params)
            )
            for point, end in zip(trained, trained_ends, strict=True)
        ]
        kept = select_survivors(trained_ends, stage.objectives, factor, missed)
        results = start.results(trained, ends)
        dropped += [replace(r, completed=False) for i, r in enumerate(results) if i not in kept]
        points = [points[i] for i in kept]
    return points, dropped


def _run_points(
    stage: Stage,
    points: Sequence[TrialSpec],
    job: TrialContext,
    shared: RunContext,
    record: StageJournal,
) -> None:
    ended = record.trial_ends()
    todo = [point for point in points if point.trial_id not in ended]
    shared.observer.stage_started(stage, len(points), len(points) - len(todo), job.rung)
    if todo:
        scheduler = make_scheduler(stage, job, points, record, shared.n_labels)
        train(todo, job, shared, record, scheduler)
    ended = record.trial_ends()
    left = [point for point in points if point.trial_id not in ended]
    if left:
        _stop_interrupted(job, left, f"{len(points) - len(left)} of {len(points)} trials")


def _run_sampling(
    sampling: StageSampler, job: TrialContext, shared: RunContext
) -> list[TrialSpec]:
    stage, record = sampling.stage, sampling.record
    unfinished = sampling.unfinished()
    n_ended = len(sampling.points()) - len(unfinished)
    shared.observer.stage_started(stage, stage.n_trials, n_ended)
    if unfinished or sampling.budget() == "left":
        scheduler = make_scheduler(stage, job, [], record, shared.n_labels)
        train(sampling, job, shared, record, scheduler)
    points, left = sampling.points(), sampling.unfinished()
    if left or sampling.budget() == "left":
        of = "" if stage.n_trials is None else f" of {stage.n_trials}"
        _stop_interrupted(job, left, f"{len(points) - len(left)}{of} trials")
    return points


def _stop_interrupted(job: TrialContext, left: Sequence[TrialSpec], done: str) -> None:
    """End the runs of trials that were cut off, and say how to go on."""
    for point in left:
        close_trial(job.folder, job.target, point.trial_id, "KILLED", "interrupted")
    raise StudyInterrupted(
        f"study {job.folder.name}",
        f"interrupted: {done} of stage `{job.stage}` have ended, those cut off go on from their "
        "last checkpoint",
        hint=f"psvae-tune resume {job.folder.root}",
    )
