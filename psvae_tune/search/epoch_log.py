"""The log of the epochs of a trial, and the clocks that tell what they cost."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from psvae_tune.results.keep_model import best_metrics
from psvae_tune.tracking.outbox import Outbox
from psvae_tune.tracking.trial_run import EpochMetrics
from psvae_tune.training.fit import EpochReport

HOLD_S = 1.0
"""Seconds between two logging requests of one trial.

Epochs that end sooner are sent together, because a request costs more than the numbers in it.
"""


class EpochLog:
    """Logs epochs, those that end sooner than `HOLD_S` together.

    The run is opened in a thread, and the first epochs need not wait for it: in a new worker this
    imports MLflow, which takes seconds.

    Parameters
    ----------
    open_run
        Opens the run of the trial.
    """

    def __init__(self, open_run: Callable[[], Outbox]) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._opening = self._thread.submit(open_run)
        self._held: list[EpochMetrics] = []
        self._next_s = 0.0

    @property
    def run(self) -> Outbox:
        """The run, once it is open."""
        return self._opening.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # A trial that is no longer listened to may have been closed. If it goes on, it does so
        # from its last checkpoint, and trains the epochs that are held here again.
        if kind is not GeneratorExit:
            self.send()
        self._thread.shutdown()

    def add(self, epoch: EpochReport, cost: dict[str, float]) -> None:
        """Take the metrics and the cost of an epoch. Side effects: may log to the run."""
        best = best_metrics(epoch.metrics) if epoch.is_best else {}
        self._held.append(EpochMetrics.now(epoch.epoch, epoch.metrics | best | cost))
        if self._opening.done() and time.monotonic() >= self._next_s:
            self.send()

    def send(self) -> None:
        """Log the epochs that are held. Side effects: logs to the run, once it is open."""
        self.run.log(self._held)
        self._held, self._next_s = [], time.monotonic() + HOLD_S


class EpochClocks:
    """Measures what an epoch costs: seconds that pass, and seconds of the processor."""

    def __init__(self) -> None:
        self._begin = self._read()

    def restart(self) -> dict[str, float]:
        """Return what was spent since the last restart, and begin anew."""
        before, self._begin = self._begin, self._read()
        return {name: value - before[name] for name, value in self._begin.items()}

    @staticmethod
    def _read() -> dict[str, float]:
        return {"perf/epoch_seconds": time.perf_counter(), "perf/cpu_seconds": time.process_time()}
