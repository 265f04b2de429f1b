"""Early stopping that compares only what can be compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from psvae_tune.config.metric_catalog import Goal, end_problem
from psvae_tune.config.scheduler import Asha
from psvae_tune.config.selection_rule import total_shortfall
from psvae_tune.config.stage import Stage
from psvae_tune.config.trial import TrialConfig
from psvae_tune.metrics.pareto import best_first, non_dominated
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trainable import TrialContext
from psvae_tune.search.trial_spec import TrialSpec

OnRung = Callable[[str, int, list[float]], None]
Missed = Callable[[Any, Mapping[str, float]], float]


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

    At each rung a trial goes on if it is among the best 1/η of those that have reached the rung
    so far, or if none of them dominates it: of two trials, neither of which is better than the
    other, chance would stop the one that the stage is going to choose. Trials are ordered by
    non-domination, within a front by the spread they give it; with one objective that is the order
    of its values. Trials that miss what their stage requires are behind all others: a model that
    has given its latents up has beautifully independent ones. The front is of those that could be
    chosen, so not of these, and not of trials that lack an objective.

    Parameters
    ----------
    objectives
        Keys of reported metrics, and which way is better.
    missed
        Tells by how much a trial of Ray Tune, with its reported metrics, misses what is required.
    rung_epochs
        Epochs at which trials are compared, ascending.
    reduction_factor
        η.
    seen
        What earlier runs of the study had at each rung: {rung: {trial: values}}, the first
        value being what was missed.
    on_rung
        Called with the trial, the rung and its values before the decision, to be kept.

    References
    ----------
    Li et al. (2020), A system for massively parallel hyperparameter tuning, MLSys.
    Deb et al. (2002), A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE TEC.
    """

    def __init__(
        self,
        objectives: Mapping[str, Goal],
        missed: Missed,
        rung_epochs: list[int],
        reduction_factor: float,
        seen: Mapping[int, Mapping[str, list[float]]],
        on_rung: OnRung,
    ) -> None:
        super().__init__()
        self._objectives = dict(objectives)
        self._missed = missed
        self._factor = reduction_factor
        self._table = {rung: dict(seen.get(rung, {})) for rung in rung_epochs}
        self._on_rung = on_rung

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial goes on."""
        if result["is_finished"] or result["failure"]:
            return str(TrialScheduler.CONTINUE)
        name = result["fingerprint"]
        for rung in sorted(self._table):
            if rung <= result["epoch"] and name not in self._table[rung]:
                costs = (self._cost(result, key) for key in self._objectives)
                values = [self._missed(trial, result), *costs]
                self._table[rung][name] = values
                self._on_rung(name, rung, values)
        return str(TrialScheduler.CONTINUE if self.goes_on(name) else TrialScheduler.STOP)

    def _cost(self, result: Mapping[str, Any], key: str) -> float:
        """Return a value of which less is better; what a trial lacks is worst."""
        value = float(result.get(key, np.nan))
        sign = 1 if self._objectives[key] == "min" else -1
        return sign * value if np.isfinite(value) else np.inf

    def goes_on(self, name: str) -> bool:
        """Return whether a trial is good enough at the last rung it has reached."""
        reached = [rung for rung in self._table if name in self._table[rung]]
        if not reached:
            return True
        table = self._table[max(reached)]
        values = np.array(list(table.values()))
        missed, points = values[:, 0], values[:, 1:]
        best = best_first(points, missed)[: int(np.ceil(len(table) / self._factor))]
        # A trial that lacks a value can be best in the others, but nothing will choose it.
        can_win = np.flatnonzero((missed <= 0) & np.isfinite(points).all(axis=1))
        front = can_win[non_dominated(points[can_win])]
        return list(table).index(name) in {*best, *front}


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
            for name, (value,) in values.items():
                self._values.setdefault(name, {})[epoch] = value

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial goes on."""
        name, epoch = result["fingerprint"], result["epoch"]
        if result["is_finished"] or result["failure"] or epoch < self._grace:
            return str(TrialScheduler.CONTINUE)
        if epoch <= max(self._values.get(name, {}), default=-1):
            return str(TrialScheduler.CONTINUE)  # an epoch that is trained again after a crash
        value = float(result[self._objective])
        self._on_rung(name, epoch, [value])
        self._values.setdefault(name, {})[epoch] = value
        goes_on = self._goes_on(name, epoch)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def _goes_on(self, name: str, epoch: int) -> bool:
        """Return whether a trial's best value is no worse than the median of the others' means."""
        others = [
            [value for at, value in values.items() if at <= epoch]
            for other, values in self._values.items()
            if other != name and max(values) >= epoch
        ]
        means = [mean for values in others if values and np.isfinite(mean := np.mean(values))]
        if len(means) < self._min_trials:
            return True
        best = self._better(self._values[name].values())
        return bool(self._better(np.median(means), best) == best)


def make_scheduler(
    stage: Stage,
    job: TrialContext,
    points: Sequence[TrialSpec],
    record: StageJournal,
    n_labels: int,
) -> TrialScheduler | None:
    """Return what stops the trials of a stage early; ``points`` are empty if yet unknown."""
    if stage.scheduler is None:
        return None
    configs = [job.base.with_params(point.params) for point in points] or [
        job.base.with_params({name: corner})
        for name, domain in stage.space.items()
        for corner in domain.extremes
    ]
    n_anneal_epochs = max(config.model.n_anneal_epochs for config in configs)
    if (median := stage.scheduler.median_stopping) is not None:
        ((objective, goal),) = stage.objectives.items()
        grace = first_rung(median.grace_period, n_anneal_epochs)
        return MedianStop(
            objective, goal, grace, median.min_trials, record.rungs(), record.note_rung
        )
    asha = stage.scheduler.asha
    assert asha is not None
    n_epochs = min(config.training.max_n_epochs for config in configs)
    return ParetoAsha(
        stage.objectives,
        RequirementShortfall(stage, job.base, n_labels),
        rungs(asha, n_anneal_epochs, n_epochs),
        asha.reduction_factor,
        record.rungs(),
        record.note_rung,
    )


@dataclass(frozen=True, slots=True)
class RequirementShortfall:
    """By how much a running trial misses what its stage requires, as far as that is known."""

    stage: Stage
    base: TrialConfig
    n_labels: int

    def __call__(self, trial: Any, metrics: Mapping[str, float]) -> float:
        """Return the sum of what a trial's latest metrics lack."""
        model = self.base.with_params(trial.config["point"]["params"]).model
        known = {
            key: bound
            for key, bound in self.stage.requirements.items()
            if end_problem(key) is None
        }
        return total_shortfall(known, metrics, model.count_unsupervised(self.n_labels))
