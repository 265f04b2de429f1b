"""What the driver does when Ray Tune tells it of a trial."""

from collections.abc import Mapping
from typing import Any, Protocol

from ray import tune

from psvae_tune.errors import hide_passwords
from psvae_tune.record import StageRecord
from psvae_tune.select import Selection
from psvae_tune.spool import close_trial
from psvae_tune.stage import Stage
from psvae_tune.tracking import RunStatus, TrackingTarget
from psvae_tune.trial import Progress


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


class DriverCallback(tune.Callback):
    """Keeps what Ray Tune learns of trials: in the journal, in MLflow and before the user.

    An exception in a callback would end the whole study, so all that can fail here is caught.
    """

    def __init__(self, record: StageRecord, target: TrackingTarget, watcher: Watcher) -> None:
        self.record = record
        self.target = target
        self.watcher: Watcher | None = watcher
        self.latest: dict[str, Progress] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Ray saves callbacks beside its own state; a live terminal cannot be saved.
        return {**self.__dict__, "watcher": None}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Note the latest numbers of a trial."""
        progress = from_result(result)
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
        error = trial.get_error() or "its worker was lost"
        lines = str(error).strip().splitlines()
        progress = self.latest.get(trial_id, Progress(trial_id, 0, {}))
        self._end(trial, progress, "failed", lines[-1] if lines else repr(error))

    def _end(self, trial: Any, progress: Progress, outcome: str, reason: str) -> None:
        name, reason = trial.config["point"]["name"], hide_passwords(reason)
        self.record.note_end(progress.trial_id, outcome, reason, progress.epoch, progress.metrics)
        if outcome == "finished":
            self.record.folder.checkpoint(progress.trial_id).unlink(missing_ok=True)
        status: RunStatus = "FAILED" if outcome == "failed" else "FINISHED"
        close_trial(self.record.folder, self.target, progress.trial_id, status, reason)
        if self.watcher:
            self.watcher.trial_ended(name, outcome, reason, progress.metrics)


def to_result(progress: Progress) -> dict[str, Any]:
    """Return a progress as Ray Tune's reports are: one flat dict."""
    return {
        "fingerprint": progress.trial_id,  # `trial_id` is Ray's own key
        "epoch": progress.epoch,
        "is_finished": progress.is_finished,
        "failure": progress.failure,
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
    )
