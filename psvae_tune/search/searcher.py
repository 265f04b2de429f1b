"""The searcher that Ray Tune asks for the next trial."""

from typing import Any

from ray.tune.search import Searcher

from psvae_tune.search.trial_groups import TrialGroups


class StudySearcher(Searcher):
    """Hands out the trials of one group after another.

    The journal is the memory: whoever makes a group reads the ends of earlier trials there, and
    needs neither Ray Tune's messages nor its snapshots.
    """

    def __init__(self, groups: TrialGroups) -> None:
        super().__init__()
        self.groups = groups

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Leave the number of trials at a time to each group."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of the next trial.

        None asks Ray Tune to come back when another trial has ended. ``FINISHED`` says that no
        trial will follow. Once all trials of a group have ended, this waits for the next group:
        nothing runs meanwhile, and Ray Tune itself would look for it once a second.
        """
        groups = self.groups
        while True:
            n_live, group = groups.count_live(), groups.current
            if n_live >= group.max_live:
                return None
            if (spec := group.take()) is not None:
                return group.to_ray(spec)
            if n_live:
                return None
            if not groups.go_on():
                return Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the end of a trial is in the journal by now."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the searcher has no state to save."""
