"""The driver's side of Ray Tune: starting it, and training trials on it."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray import tune
from ray.tune import TuneError
from ray.tune.schedulers import TrialScheduler

from psvae_tune.cluster.nodes import list_nodes
from psvae_tune.cluster.ray_private import is_client
from psvae_tune.config.study import Resources
from psvae_tune.errors import PsvaeTuneError
from psvae_tune.files import is_disk_error
from psvae_tune.search.callback import JournalCallback
from psvae_tune.search.progress import StudyObserver, relay_reports
from psvae_tune.search.sampler import StageSampler
from psvae_tune.search.searcher import StudySearcher
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trainable import TrialContext, _trainable
from psvae_tune.search.trial_spec import TrialSpec

MAX_FAILURES = 2
# On several machines a trial also loses its worker whenever a node goes away.
MAX_FAILURES_ON_NODES = 10


@dataclass(frozen=True, slots=True)
class RunContext:
    """What all stages of a study share."""

    sessions: Any
    """In Ray's object store."""
    digests: tuple[str, ...]
    n_labels: int
    resources: Resources
    gpus_per_trial: float
    observer: StudyObserver


def train(
    work: Sequence[TrialSpec] | StageSampler,
    job: TrialContext,
    shared: RunContext,
    record: StageJournal,
    scheduler: TrialScheduler | None,
) -> None:
    """Train points, or what is suggested until the budget is spent, as trials of Ray Tune.

    Ray must have been started. Returns when all have ended, or at Ctrl-C.

    Side effects: trains; writes the study's folder; logs the trials' runs to MLflow.
    """
    resources, nodes = shared.resources, list_nodes()
    gpus = shared.gpus_per_trial
    searcher, space = None, {}
    n_concurrent = resources.max_concurrent_trials
    limit = None if n_concurrent == "auto" else n_concurrent
    if isinstance(work, StageSampler):
        searcher = StudySearcher(work)
        # A sampler must not be asked for more than can run: it would know less.
        limit = limit or max(1, nodes.count_slots(resources.cpus_per_trial, gpus))
    else:
        space = {"point": tune.grid_search([asdict(point) for point in work])}
    trainable = tune.with_parameters(
        _trainable,
        sessions=shared.sessions,
        job=job,
        n_threads=max(1, int(resources.cpus_per_trial)),
    )
    # What Tune keeps for itself is of no use to a study that goes on: the journal is.
    try:
        with (
            TemporaryDirectory() as scratch,
            relay_reports(shared.observer) as observer,
            _unwrap_tune_error(),
            restore_sigint(),
        ):
            tuner = tune.Tuner(
                tune.with_resources(trainable, {"cpu": resources.cpus_per_trial, "gpu": gpus}),
                param_space=space,
                tune_config=tune.TuneConfig(
                    scheduler=scheduler,
                    search_alg=searcher,
                    num_samples=1 if searcher is None else -1,
                    max_concurrent_trials=limit,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name=job.stage,
                    storage_path=scratch,
                    verbose=0,
                    failure_config=tune.FailureConfig(
                        max_failures=MAX_FAILURES
                        if len(nodes.nodes) == 1
                        else MAX_FAILURES_ON_NODES
                    ),
                    callbacks=[JournalCallback(record, job.target, observer)],
                ),
            )
            tuner.fit()
    except KeyboardInterrupt:
        # Once its trials run, Ray Tune ends them by itself, unless this process is a client.
        if not is_client():
            raise
        ray.shutdown()


@contextmanager
def _unwrap_tune_error() -> Iterator[None]:
    """Let through what this project, or its disk, raises in a callback: Tune wraps it."""
    try:
        yield
    except TuneError as error:
        inner: BaseException | None = error
        while not (inner is None or isinstance(inner, PsvaeTuneError) or is_disk_error(inner)):
            inner = inner.__cause__ or inner.__context__
        if inner is None:
            raise
        raise inner from error


@contextmanager
def restore_sigint() -> Iterator[None]:
    """Put back what Ctrl-C did before.

    Tune leaves it changed: whatever comes between two stages could not be stopped by one, and
    the second stage not by two.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
