"""The configurations of a stage, and what all trials of a stage share."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from psvae_tune.config.continuation import Continuation
from psvae_tune.config.stage import BUDGETS, Stage
from psvae_tune.config.trial import TrialConfig
from psvae_tune.config.wording import name_trial
from psvae_tune.search.stage_journal import TrialEnd
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import StudyFolder
from psvae_tune.tracking.trial_result import N_UNSUPERVISED, TrialResult

if TYPE_CHECKING:
    from psvae_tune.results.figures.movies import MovieFormat  # takes a second

SPEC = "spec"
"""Key of a trial's specification in its configuration for Ray Tune."""
CONTEXT = "context"
"""Key of the reference to its `StageContext` there, in Ray's object store."""


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """One configuration of a stage."""

    params: dict[str, Any]
    """The hyperparameters that vary in the stage."""
    trial_id: str
    """Identity of the trial; see `TrialConfig.trial_id`."""
    name: str
    continuation: Continuation | None = None
    """The trial that it goes on from; None if it begins with new initial weights."""
    path: tuple[str, ...] = ()
    """Names of that trial and of those before it, the first one first."""

    def to_ray(self) -> dict[str, Any]:
        """Return the specification as Ray Tune's configuration of a trial."""
        dumped = self.continuation and self.continuation.model_dump()
        return {SPEC: {**asdict(self), "continuation": dumped}}

    @classmethod
    def from_ray(cls, config: Mapping[str, Any]) -> Self:
        """Return the specification that `to_ray` made a configuration of."""
        raw = config[SPEC]["continuation"]
        return cls(**{**config[SPEC], "continuation": raw and Continuation(**raw)})


@dataclass(frozen=True, slots=True)
class StageContext:
    """What all trials of a stage share, in their driver and in their workers."""

    stage: Stage
    base: TrialConfig
    """The settings that the stage starts from."""
    folder: StudyFolder
    target: TrackingTarget
    digests: tuple[str, ...]
    """A digest of the contents of each recording."""
    n_labels: int
    movies: "MovieFormat" = "mp4"
    chosen: TrialSpec | None = None
    """The trial that the stage before chose; None in the first stage."""
    keeps_states: bool = False
    """Whether another trial may go on from the last state of a trial of this stage."""
    rung: str | None = None
    """For trainings on a shorter schedule, their length as a part of the full one: ``1/3``."""
    n_digits: Mapping[str, int] = field(default_factory=dict)
    """Digits before the point that each hyperparameter has in the names of the study's runs."""

    @property
    def may_stop_trials(self) -> bool:
        """Whether a scheduler may end a trial at any epoch that it is told of."""
        return self.stage.scheduler is not None

    @property
    def settings_id(self) -> str:
        """Identity of what decides the trials of the stage and the comparisons between them.

        Budgets are not part of it, so that a stage may go on with a larger one.
        """
        # Without defaults, so that a setting that a later version adds changes nothing.
        stage = self.stage.model_dump(mode="json", exclude=set(BUDGETS), exclude_defaults=True)
        base = [self.base.trial_id(self.digests, but=self.stage.space)]
        if self.stage.start_from is not None and self.chosen is not None:
            base.append(self.chosen.trial_id)
        text = json.dumps([stage, *base], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def spec(self, params: Mapping[str, Any], parent: TrialSpec | None = None) -> TrialSpec:
        """Return the specification of the trial with some hyperparameters.

        A trial that would go on from another one without a change of weights is that one.

        Parameters
        ----------
        params
            The hyperparameters.
        parent
            The trial to go on from, in a stage with ``start_from``; None for `chosen`.

        Raises
        ------
        ConfigError
            If the model refuses them.
        """
        name, continuation, path = name_trial(params, self.rung), None, tuple[str, ...]()
        if self.stage.start_from is not None:
            parent = parent or self.chosen
            assert parent is not None
            assert self.stage.epochs is not None
            old = self.weights(parent.params)
            if old == self.weights(params):
                return replace(parent, params=dict(params), name=name)
            continuation = Continuation(
                parent=parent.trial_id,
                weights=old,
                n_epochs=self.stage.epochs,
                n_ramp_epochs=self.stage.n_ramp_epochs,
            )
            path = (*parent.path, parent.name)
        spec = TrialSpec(dict(params), "", name, continuation, path)
        return replace(spec, trial_id=self.config(spec).trial_id(self.digests))

    def run_name(self, spec: TrialSpec) -> str:
        """Return the name of the run of a trial: MLflow, which compares letters, sorts it."""
        return name_trial(spec.params, self.rung, self.n_digits)

    def config(self, spec: TrialSpec) -> TrialConfig:
        """Return the settings of a trial."""
        config = self.base.with_params(spec.params)
        return config if spec.continuation is None else config.continued(spec.continuation)

    def weights(self, params: Mapping[str, Any]) -> dict[str, float]:
        """Return the weights of the loss of a trial with some hyperparameters."""
        return self.base.with_params(params).model.weights

    def specs(self, drawn: Iterable[Mapping[str, Any]]) -> list[TrialSpec]:
        """Return the specifications of the different trials among some hyperparameters."""
        specs = map(self.spec, drawn)
        return list({spec.trial_id: spec for spec in specs}.values())

    def count_unsupervised(self, params: Mapping[str, Any]) -> int:
        """Return the number of unsupervised latents of a trial with some hyperparameters."""
        return self.base.with_params(params).count_unsupervised(self.n_labels)

    def results(
        self, specs: Sequence[TrialSpec], ends: Mapping[str, TrialEnd]
    ) -> list[TrialResult]:
        """Return what a selection needs to know of trials that have ended.

        Parameters
        ----------
        specs
            The trials, in the order of the results.
        ends
            The end of each trial, from `StageJournal.trial_ends`.
        """
        return [
            TrialResult(
                trial_id=spec.trial_id,
                name=spec.name,
                params={
                    **self.config(spec).params,
                    N_UNSUPERVISED: self.count_unsupervised(spec.params),
                },
                metrics=ends[spec.trial_id].best_metrics,
                completed=ends[spec.trial_id].is_finished,
                was_stopped=ends[spec.trial_id].outcome == "stopped",
            )
            for spec in specs
        ]
