"""Measure what one trial costs on this machine.

The cost is taken from training the longest clips for two epochs and from one validation.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch

from psvae_tune.config.trial import TrialConfig
from psvae_tune.data.memory_limits import peak_memory
from psvae_tune.data.session import Session
from psvae_tune.training.batch_calls import BatchCalls
from psvae_tune.training.batches import (
    PreparedData,
    PreparedSession,
    cache_on_device,
    device_cache_bytes,
    prepare_data,
)
from psvae_tune.training.cuda_graphs import N_BEFORE
from psvae_tune.training.evaluate import evaluate
from psvae_tune.training.fit import fit, start
from psvae_tune.training.step import may_record

N_CLIPS = 4


@dataclass(frozen=True, slots=True)
class TrialCost:
    """Time and memory that one trial takes."""

    train_s: float
    """Seconds of the steps of an epoch."""
    validate_s: float
    """Seconds of a validation for each epoch."""
    memory_bytes: int
    """Peak memory of the process in bytes, without the recordings, which all trials share. On a
    GPU, peak memory of the GPU, with the recordings that stay on it."""

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch, its share of the validations included."""
        return self.train_s + self.validate_s


def measure_cost(sessions: Sequence[Session], config: TrialConfig, n_threads: int) -> TrialCost:
    """Train the longest clips for two epochs, time the second, and validate once.

    The times are those of a trial that shares its cores with no other.

    Side effects: sets the number of threads of this process, as a trial does.
    """
    torch.set_num_threads(n_threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = cache_on_device(prepare_data(sessions, config), device, device_cache_bytes(device))
    few = replace(
        data,
        sessions=tuple(
            replace(item, splits=replace(item.splits, train=_longest_clips(item)))
            for item in data.sessions
        ),
    )
    n_frames, n_few = (_count_training_frames(prepared) for prepared in (data, few))
    short = config.with_params({"val_check_interval": 10**9})
    state = start(short, few, device)
    epochs = fit(state, few, short, may_compile=False)
    # The first epoch also sets up what later ones reuse.
    for _ in islice(epochs, 1):
        pass
    begin = time.perf_counter()
    n_epochs = sum(1 for _ in islice(epochs, 1))
    train_s = (time.perf_counter() - begin) / max(n_epochs, 1) / n_few * n_frames
    calls = BatchCalls(state.model, device, is_recorded=may_record(config))
    for _ in range(N_BEFORE + 1 if device.type == "cuda" else 0):
        evaluate(state.model, data, "val", device, calls=calls)
    begin = time.perf_counter()
    evaluate(state.model, data, "val", device, calls=calls)
    validate_s = (time.perf_counter() - begin) / config.training.val_check_interval
    return TrialCost(train_s, validate_s, _peak_bytes(sessions, device))


def _longest_clips(item: PreparedSession) -> tuple[int, ...]:
    """Return the longest training clips, which take the most memory."""
    lengths = item.session.header.clip_lengths
    return tuple(sorted(item.splits.train, key=lambda clip: -lengths[clip])[:N_CLIPS])


def _count_training_frames(data: PreparedData) -> int:
    return sum(
        item.session.header.clip_lengths[clip]
        for item in data.sessions
        for clip in item.splits.train
    )


def _peak_bytes(sessions: Sequence[Session], device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return max(0, peak_memory() - sum(session.frames.nbytes for session in sessions))
