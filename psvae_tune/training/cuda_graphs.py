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
"""Number of shapes that are recorded; each holds memory of its own."""


@dataclass(frozen=True, slots=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
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
    is_recorded
        Whether to record at all; only a GPU can.
    """

    def __init__(self, function: Function, device: torch.device, *, is_recorded: bool) -> None:
        self.rng = Generator(device)
        self._function = function
        self._device = device
        self._is_recorded = is_recorded and device.type == "cuda"
        self._n_calls: Counter[Key] = Counter()
        self._recordings: dict[Key, _Recording] = {}
        if self._is_recorded:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, batch: Batch) -> Outputs:
        """Return what the function returns for a batch."""
        if not self._is_recorded:
            return self._function(batch, self.rng)
        with self._on_stream():
            key = _key_of(batch)
            self._n_calls[key] += 1
            if key not in self._recordings and not self._record(key, batch):
                return self._function(batch, self.rng)
            recording = self._recordings[key]
            _copy(batch, recording.batch)
            recording.graph.replay()
            # The next replay, of any graph, overwrites them.
            return tuple(None if each is None else each.clone() for each in recording.outputs)

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        """Run on one stream, that of the recordings, to which autograd ties the weights."""
        caller = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(caller)
        with torch.cuda.stream(self._stream):
            yield
        caller.wait_stream(self._stream)

    def _record(self, key: Key, batch: Batch) -> bool:
        """Record a shape if its time has come. Returns whether there is a recording."""
        if self._n_calls[key] <= N_BEFORE or len(self._recordings) == MAX_GRAPHS:
            return False
        fixed = _copy_of(batch)
        draws = self.rng.get_state()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.rng)
        try:
            # Recordings are replayed one at a time, so they share their memory. Other threads may
            # copy clips to the GPU meanwhile.
            with torch.cuda.graph(
                graph, self._pool, self._stream, capture_error_mode="thread_local"
            ):
                outputs = self._function(fixed, self.rng)
        except RuntimeError as error:  # CUDA's errors are such, OutOfMemoryError included
            logger.warning("steps are not recorded as CUDA graphs: %s", error)
            self._is_recorded = False
            # A generator that has seen a failed recording cannot be used any more.
            self.rng = Generator(self._device)
            self.rng.set_state(draws)
            return False
        self._recordings[key] = _Recording(graph, fixed, outputs)
        return True


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
