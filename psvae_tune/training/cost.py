"""Measure what one trial costs on this machine.

The cost is taken from training the longest clip for two epochs and from one validation.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch

from psvae_tune.config.trial import TrialConfig
from psvae_tune.data.memory_limits import peak_memory
from psvae_tune.data.session import Session, Splits
from psvae_tune.training.batch_calls import BatchCalls
from psvae_tune.training.batches import (
    PreparedData,
    PreparedSession,
    cache_on_device,
    device_cache_bytes,
    prepare_data,
)
from psvae_tune.training.cuda_graphs import N_BEFORE, make_recorder
from psvae_tune.training.evaluate import evaluate
from psvae_tune.training.fit import fit, may_record, start

N_CLIPS = N_BEFORE + 1
"""Number of times that the longest clip is trained on in an epoch: until it is recorded."""


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
    """Train the longest clip for two epochs, time the second, and validate once.

    The times are those of a trial that shares its cores with no other.

    Side effects: sets the number of threads of this process, as a trial does.
    """
    torch.set_num_threads(n_threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = cache_on_device(prepare_data(sessions, config), device, device_cache_bytes(device))
    few = replace(
        data,
        sessions=tuple(replace(item, splits=_with_longest_clips(item)) for item in data.sessions),
    )
    n_frames, n_few = (_count_training_frames(prepared) for prepared in (data, few))
    short = config.with_params({"val_check_interval": 10**9})
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    state = start(short, few, device)
    epochs = fit(state, few, short, may_compile=False)
    # The first epoch also sets up what later ones reuse.
    for _ in islice(epochs, 1):
        pass
    begin = time.perf_counter()
    n_epochs = sum(1 for _ in islice(epochs, 1))
    train_s = (time.perf_counter() - begin) / max(n_epochs, 1) / n_few * n_frames
    calls = BatchCalls(state.model, device, make_recorder(device) if may_record(config) else None)
    if device.type == "cuda":
        evaluate(state.model, few, "val", device, calls=calls)  # as above
    begin = time.perf_counter()
    evaluate(state.model, data, "val", device, calls=calls)
    validate_s = (time.perf_counter() - begin) / config.training.val_check_interval
    memory_bytes = _peak_bytes(sessions, device)
    calls.close()
    return TrialCost(train_s, validate_s, memory_bytes)


def _with_longest_clips(item: PreparedSession) -> Splits:
    """Return splits of the longest clip alone, which takes the most memory, several times.

    A GPU records a length of clips when it has come some times.
    """
    lengths = item.session.header.clip_lengths
    train, val = (
        (max(clips, key=lambda clip: lengths[clip]),) * N_CLIPS if clips else ()
        for clips in (item.splits.train, item.splits.val)
    )
    return replace(item.splits, train=train, val=val)


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
