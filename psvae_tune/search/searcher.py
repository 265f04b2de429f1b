"""What Ray Tune asks for the next trial."""

from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from psvae_tune.search.sampler import StageSampler


class StudySearcher(Searcher):
    """Hands out the points of a `StageSampler`, those that were cut off first.

    The journal is the memory: what a trial brought is read there, so that Ray Tune's own
    messages and snapshots are not needed.
    """

    def __init__(self, sampling: StageSampler) -> None:
        super().__init__()
        self.sampling = sampling
        self._cut_off = sampling.unfinished()

    def suggest(self, trial_id: str) -> Any:
        """Return the settings of the next trial, None while others must end first, or the end."""
        point = self._cut_off.pop(0) if self._cut_off else self.sampling.ask()
        if point is not None:
            return {"point": asdict(point)}
        return None if self.sampling.budget() == "waiting" else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the end of a trial is in the journal by now."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: there is no state to save."""
