"""Reports of trials, and how they reach whoever shows a study."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Protocol

import ray

from psvae_tune.cluster.ray_private import is_client
from psvae_tune.config.stage import Stage
from psvae_tune.search.selection.select import Selection

LISTEN_S = 0.5
"""Seconds between two requests for the reports of a remote driver."""
TRIAL_ID = "psvae_tune_trial_id"
"""Key of the trial's identity in a report: Ray Tune sets ``trial_id`` to an id of its own."""


@dataclass(frozen=True, slots=True)
class TrialReport:
    """The message of a trial to its driver after a validation, and once more at its end."""

    trial_id: str
    epoch: int
    """Number of epochs that were trained."""
    best_metrics: dict[str, float]
    """Metrics of the best epoch so far, not of ``epoch``; keys as in `metric_catalog`.

    While the annealing lasts there is no best epoch, and they are those of ``epoch``.
    """
    is_finished: bool = False
    failure: str | None = None
    disk_errno: int | None = None
    """Number of the disk error that ended the trial; it can go on once there is room."""


def to_result(report: TrialReport) -> dict[str, Any]:
    """Return a report in the form that Ray Tune takes: one flat dict."""
    return {
        TRIAL_ID: report.trial_id,
        "epoch": report.epoch,
        "is_finished": report.is_finished,
        "failure": report.failure,
        "disk_errno": report.disk_errno,
        **report.best_metrics,
    }


def from_result(result: Mapping[str, Any]) -> TrialReport:
    """Return the report that `to_result` made a result of."""
    return TrialReport(
        result[TRIAL_ID],
        result["epoch"],
        {k: v for k, v in result.items() if k.startswith(("val/", "test/"))},
        result["is_finished"],
        result["failure"],
        result["disk_errno"],
    )


class StudyObserver(Protocol):
    """The interface of whatever shows a study while it runs."""

    def stage_started(
        self, stage: Stage, n_trials: int | None, n_done: int, rung: str | None = None
    ) -> None:
        """Take note that a stage begins, or one of its shorter schedules.

        Parameters
        ----------
        stage
            The stage.
        n_trials
            Number of its trials; None where its budget does not count trials.
        n_done
            Number of trials that had ended before.
        rung
            Length of a shorter schedule; see `StageContext`.
        """

    def trial_progressed(self, name: str, report: TrialReport) -> None:
        """Take note that a trial has been validated."""

    def trial_ended(
        self, name: str, outcome: str, reason: str, metrics: Mapping[str, float]
    ) -> None:
        """Take note that a trial has ended; ``outcome`` is as in `stage_journal.TrialEnd`."""

    def stage_selected(self, stage: Stage, selection: Selection) -> None:
        """Take note that a stage has made its choice."""


class _Queue:
    """An actor that keeps calls until they are taken."""

    def __init__(self) -> None:
        self._calls: list[tuple[Any, ...]] = []

    def put(self, *call: Any) -> None:
        self._calls.append(call)

    def take(self) -> list[tuple[Any, ...]]:
        calls, self._calls = self._calls, []
        return calls


class RemoteObserver:
    """Passes what happens to trials to an observer on another machine.

    The stages run on that machine, so it knows of them without being told.
    """

    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def trial_progressed(self, name: str, report: TrialReport) -> None:
        """Pass the call on."""
        self.queue.put.remote("trial_progressed", name, report)

    def trial_ended(
        self, name: str, outcome: str, reason: str, metrics: Mapping[str, float]
    ) -> None:
        """Pass the call on."""
        self.queue.put.remote("trial_ended", name, outcome, reason, metrics)


@contextmanager
def relay_reports(observer: StudyObserver) -> Iterator[StudyObserver | RemoteObserver]:
    """Yield an observer for the process that runs Ray Tune, which passes on to the given one.

    Ray Tune runs in this process, unless this process is a client of a cluster: then it runs on
    a node of the cluster.

    Side effects: starts an actor on the cluster and a thread here; both end with the context.
    """
    if not is_client():
        yield observer
        return
    queue = ray.remote(num_cpus=0)(_Queue).remote()
    is_over = Event()
    listener = Thread(target=_listen, args=(queue, observer, is_over))
    listener.start()
    try:
        yield RemoteObserver(queue)
    finally:
        is_over.set()
        listener.join()


def _listen(queue: Any, observer: StudyObserver, is_over: Event) -> None:
    is_last = False
    with suppress(ConnectionError):  # whoever waits for the trials gets this error as well
        while not is_last:
            is_last = is_over.wait(LISTEN_S)
            for method, *arguments in ray.get(queue.take.remote()):
                getattr(observer, method)(*arguments)
