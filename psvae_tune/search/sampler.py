"""Optuna suggests the next trial of a stage, asked anew each time from the journal's contents.

No state of Optuna is kept between two questions. Its study is built from the journal, its sampler
from the seed of the stage and the number of the question. So a suggestion depends only on what is
known when it is made, and a study that was cut off goes on as if it had not been.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from psvae_tune.config.domain import Domain
from psvae_tune.config.stage import Stage
from psvae_tune.config.stage_settings import max_trial_epochs
from psvae_tune.results.optuna_trial import to_category, to_distribution, to_outcome
from psvae_tune.search.stage_journal import StageJournal, Suggestion, TrialEnd
from psvae_tune.search.trial_spec import StageContext, TrialSpec
from psvae_tune.search.weight_path import nearest

# A budget of fits allows dozens of trials, for which Optuna's own numbers are too large.
POPULATION_SIZE = 12
"""Trials in a generation of NSGA-II."""
N_RANDOM_FIRST = 5
"""Trials drawn at random before TPE has a model."""
# In a discrete space, a sampler may suggest the same trial again and again.
N_REPEATS_UNTIL_RANDOM = 10
"""Repeats in a row after which the next suggestion is drawn at random."""
N_REPEATS_UNTIL_EXHAUSTED = 50
"""Repeats in a row after which the space is taken to hold no other trial."""

Budget = Literal["left", "waiting", "spent"]
"""``waiting``: whether a trial may begin depends on the end of those that run."""


def to_values(space: Mapping[str, Domain], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters that parameters of Optuna stand for."""
    values = {}
    for name, domain in space.items():
        value = params[name]
        if domain.kind == "choice":
            value = next(own for own in domain.values if to_category(own) == value)
        values[name] = value
    return values


def _to_optuna(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: to_category(value) for name, value in params.items()}


def make_sampler(stage: Stage, number: int, n_repeats: int) -> optuna.samplers.BaseSampler:
    """Return the sampler for one question of a stage.

    Parameters
    ----------
    stage
        The stage.
    number
        Number of suggestions before.
    n_repeats
        Number of suggestions since the last one that was new.
    """
    seed = int(np.random.SeedSequence([stage.seed, number]).generate_state(1)[0])
    if stage.algorithm == "random" or n_repeats >= N_REPEATS_UNTIL_RANDOM:
        return optuna.samplers.RandomSampler(seed=seed)
    if stage.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION_SIZE)
    if stage.sampler == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.TPESampler(
        seed=seed, multivariate=True, n_startup_trials=N_RANDOM_FIRST
    )


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Contents of the journal at one moment."""

    suggestions: list[Suggestion]
    specs: list[TrialSpec]
    """The different trials among them."""
    ends: dict[str, TrialEnd]

    @property
    def unfinished(self) -> list[TrialSpec]:
        return [spec for spec in self.specs if spec.trial_id not in self.ends]

    @property
    def n_repeats(self) -> int:
        """Number of suggestions since the last one that was new."""
        news = [number for number, item in enumerate(self.suggestions) if not item.is_repeat]
        return len(self.suggestions) - 1 - max(news, default=-1)


@dataclass(frozen=True, slots=True)
class StageSampler:
    """The suggestions of a stage, past and next."""

    context: StageContext
    journal: StageJournal
    _specs: list[TrialSpec] = field(default_factory=list, repr=False)
    """The trial of every suggestion so far: each is validated once."""
    _told: dict[int, tuple[TrialEnd, FrozenTrial]] = field(default_factory=dict, repr=False)
    """Optuna's trial of every suggestion that has ended, by its number, with that end."""

    @property
    def stage(self) -> Stage:
        """The stage."""
        return self.context.stage

    def _snapshot(self) -> _Snapshot:
        suggestions = [item for item in self.journal.suggestions() if self._is_of_space(item)]
        for item in suggestions[len(self._specs) :]:
            self._specs.append(self.context.spec(item.params, self._find(item.parent)))
        specs = {spec.trial_id: spec for spec in self._specs}
        return _Snapshot(suggestions, list(specs.values()), self.journal.trial_ends())

    def _find(self, trial_id: str | None) -> TrialSpec | None:
        """Return the trial of an identity among those that others go on from."""
        known = [spec for spec in (self.context.chosen, *self._specs) if spec is not None]
        return next((spec for spec in known if spec.trial_id == trial_id), None)

    def _parent(self, params: Mapping[str, Any], seen: _Snapshot) -> TrialSpec | None:
        """Return the trial that one with some hyperparameters is to go on from."""
        chosen, context = self.context.chosen, self.context
        if self.stage.start_from is None or chosen is None:
            return None
        if self.stage.start_from == "chosen":
            return chosen
        finished = {trial_id for trial_id, end in seen.ends.items() if end.is_finished}
        known = [chosen, *(spec for spec in seen.specs if spec.trial_id in finished)]
        weights = [context.weights(spec.params) for spec in known]
        return known[nearest(context.weights(params), weights)]

    def _is_of_space(self, item: Suggestion) -> bool:
        """Return whether a suggestion is of this space, which earlier versions did not note."""
        space = self.stage.space
        return item.params.keys() == space.keys() and all(
            space[name].contains(value) for name, value in item.params.items()
        )

    def specs(self) -> list[TrialSpec]:
        """Return the different trials that were suggested so far."""
        return self._snapshot().specs

    def unfinished(self) -> list[TrialSpec]:
        """Return the trials that were suggested and have not ended."""
        return self._snapshot().unfinished

    def budget(self) -> Budget:
        """Return whether the budget has room for another trial."""
        return self._budget(self._snapshot())

    def _budget(self, seen: _Snapshot) -> Budget:
        stage = self.stage
        if (
            (stage.num_trials is not None and len(seen.specs) >= stage.num_trials)
            or (stage.time_budget_h is not None and self.journal.hours() >= stage.time_budget_h)
            or seen.n_repeats >= N_REPEATS_UNTIL_EXHAUSTED
        ):
            return "spent"
        if stage.num_epochs is not None:
            n_trained = self.journal.count_epochs()
            n_running = len(seen.unfinished)
            n_each = max_trial_epochs(stage, self.context.base)
            if n_trained + (n_running + 1) * n_each > stage.num_epochs:
                return "waiting" if n_running else "spent"
        return "left"

    def ask(self) -> TrialSpec | None:
        """Return a trial to run; None if the budget has no room for one.

        A trial that has ended already is told to the sampler and not returned.

        Side effects: appends to the journal.
        """
        while self._budget(seen := self._snapshot()) == "left":
            params, system = self._suggest(seen)
            parent = self._parent(params, seen)
            spec = self.context.spec(params, parent)
            # By now another trial may be nearer, and yet the weights are the same.
            spec = next((own for own in seen.specs if own.params == params), spec)
            is_repeat = spec.trial_id in {other.trial_id for other in seen.specs}
            came_from = None if parent is None else parent.trial_id
            self.journal.note_suggestion(
                Suggestion(params, spec.trial_id, is_repeat, system, came_from)
            )
            if not is_repeat and spec.trial_id not in seen.ends:
                return spec
        return None

    def _suggest(self, seen: _Snapshot) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return hyperparameters, and the notes that the sampler makes for itself."""
        number = len(seen.suggestions)
        study = self._study(seen)
        study.sampler = make_sampler(self.stage, number, seen.n_repeats)
        if number < len(self.stage.points_to_evaluate):
            study.enqueue_trial(_to_optuna(self.stage.points_to_evaluate[number]))
        space = {name: to_distribution(domain) for name, domain in self.stage.space.items()}
        params = study.ask(space).params
        trial = study.get_trials(deepcopy=False)[-1]
        return to_values(self.stage.space, params), dict(trial.system_attrs)

    def study(self) -> optuna.Study:
        """Return all suggestions as an Optuna study in memory.

        Trials that have ended are as `to_outcome` says; any other runs.
        """
        return self._study(self._snapshot())

    def _study(self, seen: _Snapshot) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        goals = {"min": "minimize", "max": "maximize"}
        study = optuna.create_study(
            directions=[goals[goal] for goal in self.stage.objectives.values()]
        )
        for number, item in enumerate(seen.suggestions):
            study.add_trial(self._to_optuna_trial(number, item, seen.ends.get(item.trial_id)))
        return study

    def _to_optuna_trial(
        self, number: int, suggestion: Suggestion, end: TrialEnd | None
    ) -> FrozenTrial:
        known = self._told.get(number)
        if known is not None and known[0] == end:
            return known[1]
        outcome: dict[str, Any] = {"state": TrialState.RUNNING}
        if end is not None:
            outcome = self._to_outcome(suggestion, end)
        trial = create_trial(
            params=_to_optuna(suggestion.params),
            distributions={n: to_distribution(domain) for n, domain in self.stage.space.items()},
            system_attrs=dict(suggestion.system),
            **outcome,
        )
        if end is not None:
            self._told[number] = end, trial
        return trial

    def _to_outcome(self, suggestion: Suggestion, end: TrialEnd) -> dict[str, Any]:
        stage, metrics = self.stage, end.best_metrics
        n_unsupervised = self.context.count_unsupervised(suggestion.params)
        found = to_outcome(stage, end.outcome, metrics, n_unsupervised)
        if end.outcome == "stopped" and len(stage.objectives) == 1:
            # Optuna takes values of an unfinished trial only if there is one objective.
            value = metrics.get(next(iter(stage.objectives)), math.nan)
            seen = {"intermediate_values": {end.epoch: value}} if math.isfinite(value) else {}
            return {**found, **seen}
        return found
