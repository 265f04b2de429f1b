"""The trials of a stage are trained with Ray Tune, from their driver."""

import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray import tune
from ray.tune import TuneError

from psvae_tune.cluster.nodes import list_nodes
from psvae_tune.cluster.ray_private import is_client, withhold_secrets
from psvae_tune.config.study import Resources
from psvae_tune.errors import PsvaeTuneError
from psvae_tune.files import is_disk_error
from psvae_tune.search.callback import JournalCallback
from psvae_tune.search.progress import StudyObserver, relay_reports
from psvae_tune.search.sampler import StageSampler
from psvae_tune.search.searcher import StudySearcher
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.study_scheduler import StudyScheduler
from psvae_tune.search.trainable import train_in_worker
from psvae_tune.search.trial_groups import TrialGroup, TrialGroups
from psvae_tune.search.trial_spec import StageContext, TrialSpec

MAX_PENDING = 200
"""Number of trials that wait for room at most; others are not handed out yet."""
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

    def group(
        self,
        work: Sequence[TrialSpec] | StageSampler,
        context: StageContext,
        journal: StageJournal,
    ) -> TrialGroup:
        """Return a group of trials that begins now.

        Parameters
        ----------
        work
            The trials, or a sampler that suggests them until its budget is spent.
        context
            The stage.
        journal
            The journal of the stage.
        """
        limit = self.resources.max_concurrent_trials
        max_live = math.inf if limit == "auto" else limit
        if not isinstance(work, StageSampler):
            return TrialGroup(list(work), context, journal, max_live)
        if limit == "auto":
            # A sampler must not be asked for more than can run: it would know less.
            cpus = self.resources.cpus_per_trial
            max_live = max(1, list_nodes().count_slots(cpus, self.gpus_per_trial))
        return TrialGroup(work.unfinished(), context, journal, max_live, work)


def train(groups: Iterator[TrialGroup], run: RunContext) -> None:
    """Train the trials of a study with Ray Tune, one group after another.

    Ray must have been started. All groups are trained in one run of Ray Tune, which asks for the
    next one when all trials of the one before have ended, so that their workers stay. A client of
    a cluster, whose run of Ray Tune is on another machine, begins a new one for every group.

    Parameters
    ----------
    groups
        The groups. After Ctrl-C the next one is asked for although trials have not ended.
    run
        What Ray needs.

    Side effects: trains; writes the study's folder; logs the trials' runs to MLflow.
    """
    withhold_secrets()
    for group in groups:
        with restore_sigint() as interruptible:
            following = iter(()) if is_client() else wait_for_each(groups, interruptible)
            _fit(TrialGroups(group, following), run)


def _fit(groups: TrialGroups, run: RunContext) -> None:
    """Run Ray Tune until all groups have been trained, or until Ctrl-C."""
    is_one_machine = len(list_nodes().nodes) == 1
    try:
        with (
            # Tune's own records are of no use to a study that is resumed: it reads the journal.
            # A worker may still write there while it is removed.
            TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
            relay_reports(run.observer) as observer,
            _unwrap_tune_error(),
        ):
            tuner = tune.Tuner(
                _make_trainable(run),
                tune_config=tune.TuneConfig(
                    scheduler=StudyScheduler(groups),
                    search_alg=StudySearcher(groups),
                    num_samples=-1,
                    max_concurrent_trials=MAX_PENDING,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="study",
                    storage_path=scratch,
                    verbose=0,
                    # In a notebook Ray Tune's own reporter would clear what the cell has shown.
                    progress_reporter=tune.CLIReporter(),
                    failure_config=tune.FailureConfig(
                        max_failures=MAX_FAILURES if is_one_machine else MAX_FAILURES_ON_NODES
                    ),
                    callbacks=[JournalCallback(groups, observer)],
                ),
            )
            tuner.fit()
    except KeyboardInterrupt:
        # Once its trials run, Ray Tune ends them by itself, unless this process is a client.
        if not is_client():
            raise
        ray.shutdown()


def _make_trainable(run: RunContext) -> Any:
    """Return the function that Ray Tune runs in its workers, with what all trials share."""
    cpus = run.resources.cpus_per_trial
    trainable = tune.with_parameters(
        train_in_worker, sessions=run.sessions, n_threads=max(1, int(cpus))
    )
    return tune.with_resources(trainable, {"cpu": cpus, "gpu": run.gpus_per_trial})


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


def wait_for_each(
    groups: Iterator[TrialGroup], interruptible: Callable[[], AbstractContextManager[None]]
) -> Iterator[TrialGroup]:
    """Yield groups; Ctrl-C interrupts the wait for one, which Ray Tune would finish first."""
    while True:
        with interruptible():
            group = next(groups, None)
        if group is None:
            return
        yield group


@contextmanager
def restore_sigint() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Restore the effect of Ctrl-C at the end, which Ray Tune changes and leaves changed.

    Yields a context in which Ctrl-C has the effect that it had before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield nullcontext
        return
    before = signal.getsignal(signal.SIGINT)

    @contextmanager
    def as_before() -> Iterator[None]:
        now = signal.signal(signal.SIGINT, before)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, now)

    try:
        yield as_before
    finally:
        signal.signal(signal.SIGINT, before)
