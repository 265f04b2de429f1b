"""What the driver does when Ray Tune tells it of a trial."""

import logging
import os
from typing import Any

from ray import tune
from ray.exceptions import RayActorError

from psvae_tune.redaction import hide_passwords
from psvae_tune.search.progress import RemoteObserver, StudyObserver, TrialReport, from_result
from psvae_tune.search.stage_journal import Outcome, StageJournal
from psvae_tune.tracking.client import RunStatus, TrackingTarget
from psvae_tune.tracking.outbox import Outbox

logger = logging.getLogger(__name__)


class JournalCallback(tune.Callback):
    """Keeps what Ray Tune learns of trials: in the journal, in MLflow and before the user.

    An exception in a callback ends the whole study. What is raised here is that the study cannot
    be kept; what the tracking server does not take only waits.
    """

    def __init__(
        self,
        record: StageJournal,
        target: TrackingTarget,
        observer: StudyObserver | RemoteObserver,
    ) -> None:
        self.record = record
        self.target = target
        self.observer: StudyObserver | RemoteObserver | None = observer
        self.latest: dict[str, TrialReport] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Ray saves callbacks beside its own state; a live terminal cannot be saved.
        observer = self.observer if isinstance(self.observer, RemoteObserver) else None
        return {**self.__dict__, "observer": observer}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Note the latest numbers of a trial."""
        progress = from_result(result)
        if progress.disk_errno is not None:
            raise OSError(progress.disk_errno, os.strerror(progress.disk_errno))
        self.latest[progress.trial_id] = progress
        if self.observer:
            self.observer.trial_progressed(trial.config["point"]["name"], progress)

    def on_trial_complete(
        self, iteration: int, trials: list[Any], trial: Any, **info: Any
    ) -> None:
        """Close a trial that finished, was stopped early, or diverged."""
        trial_id = trial.config["point"]["trial_id"]
        progress = self.latest.get(trial_id, TrialReport(trial_id, 0, {}))
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
        progress = self.latest.get(trial_id, TrialReport(trial_id, 0, {}))
        self._end(trial, progress, "failed", _tell(trial.get_error()))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say that a trial was cut off and goes on."""
        name, why = trial.config["point"]["name"], _tell(trial.get_error())
        logger.warning("%s goes on from its last checkpoint: %s", name, why)

    def _end(self, trial: Any, progress: TrialReport, outcome: Outcome, reason: str) -> None:
        name, reason = trial.config["point"]["name"], hide_passwords(reason)
        status: RunStatus = "FAILED" if outcome == "failed" else "FINISHED"
        spool = Outbox.of(self.record.folder, progress.trial_id)
        # What waits is delivered whatever dies here; noted first, a run could stay open for ever.
        spool.add_close(status, reason)
        self.record.note_end(progress.trial_id, outcome, reason, progress.epoch, progress.metrics)
        if outcome == "finished":
            self.record.folder.checkpoint(progress.trial_id).unlink(missing_ok=True)
        spool.deliver(self.target)
        if self.observer:
            self.observer.trial_ended(name, outcome, reason, progress.metrics)


def _tell(error: Any) -> str:
    """Return why a worker failed, in one line."""
    if error is None or isinstance(error, RayActorError):
        return (
            "its worker died, as it does when memory runs out; fewer trials at a time "
            "(resources.max_concurrent_trials) need less"
        )
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else repr(error)
