"""The worker's side of a trial: hyperparameters in, epochs reported, a fitted model kept."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import ray
import torch
import yaml
from ray import tune

from psvae_tune.config.trial import TrialConfig
from psvae_tune.config.wording import name_trial
from psvae_tune.data.session import Session
from psvae_tune.errors import DivergedError, StorageError
from psvae_tune.files import Location, is_disk_error, write_bytes
from psvae_tune.redaction import start_logs
from psvae_tune.results.figures.movies import MovieFormat
from psvae_tune.results.keep_model import (
    best_metrics,
    describe_session,
    keep_model,
    scaled_weights,
)
from psvae_tune.search.progress import TrialReport, to_result
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import StudyFolder
from psvae_tune.tracking.outbox import BufferedTrialRun
from psvae_tune.tracking.trial_run import EpochMetrics, TrialRun, TrialRunSpec
from psvae_tune.training.batches import (
    PreparedData,
    cache_on_device,
    device_cache_bytes,
    prepare_data,
)
from psvae_tune.training.checkpoint import dump_state, load_state
from psvae_tune.training.fit import TrainState, best_model, fit, start

logger = logging.getLogger(__name__)

HOLD_S = 1.0
"""From one request of a trial to log epochs to the next."""


@dataclass(frozen=True, slots=True)
class TrialContext:
    """What every trial of a stage shares."""

    base: TrialConfig
    stage: str
    folder: StudyFolder
    target: TrackingTarget
    movies: MovieFormat = "mp4"
    rung: str | None = None
    """Of trainings on a shorter schedule, how much shorter: ``1/3``."""
    may_be_stopped: bool = False
    """Whether a scheduler may end a trial at an epoch that it tells of."""


def run_trial(
    params: Mapping[str, Any], sessions: Sequence[Session], job: TrialContext, device: torch.device
) -> Iterator[TrialReport]:
    """Fit one configuration, from its last checkpoint if it has one.

    A loss that is no longer finite ends the trial with `TrialReport.failure`, because trying
    again would give the same numbers.

    The last checkpoint is left to whoever notes the end of the trial: removed before that, a
    crash in between would have everything trained again.

    Side effects: logs to MLflow; writes checkpoints.

    Raises
    ------
    OSError
        If a checkpoint cannot be written; after the next epoch, beside which it was to be.
    """
    config = job.base.with_params(params)
    trial_id = config.fingerprint([session.digest for session in sessions])
    data = cache_on_device(prepare_data(sessions, config), device, device_cache_bytes(device))
    checkpoint = job.folder.checkpoint(trial_id)
    state = _go_on(checkpoint, config, data, device)
    run = BufferedTrialRun.open(
        job.folder,
        job.target,
        TrialRunSpec(
            job.stage,
            trial_id,
            name_trial(params, job.rung),
            config.params | scaled_weights(config, data),
            [describe_session(session) for session in sessions],
            job.rung,
        ),
    )
    run.log_text(yaml.safe_dump(config.model_dump(mode="json", by_alias=True)), "config.yaml")
    epoch = state.epoch
    clocks = _read_clocks()
    try:
        # A disk may be slow, and an object store is: the next epoch is trained meanwhile.
        with ThreadPoolExecutor(1) as beside, _Log(run) as log:
            writing: Future[None] = Future()
            writing.set_result(None)
            for report in fit(state, data, config):
                epoch = report.epoch
                before, clocks = clocks, _read_clocks()
                cost = {name: value - before[name] for name, value in clocks.items()}
                best = best_metrics(report.metrics) if report.is_best else {}
                # No epoch is told of before the last checkpoint is safe.
                writing.result()
                log.add(EpochMetrics.now(epoch, report.metrics | best | cost))
                if epoch % config.training.checkpoint_every == 0:
                    # What is trained once and for all must be logged before.
                    log.send()
                    writing = beside.submit(write_bytes, checkpoint, dump_state(state))
                if report.is_validated:
                    if job.may_be_stopped:
                        # Then nobody trains this epoch again.
                        log.send()
                    yield TrialReport(trial_id, epoch, _comparable(state, report.metrics))
            writing.result()
    except DivergedError as error:
        yield TrialReport(trial_id, epoch, {}, failure=str(error))
        return
    # The metrics of the best epoch and no later ones, because they are those of the model kept.
    yield TrialReport(trial_id, epoch, _finish(state, data, run, job.movies), is_finished=True)


@dataclass(slots=True)
class _Log:
    """Logs epochs, those that are shorter than `HOLD_S` several at a time.

    A request costs the trial, and the server, more than the numbers in it.
    """

    run: BufferedTrialRun
    _held: list[EpochMetrics] = field(default_factory=list)
    _next_s: float = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A trial that nobody listens to any more may have been closed; it goes on from its last
        # checkpoint, if it does, and what is held came after that.
        if kind is not GeneratorExit:
            self.send()

    def add(self, epoch: EpochMetrics) -> None:
        """Take an epoch. Side effects: may log to the run."""
        self._held.append(epoch)
        if time.monotonic() >= self._next_s:
            self.send()

    def send(self) -> None:
        """Log what is held. Side effects: logs to the run."""
        self.run.log(self._held)
        self._held, self._next_s = [], time.monotonic() + HOLD_S


def _go_on(
    checkpoint: Location, config: TrialConfig, data: PreparedData, device: torch.device
) -> TrainState:
    """Return where a trial was, or its start if nothing usable was kept."""
    state = start(config, data, device)
    if checkpoint.exists():
        try:
            load_state(state, checkpoint.read_bytes())
        except (StorageError, OSError) as error:
            # From the start it will have the same numbers, only later.
            logger.warning("%s: %s; its trial begins anew", checkpoint, error)
            return start(config, data, device)
    return state


def _read_clocks() -> dict[str, float]:
    """Return what an epoch costs, as clocks that run on: on the wall, and of the processor."""
    return {"perf/epoch_seconds": time.perf_counter(), "perf/cpu_seconds": time.process_time()}


def _comparable(state: TrainState, latest: dict[str, float]) -> dict[str, float]:
    """Return the validation metrics of the best epoch, or the latest while there is none."""
    metrics = latest if state.best is None else state.best.metrics
    return {key: value for key, value in metrics.items() if key.startswith("val/")}


def _finish(
    state: TrainState, data: PreparedData, run: TrialRun | BufferedTrialRun, movies: MovieFormat
) -> dict[str, float]:
    """Score, keep and picture the best model. Side effects: logs to the run."""
    epoch = state.epoch if state.best is None else state.best.epoch
    return keep_model(best_model(state), epoch, data, state.device, run, movies)


def _trainable(config: dict[str, Any], sessions: Any, job: TrialContext, n_threads: int) -> None:
    """Run in a worker of Ray: fit one configuration and report every validation."""
    start_logs()  # of this worker, which Ray keeps in a file
    # One thread a CPU given: trials beside each other must not fight for the same cores.
    torch.set_num_threads(n_threads)
    device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
    point = config["point"]
    try:
        for progress in run_trial(point["params"], sessions, job, device):
            tune.report(to_result(progress))
    except OSError as error:
        if not is_disk_error(error):
            raise
        # To try again, as Tune would, is of no use before there is room.
        tune.report(to_result(TrialReport(point["trial_id"], 0, {}, disk_errno=error.errno)))
