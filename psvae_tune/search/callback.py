"""The driver's reaction to what Ray Tune says of a trial: note it, log it, show it."""

import logging
import os
from typing import Any

from ray import tune
from ray.exceptions import RayActorError

from psvae_tune.redaction import hide_passwords
from psvae_tune.search.progress import RemoteObserver, StudyObserver, TrialReport, from_result
from psvae_tune.search.trial_groups import TrialGroups
from psvae_tune.search.trial_spec import TrialSpec
from psvae_tune.tracking.client import RunStatus
from psvae_tune.tracking.outbox import Outbox
from psvae_tune.tracking.trial_result import Outcome

logger = logging.getLogger(__name__)


class JournalCallback(tune.Callback):
    """Keeps the end of every trial in the journal and in MLflow, and tells the observer.

    An exception in a callback ends the whole study. So an exception means here that the study
    cannot be kept; what the tracking server does not take waits in the outbox instead.
    """

    def __init__(
        self,
        groups: TrialGroups,
        observer: StudyObserver | RemoteObserver,
    ) -> None:
        self.groups = groups
        self.observer: StudyObserver | RemoteObserver | None = observer
        self.latest: dict[str, TrialReport] = {}
        self._recovered_at: dict[str, int] = {}
        """The step of Ray Tune in which each trial of it was last cut off."""

    def __getstate__(self) -> dict[str, Any]:
        # Ray saves callbacks beside its own state; a live terminal cannot be saved.
        observer = self.observer if isinstance(self.observer, RemoteObserver) else None
        return {**self.__dict__, "observer": observer}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Keep the latest report of a trial.

        Raises
        ------
        OSError
            If the trial reports that its disk takes no more.
        """
        report = from_result(result)
        if report.disk_errno is not None:
            raise OSError(report.disk_errno, os.strerror(report.disk_errno))
        self.latest[report.trial_id] = report
        if self.observer:
            self.observer.trial_progressed(TrialSpec.from_ray(trial.config).name, report)

    def on_trial_complete(
        self, iteration: int, trials: list[Any], trial: Any, **info: Any
    ) -> None:
        """Close a trial that finished, was stopped early, or diverged."""
        report = self._latest_report(trial)
        if report.failure:
            self._close(trial, "failed", report.failure)
        elif report.is_finished:
            self._close(trial, "finished", "trained to the end")
        else:
            reason = f"stopped early at epoch {report.epoch}: behind other trials"
            self._close(trial, "stopped", reason)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close a trial whose worker failed for the last time."""
        if self._recovered_at.get(trial.trial_id) == iteration:
            # Its worker had died while it was idle. Ray Tune counts that twice in one step: it
            # lets the trial go on, and then takes it for one that failed again.
            self.groups.current.specs.append(TrialSpec.from_ray(trial.config))
            return
        self._close(trial, "failed", explain_failure(trial.get_error()))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Say that a trial was cut off and goes on."""
        self._recovered_at[trial.trial_id] = iteration
        name, why = TrialSpec.from_ray(trial.config).name, explain_failure(trial.get_error())
        logger.warning("%s goes on from its last checkpoint: %s", name, why)

    def _latest_report(self, trial: Any) -> TrialReport:
        trial_id = TrialSpec.from_ray(trial.config).trial_id
        return self.latest.get(trial_id, TrialReport(trial_id, 0, {}))

    def _close(self, trial: Any, outcome: Outcome, reason: str) -> None:
        """Note the end of a trial and close its run. Side effects: journal, outbox, MLflow."""
        name, reason = TrialSpec.from_ray(trial.config).name, hide_passwords(reason)
        report = self._latest_report(trial)
        status: RunStatus = "FAILED" if outcome == "failed" else "FINISHED"
        journal, target = self.groups.current.journal, self.groups.current.context.target
        outbox = Outbox.of(journal.folder, target, report.trial_id)
        # The closing entry goes to the outbox before the journal: if the driver dies between the
        # two, the run is still closed on resume. In the other order it could stay open for ever.
        outbox.add_close(status, reason)
        journal.note_end(report.trial_id, outcome, reason, report.epoch, report.best_metrics)
        if outcome == "finished":
            journal.folder.checkpoint(report.trial_id).unlink(missing_ok=True)
        outbox.deliver()
        if self.observer:
            self.observer.trial_ended(name, outcome, reason, report.best_metrics)


def explain_failure(error: Any) -> str:
    """Return one line that says why a worker failed."""
    if error is None or isinstance(error, RayActorError):
        return (
            "its worker died, as it does when memory runs out; fewer trials at a time "
            "(resources.max_concurrent_trials) need less"
        )
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("hint: ")]
    return lines[-1] if lines else repr(error)
