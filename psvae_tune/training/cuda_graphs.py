"""Run a function of a batch; on a GPU, record its kernels as a CUDA graph and replay them.

A step is some hundred small kernels, and a GPU is done with each sooner than Python starts the
next one. A graph starts all of them at once.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from psvae_tune.models.batch import Batch

logger = logging.getLogger(__name__)

Outputs = tuple[Tensor | None, ...]
Function = Callable[[Batch, Generator], Outputs]
Key = tuple[tuple[torch.Size, torch.dtype] | None, ...]

N_BEFORE = 3
"""Number of calls for a shape before it is recorded. Libraries set themselves up in the first."""
MAX_GRAPHS = 8
"""Number of shapes of a function that are recorded."""


class CudaRecorder:
    """Records calls on one GPU, all on one stream, to which autograd ties the weights.

    Recordings are replayed one at a time, so they share their memory.
    """

    def __init__(self, device: torch.device) -> None:
        self.has_failed = False
        """Whether a call could not be recorded; then no other one of this trial is."""
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def on_stream(self) -> Iterator[None]:
        """Run on the stream of the recordings, after what was begun and before what follows."""
        caller = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(caller)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            caller.wait_stream(self._stream)

    def record(
        self, function: Function, batch: Batch, rng: Generator
    ) -> tuple[Callable[[], None], Outputs]:
        """Record a call; return what replays it, and the tensors that a replay fills."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(rng)
        # Other threads may copy clips to the GPU meanwhile.
        with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
            outputs = function(batch, rng)
        return graph.replay, outputs


def make_recorder(device: torch.device) -> CudaRecorder | None:
    """Return what records on a device; None where nothing does."""
    return CudaRecorder(device) if device.type == "cuda" else None


@dataclass(frozen=True, slots=True)
class _Recording:
    replay: Callable[[], None]
    batch: Batch
    """Tensors that the kernels read; a batch is copied into them before a replay."""
    outputs: Outputs


class GraphedFunction:
    """A function of a batch that is recorded for each shape of a batch, and then replayed.

    A replay gives the same numbers as a call, its draws included: they come from the generator of
    this object, which may be seeded anew at any time. Other shapes than the `MAX_GRAPHS` first
    ones are called. A function that cannot be recorded is called as well, after a warning.

    Parameters
    ----------
    function
        Function of a batch and a generator on the same device. It may change tensors in place,
        must wait for no kernel, and must not keep what it returns.
    device
        Device of the batches.
    recorder
        What records, shared by the functions of a trial; None to call the function always.
    """

    def __init__(
        self, function: Function, device: torch.device, recorder: CudaRecorder | None
    ) -> None:
        self.rng = Generator(device)
        self._function = function
        self._recorder = recorder
        self._n_calls: Counter[Key] = Counter()
        self._recordings: dict[Key, _Recording] = {}

    def __call__(self, batch: Batch) -> Outputs:
        """Return what the function returns for a batch."""
        if self._recorder is None:
            return self._function(batch, self.rng)
        with self._recorder.on_stream():
            key = _key_of(batch)
            self._n_calls[key] += 1
            recording = self._recordings.get(key) or self._record(self._recorder, key, batch)
            if recording is None:
                return self._function(batch, self.rng)
            # The next replay, of any recording, overwrites the outputs. Their copies are made
            # before it, because what a replay has changed must not be followed by a full GPU.
            found = tuple(
                None if each is None else torch.empty_like(each) for each in recording.outputs
            )
            _copy(batch, recording.batch)
            recording.replay()
            for target, each in zip(found, recording.outputs, strict=True):
                if target is not None and each is not None:
                    target.copy_(each)
            return found

    def close(self) -> None:
        """Free the recordings, and what the function holds; it cannot be called any more."""
        self._recordings.clear()
        del self._function

    def _record(self, recorder: CudaRecorder, key: Key, batch: Batch) -> _Recording | None:
        """Record a shape if its time has come. Side effects: may note that nothing is recorded."""
        is_due = self._n_calls[key] > N_BEFORE and len(self._recordings) < MAX_GRAPHS
        if recorder.has_failed or not is_due:
            return None
        fixed = _copy_of(batch)
        draws = self.rng.get_state()
        try:
            replay, outputs = recorder.record(self._function, fixed, self.rng)
        except RuntimeError as error:  # CUDA's errors are such, OutOfMemoryError included
            why = str(error).partition("\n")[0]
            logger.warning("steps and validations are not recorded as CUDA graphs: %s", why)
            recorder.has_failed = True
            # A generator that has seen a failed recording cannot be used any more.
            self.rng = Generator(self.rng.device)
            self.rng.set_state(draws)
            return None
        self._recordings[key] = _Recording(replay, fixed, outputs)
        return self._recordings[key]


def _key_of(batch: Batch) -> Key:
    return tuple(
        None if each is None else (each.shape, each.dtype)
        for each in (getattr(batch, name) for name in Batch.__slots__)
    )


def _copy_of(batch: Batch) -> Batch:
    fields = {name: getattr(batch, name) for name in Batch.__slots__}
    return replace(batch, **{k: v.clone() for k, v in fields.items() if v is not None})


def _copy(batch: Batch, fixed: Batch) -> None:
    for name in Batch.__slots__:
        given, target = getattr(batch, name), getattr(fixed, name)
        if given is not None:
            target.copy_(given, non_blocking=True)
