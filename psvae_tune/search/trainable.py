"""A trial in its worker: hyperparameters in, reports out, a fitted model kept."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Self

import ray
import torch
from ray import tune

from psvae_tune.config.trial import TrialConfig
from psvae_tune.config.yaml_text import dump_yaml
from psvae_tune.data.session import Session
from psvae_tune.errors import ClusterError, DivergedError, GpuMemoryError, StorageError
from psvae_tune.files import Location, is_disk_error, write_bytes
from psvae_tune.redaction import start_logs
from psvae_tune.results.keep_model import (
    describe_session,
    keep_model,
    scaled_weights,
)
from psvae_tune.search.epoch_log import EpochClocks, EpochLog
from psvae_tune.search.progress import TrialReport, to_result
from psvae_tune.search.trial_spec import CONTEXT, StageContext, TrialSpec
from psvae_tune.tracking.folders import StudyFolder
from psvae_tune.tracking.outbox import Outbox
from psvae_tune.tracking.tags import DEVICE, N_THREADS, PRECISION, TORCH
from psvae_tune.tracking.trial_result import N_UNSUPERVISED
from psvae_tune.tracking.trial_run import EpochMetrics, TrialRunSpec
from psvae_tune.training.batches import (
    PreparedData,
    cache_on_device,
    device_cache_bytes,
    prepare_data,
)
from psvae_tune.training.checkpoint import dump_state, load_state
from psvae_tune.training.fit import EpochReport, TrainState, best_model, fit, restart, start
from psvae_tune.training.precision import measure_seconds, pick_dtype

logger = logging.getLogger(__name__)


def run_trial(
    spec: TrialSpec, sessions: Sequence[Session], context: StageContext, device: torch.device
) -> Iterator[TrialReport]:
    """Fit one configuration, from its last checkpoint if it has one.

    A loss that is no longer finite ends the trial with `TrialReport.failure`, because trying
    again would give the same numbers.

    Whoever notes the end of the trial removes its last checkpoint. If the trial removed it, a
    crash before the note would have everything trained again.

    Side effects: logs to MLflow; writes checkpoints.

    Raises
    ------
    ClusterError
        If the settings and the recordings here are not those that the driver chose.
    OSError
        If a checkpoint cannot be written; it is raised one epoch later, because the checkpoint
        is written while that epoch is trained.
    """
    config = context.config(spec)
    _check_identity(spec, config, sessions)
    data = cache_on_device(prepare_data(sessions, config), device, device_cache_bytes(device))
    checkpoint = context.folder.checkpoint(spec.trial_id)
    state = resume_or_start(checkpoint, config, data, device, context.folder)
    run_spec = _describe_run(spec, config, sessions, data, context, device)
    speeds = _measure_speeds(config, device)
    log = EpochLog(partial(_open_run, run_spec, speeds, config, context))
    clocks = EpochClocks()
    try:
        with CheckpointWriter(checkpoint) as checkpoints, log:
            for epoch in fit(state, data, config):
                cost = clocks.restart()
                # No epoch is reported before the checkpoint of an earlier one is safe.
                checkpoints.wait()
                log.add(epoch, cost)
                is_saved = epoch.epoch % config.training.checkpoint_every == 0
                if is_saved or (epoch.is_validated and context.may_stop_trials):
                    # This epoch may not be trained again, so it must be logged now.
                    log.send()
                if is_saved:
                    checkpoints.write(state)
                if epoch.is_validated:
                    best = _best_so_far(state, epoch)
                    yield TrialReport(spec.trial_id, epoch.epoch, best)
            checkpoints.wait()
    except (DivergedError, GpuMemoryError) as error:
        yield TrialReport(spec.trial_id, state.epoch, {}, failure=str(error))
        return
    except torch.OutOfMemoryError:
        full = GpuMemoryError(
            "validation",
            f"does not fit into the memory of the GPU in epoch {state.epoch}",
            hint="cut the recording into shorter clips, or set resources.gpus_per_trial to 1",
        )
        yield TrialReport(spec.trial_id, state.epoch, {}, failure=str(full))
        return
    if context.keeps_states and context.rung is None:
        write_bytes(context.folder.last_state(spec.trial_id), dump_state(state))
    # The kept model is that of the best epoch, and these are its metrics.
    n_epochs = state.epoch if state.best is None else state.best.epoch
    best = keep_model(best_model(state), n_epochs, data, device, log.run, context.movies)
    yield TrialReport(spec.trial_id, state.epoch, best, is_finished=True)


def _check_identity(spec: TrialSpec, config: TrialConfig, sessions: Sequence[Session]) -> None:
    """Make sure that driver and worker mean the same trial.

    Raises
    ------
    ClusterError
        If they do not.
    """
    trial_id = config.trial_id([session.digest for session in sessions])
    if trial_id != spec.trial_id:
        raise ClusterError(
            f"trial {spec.name}",
            f"has the identity {spec.trial_id} for the driver, got {trial_id} from the settings "
            "and recordings of its worker: both need the same version of psvae-tune",
        )


def resume_or_start(
    checkpoint: Location,
    config: TrialConfig,
    data: PreparedData,
    device: torch.device,
    folder: StudyFolder,
) -> TrainState:
    """Return the state of a fit from its checkpoint; its start if there is no usable one.

    Raises
    ------
    StorageError
        If it starts from another trial, whose last state cannot be read.
    """
    state = _start(config, data, device, folder)
    if checkpoint.exists():
        try:
            load_state(state, checkpoint.read_bytes())
        except (StorageError, OSError) as error:
            # From the start it will have the same numbers, only later.
            logger.warning("%s: %s; its trial begins anew", checkpoint, error)
            return _start(config, data, device, folder)
    return state


def _start(
    config: TrialConfig, data: PreparedData, device: torch.device, folder: StudyFolder
) -> TrainState:
    """Return new initial weights, or those at the end of the trial that is gone on from."""
    state = start(config, data, device)
    if config.continuation is None:
        return state
    path = folder.last_state(config.continuation.parent)
    try:
        load_state(state, path.read_bytes())
    except (StorageError, OSError) as error:
        raise StorageError(
            str(path),
            f"must hold the last state of the trial that this one goes on from: {error}",
            hint="run the study anew under another name",
        ) from error
    restart(state)
    return state


def _describe_run(
    spec: TrialSpec,
    config: TrialConfig,
    sessions: Sequence[Session],
    data: PreparedData,
    context: StageContext,
    device: torch.device,
) -> TrialRunSpec:
    """Return the content that the run of a trial begins with: its settings and its machine."""
    return TrialRunSpec(
        context.stage.name,
        spec.trial_id,
        context.run_name(spec),
        config.params
        | scaled_weights(config, data)
        | {N_UNSUPERVISED: context.count_unsupervised(spec.params)},
        [describe_session(session) for session in sessions],
        context.rung,
        " > ".join(spec.path) or None,
        spec.continuation.parent if spec.continuation else None,
        _describe_machine(config, device),
    )


def _open_run(
    spec: TrialRunSpec, speeds: Mapping[str, float], config: TrialConfig, context: StageContext
) -> Outbox:
    """Open the run of a trial. Side effects: creates it."""
    run = Outbox.of(context.folder, context.target, spec.trial_id)
    run.open(spec)
    if speeds:
        run.log([EpochMetrics.now(0, speeds)])
    run.log_text(dump_yaml(config.sections), "config.yaml")
    return run


def _measure_speeds(config: TrialConfig, device: torch.device) -> dict[str, float]:
    """Return the seconds by which the number format was chosen; none if it was given."""
    if config.training.precision != "auto":
        return {}
    return {f"perf/{name}_seconds": value for name, value in measure_seconds(device).items()}


def _describe_machine(config: TrialConfig, device: torch.device) -> dict[str, str]:
    """Return the tags of what changes the numbers of a trial without being a setting of it."""
    is_gpu = device.type == "cuda"
    return {
        PRECISION: str(pick_dtype(config.training.precision, device)).removeprefix("torch."),
        DEVICE: torch.cuda.get_device_name(device) if is_gpu else device.type,
        N_THREADS: str(torch.get_num_threads()),
        TORCH: torch.__version__,
    }


def _best_so_far(state: TrainState, epoch: EpochReport) -> dict[str, float]:
    """Return the validation metrics of the best epoch; of this one while there is no best."""
    metrics = epoch.metrics if state.best is None else state.best.metrics
    return {key: value for key, value in metrics.items() if key.startswith("val/")}


class CheckpointWriter:
    """Writes checkpoints of a fit while its next epoch is trained.

    A disk may be slow, and an object store is.
    """

    def __init__(self, path: Location) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def write(self, state: TrainState) -> None:
        """Begin to write a checkpoint of a state. Side effects: writes a file."""
        self._writing = self._thread.submit(write_bytes, self._path, dump_state(state))

    def wait(self) -> None:
        """Wait until the last checkpoint is safe.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        if self._writing is not None:
            self._writing.result()


def train_in_worker(config: dict[str, Any], sessions: Any, n_threads: int) -> None:
    """Run a trial of Ray Tune in its worker, and report every validation.

    Parameters
    ----------
    config
        The trial and its stage, from `TrialGroup.to_ray`.
    sessions
        The recordings, which Ray has taken from its object store.
    n_threads
        Number of threads for the trial: one for each CPU that it was given, because trials
        beside each other must not fight for the same cores.

    Side effects: as those of `run_trial`; sets up the logs of this process.
    """
    start_logs()  # Ray keeps the logs of this worker in a file
    torch.set_num_threads(n_threads)
    device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
    spec, context = TrialSpec.from_ray(config), ray.get(config[CONTEXT])
    try:
        for report in run_trial(spec, sessions, context, device):
            tune.report(to_result(report))
    except OSError as error:
        if not is_disk_error(error):
            raise
        # To try again, as Tune would, is of no use before there is room.
        tune.report(to_result(TrialReport(spec.trial_id, 0, {}, disk_errno=error.errno)))
