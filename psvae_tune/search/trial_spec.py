"""The configurations of a stage, and the names that they go by."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psvae_tune.config.trial import TrialConfig
from psvae_tune.config.wording import name_trial
from psvae_tune.search.selection.candidates import N_UNSUPERVISED
from psvae_tune.search.stage_journal import TrialEnd
from psvae_tune.tracking.trial_result import TrialResult


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """One configuration of a stage."""

    params: dict[str, Any]
    """What varies in the stage."""
    trial_id: str
    """The fingerprint of the whole configuration."""
    name: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What a stage starts from, and so what its points mean."""

    base: TrialConfig
    digests: tuple[str, ...]
    """Of the sessions."""
    n_labels: int
    rung: str | None = None
    """As in `TrialContext`."""

    def point(self, params: Mapping[str, Any]) -> TrialSpec:
        """Return the point of some hyperparameters.

        Raises
        ------
        ConfigError
            If the model refuses them.
        """
        trial_id = self.base.with_params(params).fingerprint(self.digests)
        return TrialSpec(dict(params), trial_id, name_trial(params, self.rung))

    def points(self, drawn: Iterable[Mapping[str, Any]]) -> list[TrialSpec]:
        """Return the different points of some hyperparameters, in order."""
        points = map(self.point, drawn)
        return list({point.trial_id: point for point in points}.values())

    def count_unsupervised(self, params: Mapping[str, Any]) -> int:
        """Return how many unsupervised latents a point has."""
        return self.base.with_params(params).model.count_unsupervised(self.n_labels)

    def results(
        self, points: Sequence[TrialSpec], ends: Mapping[str, TrialEnd]
    ) -> list[TrialResult]:
        """Return what a selection needs to know of points that have ended.

        Parameters
        ----------
        points
            In the order of the results.
        ends
            The end of each, from `StageJournal.trial_ends`.
        """
        return [
            TrialResult(
                trial_id=point.trial_id,
                name=point.name,
                params={
                    **self.base.with_params(point.params).params,
                    N_UNSUPERVISED: self.count_unsupervised(point.params),
                },
                metrics=ends[point.trial_id].best_metrics,
                completed=ends[point.trial_id].is_finished,
            )
            for point in points
        ]
