"""The searcher that Ray Tune asks for the next trial."""

from typing import Any

from ray.tune.search import Searcher

from psvae_tune.search.batches import Batches


class StudySearcher(Searcher):
    """Hands out the trials of one batch after another.

    The journal is the memory: whoever makes a batch reads the ends of earlier trials there, and
    needs neither Ray Tune's messages nor its snapshots.
    """

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Leave the number of trials at a time to each batch."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of the next trial.

        None asks Ray Tune to come back when another trial has ended. ``FINISHED`` says that no
        trial will follow. Once all trials of a batch have ended, this waits for the next batch:
        nothing runs meanwhile, and Ray Tune itself would look for it once a second.
        """
        batches = self.batches
        while True:
            n_live, batch = batches.count_live(), batches.current
            if n_live >= batch.max_live:
                return None
            if (spec := batch.take()) is not None:
                return batch.to_ray(spec)
            if n_live:
                return None
            if not batches.go_on():
                return Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the end of a trial is in the journal by now."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the searcher has no state to save."""
