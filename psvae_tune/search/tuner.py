"""The trials of a stage are trained with Ray Tune, from their driver."""

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
from psvae_tune.search.schedulers import make_scheduler
from psvae_tune.search.searcher import StudySearcher
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trainable import train_in_worker
from psvae_tune.search.trial_spec import SPEC, StageContext, TrialSpec

MAX_FAILURES = 2
"""Number of times that a trial goes on after its worker has failed."""
MAX_FAILURES_ON_NODES = 10
"""The same on several machines, where a trial also loses its worker with every lost node."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What Ray needs to run the trials of any stage of a study."""

    sessions: Any
    """Reference to the recordings in Ray's object store."""
    resources: Resources
    gpus_per_trial: float
    observer: StudyObserver


def train(
    work: Sequence[TrialSpec] | StageSampler,
    context: StageContext,
    run: RunContext,
    journal: StageJournal,
) -> None:
    """Train trials with Ray Tune.

    Ray must have been started. Returns when all trials have ended, or at Ctrl-C.

    Parameters
    ----------
    work
        The trials, or a sampler that suggests them until its budget is spent.
    context, run
        The stage, and what Ray needs for it.
    journal
        The journal of the stage.

    Side effects: trains; writes the study's folder; logs the trials' runs to MLflow.
    """
    specs = [] if isinstance(work, StageSampler) else work
    grid = {SPEC: tune.grid_search([asdict(spec) for spec in specs])} if specs else {}
    scheduler = make_scheduler(context, journal)
    is_one_machine = len(list_nodes().nodes) == 1
    try:
        with (
            # Tune's own records are of no use to a study that is resumed: it reads the journal.
            # A worker may still write there while it is removed.
            TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
            relay_reports(run.observer) as observer,
            _unwrap_tune_error(),
            restore_sigint(),
        ):
            tuner = tune.Tuner(
                _make_trainable(context, run),
                param_space=grid,
                tune_config=_make_tune_config(work, run, scheduler),
                run_config=tune.RunConfig(
                    name=context.stage.name,
                    storage_path=scratch,
                    verbose=0,
                    # In a notebook Ray Tune's own reporter would clear what the cell has shown.
                    progress_reporter=tune.CLIReporter(),
                    failure_config=tune.FailureConfig(
                        max_failures=MAX_FAILURES if is_one_machine else MAX_FAILURES_ON_NODES
                    ),
                    callbacks=[JournalCallback(journal, context.target, observer)],
                ),
            )
            tuner.fit()
    except KeyboardInterrupt:
        # Once its trials run, Ray Tune ends them by itself, unless this process is a client.
        if not is_client():
            raise
        ray.shutdown()


def _make_trainable(context: StageContext, run: RunContext) -> Any:
    """Return the function that Ray Tune runs in its workers, with what all trials share."""
    cpus = run.resources.cpus_per_trial
    trainable = tune.with_parameters(
        train_in_worker, sessions=run.sessions, context=context, n_threads=max(1, int(cpus))
    )
    return tune.with_resources(trainable, {"cpu": cpus, "gpu": run.gpus_per_trial})


def _make_tune_config(
    work: Sequence[TrialSpec] | StageSampler, run: RunContext, scheduler: TrialScheduler | None
) -> tune.TuneConfig:
    """Return how Ray Tune chooses trials, stops them, and how many it runs at a time."""
    n_concurrent = run.resources.max_concurrent_trials
    limit = None if n_concurrent == "auto" else n_concurrent
    searcher = None
    if isinstance(work, StageSampler):
        searcher = StudySearcher(work)
        # A sampler must not be asked for more than can run: it would know less.
        n_slots = list_nodes().count_slots(run.resources.cpus_per_trial, run.gpus_per_trial)
        limit = limit or max(1, n_slots)
    return tune.TuneConfig(
        scheduler=scheduler,
        search_alg=searcher,
        num_samples=1 if searcher is None else -1,
        max_concurrent_trials=limit,
        reuse_actors=True,
        trial_dirname_creator=lambda trial: trial.trial_id,
    )


@contextmanager
def _unwrap_tune_error() -> Iterator[None]:
    """Raise the errors of this project, and of its disk, without the error Tune wraps them in."""
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
    """Restore the effect of Ctrl-C at the end, which Ray Tune leaves changed.

    Without this, one Ctrl-C would not stop what comes between two stages, and two would not stop
    the second stage.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
