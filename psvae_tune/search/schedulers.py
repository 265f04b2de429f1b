"""Early stopping: schedulers that compare trials only after the annealing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from psvae_tune.config.metric_catalog import Goal, end_problem, sign
from psvae_tune.config.scheduler import Asha
from psvae_tune.config.selection_rule import total_shortfall
from psvae_tune.metrics.pareto import best_first, non_dominated
from psvae_tune.search.progress import from_result
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trial_spec import StageContext, TrialSpec

OnRung = Callable[[str, int, list[float]], None]
"""Takes a trial's identity, an epoch, and the values that the trial has there."""
Shortfall = Callable[[Any, Mapping[str, float]], float]
"""Takes a trial of Ray Tune and its metrics; returns the sum of what its requirements lack."""


def first_rung(grace_period: int | str, n_anneal_epochs: int) -> int:
    """Return the first epoch at which trials may be compared."""
    return max(n_anneal_epochs if grace_period == "anneal_end" else int(grace_period), 1)


def rungs(asha: Asha, n_anneal_epochs: int, max_n_epochs: int) -> list[int]:
    r"""Return the epochs at which trials are compared, none in the annealing or at the end.

    .. math:: r_k = g \eta^k < n_{epochs}
    """
    epochs: list[int] = []
    rung = float(first_rung(asha.grace_period, n_anneal_epochs))
    while round(rung) < max_n_epochs:
        epochs.append(round(rung))
        rung *= asha.reduction_factor
    return epochs


class ParetoAsha(FIFOScheduler):
    """Asynchronous successive halving for one or several objectives.

    At each rung a trial goes on if it is among the best 1/η of the trials that have reached the
    rung so far, or if none of them dominates it. If two trials are each better in something, only
    chance could stop one of them, and it may be the one that the stage is going to choose.

    Trials are ordered by non-domination, within a front by the spread they give it; with one
    objective that is the order of its values. Trials that miss a requirement of their stage come
    after all others, because a model that has given up its latents has beautifully independent
    ones. They do not belong to the front, and neither do trials that lack an objective, because
    they cannot be chosen.

    Parameters
    ----------
    objectives
        Keys of reported metrics, and which way is better.
    shortfall
        Sum of what a trial lacks of its requirements.
    rung_epochs
        Epochs at which trials are compared, ascending.
    reduction_factor
        η.
    seen
        Values from earlier runs of the study: {rung: {trial: values}}, the shortfall first.
    on_rung
        Called with the trial, the rung and its values before the decision, to keep them.

    References
    ----------
    Li et al. (2020), A system for massively parallel hyperparameter tuning, MLSys.
    Deb et al. (2002), A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE TEC.
    """

    def __init__(
        self,
        objectives: Mapping[str, Goal],
        shortfall: Shortfall,
        rung_epochs: list[int],
        reduction_factor: float,
        seen: Mapping[int, Mapping[str, list[float]]],
        on_rung: OnRung,
    ) -> None:
        super().__init__()
        self._objectives = dict(objectives)
        self._shortfall = shortfall
        self._factor = reduction_factor
        self._table = {rung: dict(seen.get(rung, {})) for rung in rung_epochs}
        self._on_rung = on_rung

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial goes on."""
        report = from_result(result)
        if report.is_finished or report.failure:
            return str(TrialScheduler.CONTINUE)
        for rung in sorted(self._table):
            if rung <= report.epoch and report.trial_id not in self._table[rung]:
                metrics = report.best_metrics
                costs = (self._cost(metrics, key) for key in self._objectives)
                values = [self._shortfall(trial, metrics), *costs]
                self._table[rung][report.trial_id] = values
                self._on_rung(report.trial_id, rung, values)
        is_good = self.goes_on(report.trial_id)
        return str(TrialScheduler.CONTINUE if is_good else TrialScheduler.STOP)

    def _cost(self, metrics: Mapping[str, float], key: str) -> float:
        """Return a value of which less is better; a value that is missing is worst."""
        value = metrics.get(key, np.nan)
        return sign(self._objectives[key]) * value if np.isfinite(value) else np.inf

    def goes_on(self, trial_id: str) -> bool:
        """Return whether a trial is good enough at the last rung it has reached."""
        reached = [rung for rung in self._table if trial_id in self._table[rung]]
        if not reached:
            return True
        table = self._table[max(reached)]
        values = np.array(list(table.values()))
        shortfalls, costs = values[:, 0], values[:, 1:]
        best = best_first(costs, shortfalls)[: int(np.ceil(len(table) / self._factor))]
        # A trial that lacks a value can be best in the others, but nothing will choose it.
        can_win = np.flatnonzero((shortfalls <= 0) & np.isfinite(costs).all(axis=1))
        front = can_win[non_dominated(costs[can_win])]
        return list(table).index(trial_id) in {*best, *front}


class MedianStop(FIFOScheduler):
    """Median stopping rule for one objective.

    A trial is stopped at an epoch if its best value so far is worse than the median of the other
    trials' means up to that epoch. Epochs of the annealing do not count. Unlike Ray's rule, this
    one remembers trials of earlier runs of the study, and never pauses a trial.

    Parameters
    ----------
    objective
        Key of a reported metric.
    goal
        Which way it is better.
    grace
        First epoch that counts.
    min_trials
        Number of other trials that must have reached the epoch.
    seen
        Values from earlier runs of the study: {epoch: {trial: [value]}}.
    on_rung
        Called with the trial, the epoch and its value before the decision, to be kept.

    References
    ----------
    Golovin et al. (2017), Google Vizier: a service for black-box optimization, KDD.
    """

    def __init__(
        self,
        objective: str,
        goal: Goal,
        grace: int,
        min_trials: int,
        seen: Mapping[int, Mapping[str, list[float]]],
        on_rung: OnRung,
    ) -> None:
        super().__init__()
        self._objective = objective
        self._better = min if goal == "min" else max
        self._grace = grace
        self._min_trials = min_trials
        self._on_rung = on_rung
        self._values: dict[str, dict[int, float]] = {}
        for epoch, values in seen.items():
            for trial_id, (value,) in values.items():
                self._values.setdefault(trial_id, {})[epoch] = value

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial goes on."""
        report = from_result(result)
        trial_id, epoch = report.trial_id, report.epoch
        if report.is_finished or report.failure or epoch < self._grace:
            return str(TrialScheduler.CONTINUE)
        if epoch <= max(self._values.get(trial_id, {}), default=-1):
            return str(TrialScheduler.CONTINUE)  # an epoch that is trained again after a crash
        value = report.best_metrics[self._objective]
        self._on_rung(trial_id, epoch, [value])
        self._values.setdefault(trial_id, {})[epoch] = value
        is_good = self._goes_on(trial_id, epoch)
        return str(TrialScheduler.CONTINUE if is_good else TrialScheduler.STOP)

    def _goes_on(self, trial_id: str, epoch: int) -> bool:
        """Return whether a trial's best value is no worse than the median of the others' means."""
        others = [
            [value for at, value in values.items() if at <= epoch]
            for other, values in self._values.items()
            if other != trial_id and max(values) >= epoch
        ]
        means = [mean for values in others if values and np.isfinite(mean := np.mean(values))]
        if len(means) < self._min_trials:
            return True
        best = self._better(self._values[trial_id].values())
        return bool(self._better(np.median(means), best) == best)


def make_scheduler(
    context: StageContext, specs: Sequence[TrialSpec], journal: StageJournal
) -> TrialScheduler | None:
    """Return the scheduler that stops the trials of a stage early; None for none.

    Parameters
    ----------
    context
        The stage.
    specs
        Its trials; empty where a sampler has yet to suggest them.
    journal
        The journal of the stage: earlier runs of the study count.
    """
    stage = context.stage
    if stage.scheduler is None:
        return None
    configs = [context.base.with_params(spec.params) for spec in specs] or [
        context.base.with_params({name: value})
        for name, domain in stage.space.items()
        for value in domain.extremes
    ]
    n_anneal_epochs = max(config.model.n_anneal_epochs for config in configs)
    if (median := stage.scheduler.median_stopping) is not None:
        ((objective, goal),) = stage.objectives.items()
        grace = first_rung(median.grace_period, n_anneal_epochs)
        return MedianStop(
            objective, goal, grace, median.min_trials, journal.rungs(), journal.note_rung
        )
    asha = stage.scheduler.asha
    assert asha is not None
    n_epochs = min(config.training.max_n_epochs for config in configs)
    return ParetoAsha(
        stage.objectives,
        RequirementShortfall(context),
        rungs(asha, n_anneal_epochs, n_epochs),
        asha.reduction_factor,
        journal.rungs(),
        journal.note_rung,
    )


@dataclass(frozen=True, slots=True)
class RequirementShortfall:
    """The sum of what a running trial lacks of its stage's requirements.

    Requirements on metrics that are known only at the end of a trial do not count.
    """

    context: StageContext

    def __call__(self, trial: Any, metrics: Mapping[str, float]) -> float:
        """Return the shortfall of a trial of Ray Tune, from its best metrics so far."""
        params = TrialSpec.from_ray(trial.config).params
        known = {
            key: bound
            for key, bound in self.context.stage.requirements.items()
            if end_problem(key) is None
        }
        return total_shortfall(known, metrics, self.context.count_unsupervised(params))
