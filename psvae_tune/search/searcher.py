"""The searcher that Ray Tune asks for the next trial."""

from typing import Any

from ray.tune.search import Searcher

from psvae_tune.search.sampler import StageSampler


class StudySearcher(Searcher):
    """Hands out the trials of a `StageSampler`; those that were cut off come first.

    The journal is the memory: the sampler reads the ends of trials there, and needs neither Ray
    Tune's messages nor its snapshots.
    """

    def __init__(self, sampler: StageSampler) -> None:
        super().__init__()
        self.sampler = sampler
        self._cut_off = sampler.unfinished()

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of the next trial.

        None asks Ray Tune to come back when another trial has ended. ``FINISHED`` says that no
        trial will follow.
        """
        spec = self._cut_off.pop(0) if self._cut_off else self.sampler.ask()
        if spec is not None:
            return spec.to_ray()
        return None if self.sampler.budget() == "waiting" else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the end of a trial is in the journal by now."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the searcher has no state to save."""
