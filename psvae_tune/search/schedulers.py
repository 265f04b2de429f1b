"""Early stopping: schedulers that compare trials only after the annealing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from psvae_tune.config.metric_catalog import end_problem
from psvae_tune.config.scheduler import first_rung, rungs
from psvae_tune.config.selection_rule import total_shortfall
from psvae_tune.config.stage import Stage
from psvae_tune.config.stage_settings import epochs_around_rungs
from psvae_tune.metrics.pareto import best_first, non_dominated
from psvae_tune.search.progress import TrialReport, from_result
from psvae_tune.search.selection.possible import Standing, cost_table, could_be_chosen
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trial_spec import StageContext, TrialSpec

OnRung = Callable[[str, int, Standing], None]
"""Takes a trial's identity, an epoch, and where the trial stands there."""
Stand = Callable[[Any, Mapping[str, float]], Standing]
"""Takes a trial of Ray Tune and its best metrics so far; returns where it stands."""


class _RungScheduler(FIFOScheduler):
    """Keeps where trials stand at rungs, and stops those that fall behind there.

    A trial that the rule of the stage could still choose is never stopped.

    Parameters
    ----------
    stage
        Objectives to compare by, and the rule.
    stand
        Tells where a trial stands.
    seen
        Where trials stood in earlier runs of the study: {epoch: {trial: standing}}.
    on_rung
        Called with the trial, the rung and its standing before the decision, to keep them.
    """

    def __init__(
        self,
        stage: Stage,
        stand: Stand,
        seen: Mapping[int, Mapping[str, Standing]],
        on_rung: OnRung,
    ) -> None:
        super().__init__()
        self._objectives = stage.objectives
        self._rule = stage.select
        self._stand = stand
        self._on_rung = on_rung
        self._table: dict[int, dict[str, Standing]] = {}
        for rung, standings in seen.items():
            for trial_id, standing in standings.items():
                self._enter(trial_id, rung, standing)

    def _enter(self, trial_id: str, rung: int, standing: Standing) -> None:
        self._table.setdefault(rung, {})[trial_id] = standing

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial goes on."""
        report = from_result(result)
        if report.is_finished or report.failure:
            return str(TrialScheduler.CONTINUE)
        for rung in self._new_rungs(report):
            standing = self._stand(trial, report.best_metrics)
            self._enter(report.trial_id, rung, standing)
            self._on_rung(report.trial_id, rung, standing)
        is_good = self.goes_on(report.trial_id)
        return str(TrialScheduler.CONTINUE if is_good else TrialScheduler.STOP)

    def _new_rungs(self, report: TrialReport) -> list[int]:
        """Return the rungs that a trial has reached and where it has not been seen."""
        raise NotImplementedError

    def _keeps_pace(self, trial_id: str, rung: int) -> bool:
        """Return whether a trial is among those at a rung that go on anyway."""
        raise NotImplementedError

    def goes_on(self, trial_id: str) -> bool:
        """Return whether a trial is good enough at the last rung that it has reached."""
        reached = [rung for rung, standings in self._table.items() if trial_id in standings]
        if not reached:
            return True
        rung = max(reached)
        row = list(self._table[rung]).index(trial_id)
        possible = could_be_chosen(list(self._table[rung].values()), self._rule)
        return bool(possible[row]) or self._keeps_pace(trial_id, rung)


class ParetoAsha(_RungScheduler):
    """Asynchronous successive halving for one or several objectives.

    At each rung a trial goes on if it is among the best 1/η of the trials that have reached the
    rung so far, if none of them dominates it, or if the rule of the stage could still choose it.
    If two trials are each better in something, only chance could stop one of them.

    Trials are ordered by non-domination, within a front by the spread they give it; with one
    objective that is the order of its values. Trials that miss a requirement of their stage come
    after all others, because a model that has given up its latents has beautifully independent
    ones. They do not belong to the front, and neither do trials that lack an objective, because
    they cannot be chosen.

    Parameters
    ----------
    stage, stand, seen, on_rung
        As for every scheduler with rungs.
    rung_epochs
        Epochs at which trials are compared, ascending.
    reduction_factor
        η.

    References
    ----------
    Li et al. (2020), A system for massively parallel hyperparameter tuning, MLSys.
    Deb et al. (2002), A fast and elitist multiobjective genetic algorithm: NSGA-II, IEEE TEC.
    """

    def __init__(
        self,
        stage: Stage,
        stand: Stand,
        seen: Mapping[int, Mapping[str, Standing]],
        on_rung: OnRung,
        rung_epochs: Sequence[int],
        reduction_factor: float,
    ) -> None:
        own = {rung: standings for rung, standings in seen.items() if rung in rung_epochs}
        super().__init__(stage, stand, own, on_rung)
        self._rungs = rung_epochs
        self._factor = reduction_factor

    def _new_rungs(self, report: TrialReport) -> list[int]:
        reached = [rung for rung in self._rungs if rung <= report.epoch]
        return [rung for rung in reached if report.trial_id not in self._table.get(rung, {})]

    def _keeps_pace(self, trial_id: str, rung: int) -> bool:
        table = self._table[rung]
        costs = cost_table(list(table.values()), self._objectives)
        shortfalls = np.array([standing.shortfall for standing in table.values()])
        best = best_first(costs, shortfalls)[: math.ceil(len(table) / self._factor)]
        # A trial that lacks a value can be best in the others, but nothing will choose it.
        can_win = np.flatnonzero((shortfalls <= 0) & np.isfinite(costs).all(axis=1))
        front = can_win[non_dominated(costs[can_win])]
        return list(table).index(trial_id) in {*best, *front}


class MedianStop(_RungScheduler):
    """Median stopping rule for one objective.

    A trial is stopped at an epoch if its best value so far is worse than the median of the other
    trials' means up to that epoch, unless the rule of the stage could still choose it. Epochs of
    the annealing do not count. Unlike Ray's rule, this one remembers trials of earlier runs of the
    study, and never pauses a trial.

    Parameters
    ----------
    stage, stand, seen, on_rung
        As for every scheduler with rungs. Every epoch is a rung.
    grace
        First epoch that counts.
    min_trials
        Number of other trials that must have reached the epoch.

    References
    ----------
    Golovin et al. (2017), Google Vizier: a service for black-box optimization, KDD.
    """

    def __init__(
        self,
        stage: Stage,
        stand: Stand,
        seen: Mapping[int, Mapping[str, Standing]],
        on_rung: OnRung,
        grace: int,
        min_trials: int,
    ) -> None:
        self._costs: dict[str, dict[int, float]] = {}
        super().__init__(stage, stand, seen, on_rung)
        self._grace = grace
        self._min_trials = min_trials

    def _enter(self, trial_id: str, rung: int, standing: Standing) -> None:
        super()._enter(trial_id, rung, standing)
        cost = float(cost_table([standing], self._objectives)[0, 0])
        self._costs.setdefault(trial_id, {})[rung] = cost

    def _new_rungs(self, report: TrialReport) -> list[int]:
        trial_id, epoch = report.trial_id, report.epoch
        last = max(self._costs.get(trial_id, {}), default=-1)
        # An epoch that is trained again after a crash is not new.
        return [epoch] if epoch >= self._grace and epoch > last else []

    def _keeps_pace(self, trial_id: str, rung: int) -> bool:
        """Return whether a trial's best value is no worse than the median of the others' means."""
        others = [
            [cost for at, cost in costs.items() if at <= rung]
            for other, costs in self._costs.items()
            if other != trial_id and max(costs) >= rung
        ]
        means = [mean for costs in others if costs and math.isfinite(mean := np.mean(costs))]
        if len(means) < self._min_trials:
            return True
        return bool(min(self._costs[trial_id].values()) <= np.median(means))


def make_scheduler(context: StageContext, journal: StageJournal) -> TrialScheduler | None:
    """Return the scheduler that stops the trials of a stage early; None for none.

    Parameters
    ----------
    context
        The stage.
    journal
        The journal of the stage: earlier runs of the study count.
    """
    stage = context.stage
    if stage.scheduler is None:
        return None
    n_anneal_epochs, n_epochs = epochs_around_rungs(stage, context.base)
    given = (stage, StageStand(context), journal.rungs(), journal.note_rung)
    if (median := stage.scheduler.median_stopping) is not None:
        grace = first_rung(median.grace_period, n_anneal_epochs, n_epochs)
        return MedianStop(*given, grace, median.min_trials)
    asha = stage.scheduler.asha
    assert asha is not None
    return ParetoAsha(*given, rungs(asha, n_anneal_epochs, n_epochs), asha.reduction_factor)


@dataclass(frozen=True, slots=True)
class StageStand:
    """Tells where a running trial of a stage stands.

    Requirements on metrics that are known only at the end of a trial do not count.
    """

    context: StageContext

    def __call__(self, trial: Any, metrics: Mapping[str, float]) -> Standing:
        """Return where a trial of Ray Tune stands, from its best metrics so far."""
        stage, params = self.context.stage, TrialSpec.from_ray(trial.config).params
        known = {k: bound for k, bound in stage.requirements.items() if end_problem(k) is None}
        shortfall = total_shortfall(known, metrics, self.context.count_unsupervised(params))
        compared = {*stage.objectives, *stage.select.metrics, *stage.select.then}
        values = {key: value for key, value in {**metrics, **params}.items() if key in compared}
        return Standing(shortfall, {k: v for k, v in values.items() if math.isfinite(v)})
