"""What the driver does when Ray Tune tells it of a trial."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any, Protocol

import ray
from ray import tune
from ray.exceptions import RayActorError

from psvae_tune.config.stage import Stage
from psvae_tune.record import StageRecord
from psvae_tune.redaction import hide_passwords
from psvae_tune.select.choose import Selection
from psvae_tune.tracking.client import RunStatus, TrackingTarget
from psvae_tune.tracking.outbox import Spool
from psvae_tune.trial import Progress

LISTEN_S = 0.5

logger = logging.getLogger(__name__)


class Watcher(Protocol):
    """Whoever shows a study while it runs."""

    def stage_started(
        self, stage: Stage, n_trials: int | None, n_done: int, rung: str | None = None
    ) -> None:
        """A stage begins, or a rung of one, of which ``n_done`` trials have ended before.

        ``n_trials`` is None where the budget does not count trials; ``rung`` is as in `TrialJob`.
        """

    def trial_progressed(self, name: str, progress: Progress) -> None:
        """A trial has been validated."""

    def trial_ended(
        self, name: str, outcome: str, reason: str, metrics: Mapping[str, float]
    ) -> None:
        """A trial is over: ``finished``, ``stopped`` or ``failed``."""

    def stage_selected(self, stage: Stage, selection: Selection) -> None:
        """A stage has made its choice."""


class _Mailbox:
    """An actor: what was said and not yet heard."""

    def __init__(self) -> None:
        self._said: list[tuple[Any, ...]] = []

    def put(self, *words: Any) -> None:
        self._said.append(words)

    def take(self) -> list[tuple[Any, ...]]:
        said, self._said = self._said, []
        return said


class Relay:
    """Tells a watcher on another machine of trials; the stages are told there anyway."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox

    def trial_progressed(self, name: str, progress: Progress) -> None:
        """Pass it on."""
        self.mailbox.put.remote("trial_progressed", name, progress)

    def trial_ended(
        self, name: str, outcome: str, reason: str, metrics: Mapping[str, float]
    ) -> None:
        """Pass it on."""
        self.mailbox.put.remote("trial_ended", name, outcome, reason, metrics)


@contextmanager
def reach_back(watcher: Watcher) -> Iterator[Watcher | Relay]:
    """Return what tells a watcher here of trials from wherever Ray Tune runs.

    That is this process, unless it is a client: then it is a node of the cluster.

    Side effects: starts an actor there, and a thread here, for as long as it takes.
    """
    if not ray.util.client.ray.is_connected():
        yield watcher
        return
    mailbox = ray.remote(num_cpus=0)(_Mailbox).remote()
    is_over = Event()
    listener = Thread(target=_listen, args=(mailbox, watcher, is_over))
    listener.start()
    try:
        yield Relay(mailbox)
    finally:
        is_over.set()
        listener.join()


def _listen(mailbox: Any, watcher: Watcher, is_over: Event) -> None:
    is_last = False
    with suppress(ConnectionError):  # whoever waits for the trials is told as well
        while not is_last:
            is_last = is_over.wait(LISTEN_S)
            for method, *arguments in ray.get(mailbox.take.remote()):
                getattr(watcher, method)(*arguments)


class DriverCallback(tune.Callback):
    """Keeps what Ray Tune learns of trials: in the journal, in MLflow and before the user.

    An exception in a callback ends the whole study. What is raised here is that the study cannot
    be kept; what the tracking server does not take only waits.
    """

    def __init__(
        self, record: StageRecord, target: TrackingTarget, watcher: Watcher | Relay
    ) -> None:
        self.record = record
        self.target = target
        self.watcher: Watcher | Relay | None = watcher
        self.latest: dict[str, Progress] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Ray saves callbacks beside its own state; a live terminal cannot be saved.
        watcher = self.watcher if isinstance(self.watcher, Relay) else None
        return {**self.__dict__, "watcher": watcher}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Note the latest numbers of a trial."""
        progress = from_result(result)
        if progress.disk_errno is not None:
            raise OSError(progress.disk_errno, os.strerror(progress.disk_errno))
        self.latest[progress.trial_id] = progress
        if self.watcher:
            self.watcher.trial_progressed(trial.config["point"]["name"], progress)

    def on_trial_complete(
        self, iteration: int, trials: list[Any], trial: Any, **info: Any
    ) -> None:
        """Close a trial that finished, was stopped early, or diverged."""
        trial_id = trial.config["point"]["trial_id"]
        progress = self.latest.get(trial_id, Progress(trial_id, 0, {}))
        if progress.failure:
            self._end(trial, progress, "failed", progress.failure)
        elif progress.is_finished:
            self._end(trial, progress, "finished", "trained to the end")
        else:
            reason = f"stopped early at epoch {progress.epoch}: behind other trials"
            self._end(trial, progress, "stopped", reason)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close a trial whose worker failed for the last time."""
        trial_id = trial.config["point"]["trial_id"]
        progress = self.latest.get(trial_id, Progress(trial_id, 0, {}))
        self._end(trial, progress, "failed", _tell(trial.get_error()))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say that a trial was cut off and goes on."""
        name, why = trial.config["point"]["name"], _tell(trial.get_error())
        logger.warning("%s goes on from its last checkpoint: %s", name, why)

    def _end(self, trial: Any, progress: Progress, outcome: str, reason: str) -> None:
        name, reason = trial.config["point"]["name"], hide_passwords(reason)
        status: RunStatus = "FAILED" if outcome == "failed" else "FINISHED"
        spool = Spool.of(self.record.folder, progress.trial_id)
        # What waits is delivered whatever dies here; noted first, a run could stay open for ever.
        spool.add_close(status, reason)
        self.record.note_end(progress.trial_id, outcome, reason, progress.epoch, progress.metrics)
        if outcome == "finished":
            self.record.folder.checkpoint(progress.trial_id).unlink(missing_ok=True)
        spool.deliver(self.target)
        if self.watcher:
            self.watcher.trial_ended(name, outcome, reason, progress.metrics)


def _tell(error: Any) -> str:
    """Return why a worker failed, in one line."""
    if error is None or isinstance(error, RayActorError):
        return (
            "its worker died, as it does when memory runs out; fewer trials at a time "
            "(resources.max_concurrent_trials) need less"
        )
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else repr(error)


def to_result(progress: Progress) -> dict[str, Any]:
    """Return a progress as Ray Tune's reports are: one flat dict."""
    return {
        "fingerprint": progress.trial_id,  # `trial_id` is Ray's own key
        "epoch": progress.epoch,
        "is_finished": progress.is_finished,
        "failure": progress.failure,
        "disk_errno": progress.disk_errno,
        **progress.metrics,
    }


def from_result(result: Mapping[str, Any]) -> Progress:
    """Return the progress that `to_result` made a report of."""
    return Progress(
        result["fingerprint"],
        result["epoch"],
        {k: v for k, v in result.items() if k.startswith(("val/", "test/"))},
        result["is_finished"],
        result["failure"],
        result["disk_errno"],
    )
