"""Progress of trials, and how whoever watches a study hears of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Protocol

import ray

from psvae_tune.cluster.ray_private import is_client
from psvae_tune.config.stage import Stage
from psvae_tune.search.selection.select import Selection


@dataclass(frozen=True, slots=True)
class TrialReport:
    """What a trial tells its driver after a validation, and once more at its end."""

    trial_id: str
    epoch: int
    metrics: dict[str, float]
    """Keys as in `metric_catalog`: those of the best epoch so far, once the annealing is over."""
    is_finished: bool = False
    failure: str | None = None
    disk_errno: int | None = None
    """Of the disk error that ended it here and now; it can go on when there is room again."""


LISTEN_S = 0.5


class StudyObserver(Protocol):
    """Whoever shows a study while it runs."""

    def stage_started(
        self, stage: Stage, n_trials: int | None, n_done: int, rung: str | None = None
    ) -> None:
        """A stage begins, or a rung of one, of which ``n_done`` trials have ended before.

        ``n_trials`` is None where the budget does not count trials.
        ``rung`` is as in `TrialContext`.
        """

    def trial_progressed(self, name: str, progress: TrialReport) -> None:
        """A trial has been validated."""

    def trial_ended(
        self, name: str, outcome: str, reason: str, metrics: Mapping[str, float]
    ) -> None:
        """A trial is over: ``finished``, ``stopped`` or ``failed``."""

    def stage_selected(self, stage: Stage, selection: Selection) -> None:
        """A stage has made its choice."""


class _Queue:
    """An actor: what was said and not yet heard."""

    def __init__(self) -> None:
        self._said: list[tuple[Any, ...]] = []

    def put(self, *words: Any) -> None:
        self._said.append(words)

    def take(self) -> list[tuple[Any, ...]]:
        said, self._said = self._said, []
        return said


class RemoteObserver:
    """Tells a observer on another machine of trials; the stages are told there anyway."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox

    def trial_progressed(self, name: str, progress: TrialReport) -> None:
        """Pass it on."""
        self.mailbox.put.remote("trial_progressed", name, progress)

    def trial_ended(
        self, name: str, outcome: str, reason: str, metrics: Mapping[str, float]
    ) -> None:
        """Pass it on."""
        self.mailbox.put.remote("trial_ended", name, outcome, reason, metrics)


@contextmanager
def relay_reports(observer: StudyObserver) -> Iterator[StudyObserver | RemoteObserver]:
    """Return what tells a observer here of trials from wherever Ray Tune runs.

    That is this process, unless it is a client: then it is a node of the cluster.

    Side effects: starts an actor there, and a thread here, for as long as it takes.
    """
    if not is_client():
        yield observer
        return
    mailbox = ray.remote(num_cpus=0)(_Queue).remote()
    is_over = Event()
    listener = Thread(target=_listen, args=(mailbox, observer, is_over))
    listener.start()
    try:
        yield RemoteObserver(mailbox)
    finally:
        is_over.set()
        listener.join()


def _listen(mailbox: Any, observer: StudyObserver, is_over: Event) -> None:
    is_last = False
    with suppress(ConnectionError):  # whoever waits for the trials is told as well
        while not is_last:
            is_last = is_over.wait(LISTEN_S)
            for method, *arguments in ray.get(mailbox.take.remote()):
                getattr(observer, method)(*arguments)


def to_result(progress: TrialReport) -> dict[str, Any]:
    """Return a progress as Ray Tune's reports are: one flat dict."""
    return {
        "fingerprint": progress.trial_id,  # `trial_id` is Ray's own key
        "epoch": progress.epoch,
        "is_finished": progress.is_finished,
        "failure": progress.failure,
        "disk_errno": progress.disk_errno,
        **progress.metrics,
    }


def from_result(result: Mapping[str, Any]) -> TrialReport:
    """Return the progress that `to_result` made a report of."""
    return TrialReport(
        result["fingerprint"],
        result["epoch"],
        {k: v for k, v in result.items() if k.startswith(("val/", "test/"))},
        result["is_finished"],
        result["failure"],
        result["disk_errno"],
    )
