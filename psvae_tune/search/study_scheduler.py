"""The scheduler of a whole study, which asks the one of the stage that runs."""

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from psvae_tune.cluster.ray_private import keep_actors
from psvae_tune.search.trial_groups import TrialGroups


class StudyScheduler(FIFOScheduler):
    """Lets the scheduler of the current group decide, and counts the trials that live.

    Its workers stay when their trials have ended, until the study has: a new worker takes seconds
    to import its libraries, and on a GPU to read the recordings again.
    """

    def __init__(self, groups: TrialGroups) -> None:
        super().__init__()
        self.groups = groups
        self._keeps_actors = False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Count a trial among those that live."""
        self.groups.live.add(trial)
        if not self._keeps_actors:
            keep_actors(tune_controller, trial)
            self._keeps_actors = True

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether a trial goes on."""
        scheduler = self.groups.current.scheduler
        if scheduler is None:
            return str(TrialScheduler.CONTINUE)
        return str(scheduler.on_trial_result(tune_controller, trial, result))
