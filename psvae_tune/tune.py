"""The driver's side: the stages of a study, one after another, on Ray Tune."""

import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import ray
import torch
from ray import tune

from psvae_tune.batches import prepare_data
from psvae_tune.config import TrialConfig
from psvae_tune.data.types import Session
from psvae_tune.errors import StudyError
from psvae_tune.models.registry import build_model
from psvae_tune.naming import name_trial
from psvae_tune.record import StageRecord
from psvae_tune.schedulers import ParetoAsha, rungs
from psvae_tune.search_space import Domain, Resources, Stage, Study
from psvae_tune.select import N_UNSUPERVISED, Selection, TrialResult, select
from psvae_tune.storage import StudyFolder
from psvae_tune.tracking import TrackingTarget, close_trial
from psvae_tune.trial import TrialJob, run_trial
from psvae_tune.watch import DriverCallback, Watcher, to_result

# Small models leave most of a GPU idle, so several trials share one.
GPU_SHARE = 0.25
MAX_FAILURES = 2

# Ray's workers inherit these. The time-out is how long a stopped trial may take to unwind before
# Tune takes the worker that it wants to reuse for lost.
WORKER_ENVIRONMENT = {"TUNE_FUNCTION_THREAD_TIMEOUT_S": "60"}
DRIVER_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """How a stage ended."""

    stage: Stage
    trials: tuple[TrialResult, ...]
    selection: Selection


@dataclass(frozen=True, slots=True)
class Point:
    """One configuration of a stage, and the names that it goes by."""

    params: dict[str, Any]
    trial_id: str
    name: str


def draw_points(stage: Stage) -> list[dict[str, Any]]:
    """Return the hyperparameters of every trial of a grid or a random search."""
    if stage.algorithm == "grid":
        return stage.grid()
    rng = np.random.default_rng(stage.seed)
    return [
        {name: _draw(domain, rng) for name, domain in stage.space.items()}
        for _ in range(stage.n_trials)
    ]


def _draw(domain: Domain, rng: np.random.Generator) -> Any:
    value = to_ray(domain).sample(random_state=rng)
    return value.item() if isinstance(value, np.generic) else value


def to_ray(domain: Domain) -> Any:
    """Return Ray Tune's object for a domain."""
    make = getattr(tune, domain.kind)
    return make(list(domain.values)) if domain.kind == "choice" else make(*domain.values)


def _trainable(config: dict[str, Any], sessions: Any, job: TrialJob, n_threads: int) -> None:
    """Run in a worker of Ray: fit one configuration and report every validation."""
    # One thread a CPU given: trials beside each other must not fight for the same cores.
    torch.set_num_threads(n_threads)
    device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
    for progress in run_trial(config["point"]["params"], sessions, job, device):
        tune.report(to_result(progress))


def start_ray(n_bytes: int) -> None:
    """Start Ray on this machine alone. Side effects: starts processes; `ray.shutdown` ends them.

    Parameters
    ----------
    n_bytes
        Of the recordings, which the object store must hold.
    """
    os.environ.update({k: v for k, v in DRIVER_ENVIRONMENT.items() if k not in os.environ})
    # A token of this cluster's own keeps other users of the machine out.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray.init(
        address="local",
        num_cpus=len(os.sched_getaffinity(0)),
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
        object_store_memory=int(1.2 * n_bytes) + 2**28,
        runtime_env={"env_vars": WORKER_ENVIRONMENT},
    )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def check_buildable(study: Study, sessions: Sequence[Session]) -> None:
    """Build what the first stage would fit, to find before any training what cannot be.

    Raises
    ------
    ConfigError, DataError
        If data cannot be prepared or a model cannot be built for them.
    """
    shape = prepare_data(sessions, study.base).shape
    counts = {study.base.model.n_ae_latents}
    for stage in study.stages:
        if "n_ae_latents" in stage.space:
            counts |= set(stage.space["n_ae_latents"].corners)
    for n_latents in counts:
        build_model(study.base.with_params({"n_ae_latents": n_latents}).model, shape)


def run_study(
    study: Study,
    sessions: Sequence[Session],
    folder: StudyFolder,
    target: TrackingTarget,
    watcher: Watcher,
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
    shared = ray.put(list(sessions))
    digests = [session.digest for session in sessions]
    n_labels = sessions[0].header.n_labels
    outcomes: list[StageOutcome] = []
    for stage in study.stages:
        job = TrialJob(base, stage.name, folder, target, study.tracking.movies)
        points = _identify(draw_points(stage), base, digests)
        trials = _run_stage(stage, points, shared, job, study.resources, n_labels, watcher)
        selection = select(trials, stage.select)
        watcher.stage_selected(stage, selection)
        outcomes.append(StageOutcome(stage, tuple(trials), selection))
        chosen = next(point for point in points if point.trial_id == selection.chosen.trial_id)
        base = base.with_params(chosen.params)
    return outcomes


def _identify(
    drawn: Sequence[dict[str, Any]], base: TrialConfig, digests: Sequence[str]
) -> list[Point]:
    """Return each different configuration once, with its fingerprint."""
    points: dict[str, Point] = {}
    for params in drawn:
        trial_id = base.with_params(params).fingerprint(digests)
        points.setdefault(trial_id, Point(params, trial_id, name_trial(params)))
    return list(points.values())


def _run_stage(
    stage: Stage,
    points: Sequence[Point],
    sessions: Any,
    job: TrialJob,
    resources: Resources,
    n_labels: int,
    watcher: Watcher,
) -> list[TrialResult]:
    record = StageRecord(job.folder, stage.name)
    done = record.ended()
    todo = [point for point in points if point.trial_id not in done]
    watcher.stage_started(stage, len(points), len(points) - len(todo))
    if todo:
        _tune(stage, todo, sessions, job, resources, record, watcher)
    ends = record.ended()
    interrupted = [point for point in points if point.trial_id not in ends]
    if interrupted:
        for point in interrupted:
            close_trial(job.target, point.trial_id, "KILLED", "interrupted")
        raise StudyError(
            f"study {job.folder.name}",
            f"interrupted: {len(points) - len(interrupted)} of {len(points)} trials of stage "
            f"`{stage.name}` have ended, the others go on from their last checkpoint",
            hint=f"psvae-tune resume {job.folder.root}",
        )
    results = [
        _to_trial_result(point, ends[point.trial_id], job.base, n_labels) for point in points
    ]
    if not any(result.completed for result in results):
        reasons = {str(ends[point.trial_id]["reason"]) for point in points}
        raise StudyError(
            f"study {job.folder.name}",
            [f"no trial of stage `{stage.name}` was finished", *sorted(reasons)],
        )
    return results


def _to_trial_result(
    point: Point, end: Mapping[str, Any], base: TrialConfig, n_labels: int
) -> TrialResult:
    config = base.with_params(point.params)
    return TrialResult(
        trial_id=point.trial_id,
        name=point.name,
        params={**config.params, N_UNSUPERVISED: config.model.count_unsupervised(n_labels)},
        metrics=end["metrics"],
        completed=end["outcome"] == "finished",
    )


def _tune(
    stage: Stage,
    points: Sequence[Point],
    sessions: Any,
    job: TrialJob,
    resources: Resources,
    record: StageRecord,
    watcher: Watcher,
) -> None:
    """Give points to Ray Tune and wait. Side effects: fills the journal."""
    scheduler = None
    if stage.scheduler is not None:
        asha = stage.scheduler.asha
        configs = [job.base.with_params(point.params) for point in points]
        epochs = rungs(
            asha,
            max(config.model.n_anneal_epochs for config in configs),
            min(config.training.max_n_epochs for config in configs),
        )
        scheduler = ParetoAsha(
            stage.objectives, epochs, asha.reduction_factor, record.rungs(), record.note_rung
        )
    gpus = resources.gpus_per_trial
    if gpus == "auto":
        gpus = GPU_SHARE if ray.cluster_resources().get("GPU") else 0.0
    n_concurrent = resources.max_concurrent_trials
    trainable = tune.with_parameters(
        _trainable, sessions=sessions, job=job, n_threads=max(1, int(resources.cpus_per_trial))
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": resources.cpus_per_trial, "gpu": gpus}),
        param_space={"point": tune.grid_search([asdict(point) for point in points])},
        tune_config=tune.TuneConfig(
            scheduler=scheduler,
            max_concurrent_trials=None if n_concurrent == "auto" else n_concurrent,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=stage.name,
            storage_path=str(job.folder.ray.resolve()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[DriverCallback(record, job.target, watcher)],
        ),
    )
    tuner.fit()
