"""Fit one model: an iterator over epochs.

The caller of `fit` stops trials, writes checkpoints, shows progress and logs.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from psvae_tune.config.metric_catalog import goal_of, sign
from psvae_tune.config.trial import TrialConfig
from psvae_tune.errors import DivergedError
from psvae_tune.models.layers.blocks import train_convolutions_in
from psvae_tune.models.layers.networks import ConvNet
from psvae_tune.models.model import Model
from psvae_tune.models.registry import build_model
from psvae_tune.training.batch_calls import BatchCalls
from psvae_tune.training.batches import PreparedData
from psvae_tune.training.cuda_graphs import make_recorder
from psvae_tune.training.evaluate import evaluate
from psvae_tune.training.precision import pick_dtype
from psvae_tune.training.step import MIN_COMPILED_STEPS, TrainingStep


@dataclass(frozen=True, slots=True)
class Best:
    """The best epoch so far of a fit: its number, its metrics and its weights."""

    epoch: int
    metrics: dict[str, float]
    weights: dict[str, torch.Tensor] = field(repr=False)


@dataclass(slots=True)
class TrainState:
    """Everything that changes while a model is fitted, and that a checkpoint must hold."""

    model: Model
    optimizer: torch.optim.Optimizer
    device: torch.device
    epoch: int = 0
    """Number of epochs done."""
    best: Best | None = None
    n_without_improvement: int = 0
    """Number of validations since the best one."""


@dataclass(frozen=True, slots=True)
class EpochReport:
    """Metrics of one epoch."""

    epoch: int
    """Counted from 1."""
    metrics: dict[str, float]
    """Keys as in `metric_catalog`, with their split; validation metrics only if validated."""
    is_validated: bool
    is_best: bool


def start(config: TrialConfig, data: PreparedData, device: torch.device) -> TrainState:
    """Build a model and its optimiser, before the first epoch.

    Raises
    ------
    ConfigError
        If the model cannot be built for these data.
    """
    # Convolutions are quickest when the channels of a pixel lie side by side.
    model = build_model(config.model, data.shape).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    train_convolutions_in(pick_dtype(config.training.precision, device), model)
    if isinstance(model.net, ConvNet):
        model.net.micro_batch_size = config.training.micro_batch_size
    optimizer = torch.optim.Adam(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=config.training.learning_rate,
        weight_decay=config.model.l2_reg,
        amsgrad=True,
        fused=True,
        capturable=device.type == "cuda",
    )
    return TrainState(model, optimizer, device)


def restart(state: TrainState) -> None:
    """Let a further training begin with the weights and the optimiser of one that has ended.

    Side effects: forgets the epochs and the best of them.
    """
    state.epoch, state.best, state.n_without_improvement = 0, None, 0


def fit(
    state: TrainState, data: PreparedData, config: TrialConfig, *, may_compile: bool = True
) -> Iterator[EpochReport]:
    """Train from ``state.epoch`` on, yielding after every epoch.

    Draws depend on ``rng_seed_train`` and the number of the epoch alone, so an interrupted fit
    continues with the numbers that it would have had. A GPU replays steps and validations, and a
    long fit is compiled for it unless ``may_compile`` is false.

    Side effects: updates ``state`` in place.

    Raises
    ------
    DivergedError
        If a term of the loss is no longer finite; the error names the first such term and the
        epoch.
    GpuMemoryError
        If a batch does not fit into the memory of the GPU.
    """
    recorder = make_recorder(state.device) if may_record(config) else None
    length = _length_to_compile(data, config) if may_compile and _can_compile(state) else None
    given = (state.model, state.optimizer, state.device, recorder, length)
    step = TrainingStep(*given, warm_ups=config.warm_ups)
    calls = BatchCalls(state.model, state.device, recorder)
    try:
        while state.epoch < config.training.max_n_epochs and not _has_converged(state, config):
            epoch = state.epoch + 1
            metrics = _train_epoch(state, step, data, config, epoch)
            state.epoch = epoch
            is_validated = _is_validated(epoch, config)
            is_best = False
            if is_validated:
                found = evaluate(state.model, data, "val", state.device, calls=calls)
                metrics |= found.metrics
                is_best = _note_best(state, metrics, config)
            yield EpochReport(epoch, metrics, is_validated, is_best)
    finally:
        # The next trial of this process needs the memory.
        step.close()
        calls.close()


def may_record(config: TrialConfig) -> bool:
    """Return whether the steps and the validations of a trial are replayed on a GPU."""
    # To find the frames of each session, layers of its own wait for the GPU.
    return config.training.cuda_graph == "auto" and not config.model.fit_sess_io_layers


def _can_compile(state: TrainState) -> bool:
    has_own_layers = state.model.config.fit_sess_io_layers
    return state.device.type == "cuda" and not has_own_layers


def _length_to_compile(data: PreparedData, config: TrialConfig) -> int | None:
    """Return the most frequent number of frames of a batch; None for a fit of few steps.

    This depends on the settings and the data alone: compiled steps round in other places.
    """
    batches = data.training_batches(np.random.default_rng(0))
    if config.training.max_n_epochs * len(batches) < MIN_COMPILED_STEPS:
        return None
    lengths = Counter(sum(data.clip_lengths(places)) for places in batches)
    return max(lengths, key=lambda length: (lengths[length], length))


def _is_validated(epoch: int, config: TrialConfig) -> bool:
    last = (config.training.max_n_epochs, config.n_anneal_epochs)
    return epoch % config.training.val_check_interval == 0 or epoch in last


def _has_converged(state: TrainState, config: TrialConfig) -> bool:
    training = config.training
    return (
        training.enable_early_stop
        and state.epoch >= training.min_n_epochs
        and state.n_without_improvement >= training.early_stop_history
    )


def _train_epoch(
    state: TrainState, step: TrainingStep, data: PreparedData, config: TrialConfig, epoch: int
) -> dict[str, float]:
    """Take one optimisation step a batch; return the mean of every term over the epoch.

    Squared errors are averaged over the valid entries of all batches, as in `evaluate`, and all
    other terms over frames.
    """
    seeds = np.random.SeedSequence([config.training.rng_seed_train, epoch])
    order = np.random.default_rng(seeds)
    seed = int(seeds.generate_state(1, np.uint64)[0] >> 1)
    step.start_epoch(epoch, seed)
    rows, n_frames = [], []
    for batch in data.load_batches(data.training_batches(order), state.device):
        rows.append(step(batch))
        n_frames.append(len(batch.frames))
    # One transfer an epoch: reading a value in every step would stall the device.
    table = torch.stack(rows).double().cpu().numpy()
    if not np.isfinite(table).all():
        first = step.names[int(np.argwhere(~np.isfinite(table))[0][1])]
        raise DivergedError(
            "training",
            f"the term `{first}` is no longer finite in epoch {epoch}",
            hint="lower training.learning_rate, or the weight of the term",
        )
    columns = dict(zip(step.names, table.T, strict=True))
    n_pixels, n_labels = columns.pop("n_valid_pixels"), columns.pop("n_valid_labels")
    weights = {"frame_mse": n_pixels, "label_mse": n_labels}
    return {
        f"train/{name}": _weighted_mean(column, weights.get(name, np.array(n_frames)))
        for name, column in columns.items()
    }


def _weighted_mean(values: NDArray[np.float64], weights: NDArray[Any]) -> float:
    """Return the mean; 0 where nothing has a weight."""
    return float((values * weights).sum() / max(weights.sum(), 1))


def _note_best(state: TrainState, metrics: dict[str, float], config: TrialConfig) -> bool:
    """Keep the weights if this epoch is the best one. Side effects: updates ``state``."""
    if state.epoch < config.n_anneal_epochs:
        return False
    key = config.training.best_epoch_metric
    factor = sign(goal_of(key))
    # Latents may have collapsed, and then have no measure of their dependence.
    cost = factor * metrics.get(key, factor * np.inf)
    if cost >= (np.inf if state.best is None else factor * state.best.metrics[key]):
        state.n_without_improvement += 1
        return False
    weights = {name: value.detach().clone() for name, value in state.model.state_dict().items()}
    state.best = Best(state.epoch, dict(metrics), weights)
    state.n_without_improvement = 0
    return True


def best_model(state: TrainState) -> Model:
    """Return a copy of the model with the weights of its best epoch, in evaluation mode.

    No epoch can be the best before the annealing has ended; until then the weights are the latest.
    """
    model = copy.deepcopy(state.model)
    if state.best is not None:
        model.load_state_dict(state.best.weights)
    return model.eval()
