"""Early stopping: schedulers that compare trials only after the annealing."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from psvae_tune.config.scheduler import first_rung, rungs
from psvae_tune.config.stage import Stage
from psvae_tune.config.stage_settings import max_anneal_epochs, max_trial_epochs
from psvae_tune.metrics.pareto import best_first, non_dominated
from psvae_tune.search.progress import TrialReport, from_result
from psvae_tune.search.selection.possible import (
    EPOCH,
    Standing,
    cost_table,
    could_be_chosen,
    prospect,
    shortfalls,
)
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trial_spec import StageContext, TrialSpec
from psvae_tune.tracking.trial_result import N_UNSUPERVISED

OnStanding = Callable[[str, int, Standing], None]
"""Takes a trial's identity, an epoch, and where the trial stands there."""
Stand = Callable[[Any, TrialReport], Standing]
"""Takes a trial of Ray Tune and its report; returns where it stands."""


class _RungScheduler(FIFOScheduler, ABC):
    """Keeps where trials stand at rungs, and stops those that fall behind there.

    A trial is compared as it would stand at its end if it went on at its pace, with others as they
    stand: one that learns late is not stopped while it catches up. A trial that the rule of the
    stage could still choose is never stopped.

    Parameters
    ----------
    stage
        Objectives to compare by, and the rule.
    stand
        Tells where a trial stands.
    seen
        Where trials stood in earlier runs of the study: {epoch: {trial: standing}}.
    on_standing
        Called with the trial, the epoch and its standing before the decision, to keep them.
    n_epochs
        Number of epochs of every trial.
    """

    def __init__(
        self,
        stage: Stage,
        stand: Stand,
        seen: Mapping[int, Mapping[str, Standing]],
        on_standing: OnStanding,
        n_epochs: int,
    ) -> None:
        super().__init__()
        self._objectives = stage.objectives
        self._rule = stage.select
        self._stand = stand
        self._on_standing = on_standing
        self._n_epochs = n_epochs
        self._table = {epoch: dict(standings) for epoch, standings in seen.items()}
        self._last_epochs: dict[str, int] = {}
        """The epoch of the last report of each trial since this scheduler was made."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial goes on."""
        report = from_result(result)
        if report.is_finished or report.failure:
            return str(TrialScheduler.CONTINUE)
        mark = self._new_mark(report)
        if mark is not None:
            standing = self._stand(trial, report)
            self._table.setdefault(mark, {})[report.trial_id] = standing
            self._on_standing(report.trial_id, mark, standing)
        # Past a rung, what the trial was there says less and less of what it is. After a crash the
        # decision of the last rung is made again, because it may not have been carried out.
        rung = max((m for m in self._epochs_of(report.trial_id) if self._is_rung(m)), default=0)
        is_due = rung > self._last_epochs.get(report.trial_id, 0)
        self._last_epochs[report.trial_id] = report.epoch
        is_good = not is_due or self.goes_on(report.trial_id, rung)
        return str(TrialScheduler.CONTINUE if is_good else TrialScheduler.STOP)

    def goes_on(self, trial_id: str, rung: int) -> bool:
        """Return whether a trial is good enough at a rung that it has reached."""
        own = self._prospect(trial_id, rung)
        if own is None:
            return True
        standings = {**self._table[rung], trial_id: own}
        row = list(standings).index(trial_id)
        possible = could_be_chosen(list(standings.values()), self._rule)
        return bool(possible[row]) or self._is_good(trial_id, rung, standings)

    def _epochs_of(self, trial_id: str) -> list[int]:
        return [epoch for epoch, standings in self._table.items() if trial_id in standings]

    def _prospect(self, trial_id: str, rung: int) -> Standing | None:
        """Return where a trial might stand at its end; None if its pace is not known."""
        now = self._table[rung][trial_id]
        if now[EPOCH] >= self._n_epochs:
            return now
        earlier = [mark for mark in self._epochs_of(trial_id) if 2 * mark <= rung]
        if not earlier:
            return None
        return prospect(self._table[max(earlier)][trial_id], now, self._n_epochs)

    @abstractmethod
    def _new_mark(self, report: TrialReport) -> int | None:
        """Return the epoch as which a trial is seen now; None if it is not to be seen."""

    @abstractmethod
    def _is_rung(self, epoch: int) -> bool:
        """Return whether trials are compared at an epoch where they are seen."""

    @abstractmethod
    def _is_good(self, trial_id: str, rung: int, standings: Mapping[str, Standing]) -> bool:
        """Return whether a trial is among those at a rung that go on anyway."""


class ParetoAsha(_RungScheduler):
    """Asynchronous successive halving for one or several objectives.

    At each rung a trial goes on if it is among the best 1/η of the trials that have reached the
    rung so far, if none of them dominates it, or if the rule of the stage could still choose it.
    If two trials are each better in something, only chance could stop one of them.

    Trials are ordered by non-domination, within a front by the spread they give it; with one
    objective that is the order of its values. Trials that miss a requirement of their stage come
    after all others, because the few latents of a model that has given up the others are easily
    independent. They do not belong to the front, and neither do trials that lack an objective,
    because they cannot be chosen.

    Parameters
    ----------
    stage, stand, seen, on_standing, n_epochs
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
        on_standing: OnStanding,
        n_epochs: int,
        rung_epochs: Sequence[int],
        reduction_factor: float,
    ) -> None:
        super().__init__(stage, stand, seen, on_standing, n_epochs)
        self._rungs = rung_epochs
        self._factor = reduction_factor
        self._marks = {*rung_epochs, *(rung // 2 for rung in rung_epochs)}

    def _new_mark(self, report: TrialReport) -> int | None:
        # Where validations are rare, one may be the first behind several marks.
        mark = max((mark for mark in self._marks if mark <= report.epoch), default=0)
        is_new = mark > max(self._epochs_of(report.trial_id), default=0)
        return mark if is_new else None

    def _is_rung(self, epoch: int) -> bool:
        return epoch in self._rungs

    def _is_good(self, trial_id: str, rung: int, standings: Mapping[str, Standing]) -> bool:
        costs = cost_table(list(standings.values()), self._objectives)
        missed = shortfalls(list(standings.values()), self._rule)
        best = best_first(costs, missed)[: math.ceil(len(standings) / self._factor)]
        # A trial that lacks a value can be best in the others, but nothing will choose it.
        can_win = np.flatnonzero((missed <= 0) & np.isfinite(costs).all(axis=1))
        front = can_win[non_dominated(costs[can_win])]
        return list(standings).index(trial_id) in {*best, *front}


class MedianStop(_RungScheduler):
    """Median stopping rule for one objective.

    A trial is stopped at an epoch if its best value is worse than the median of the other trials'
    means up to that epoch, unless the rule of the stage could still choose it. Epochs of the
    annealing do not count. Unlike Ray's rule, this one remembers trials of earlier runs of the
    study, and never pauses a trial.

    Parameters
    ----------
    stage, stand, seen, on_standing, n_epochs
        As for every scheduler with rungs.
    grace
        First epoch that counts; from then on every epoch is a rung.
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
        on_standing: OnStanding,
        n_epochs: int,
        grace: int,
        min_trials: int,
    ) -> None:
        super().__init__(stage, stand, seen, on_standing, n_epochs)
        self._grace = grace
        self._min_trials = min_trials

    def _new_mark(self, report: TrialReport) -> int | None:
        last = max(self._epochs_of(report.trial_id), default=0)
        # An epoch that is trained again after a crash is not new.
        is_new = report.epoch > last and 2 * report.epoch >= self._grace
        return report.epoch if is_new else None

    def _is_rung(self, epoch: int) -> bool:
        return epoch >= self._grace

    def _is_good(self, trial_id: str, rung: int, standings: Mapping[str, Standing]) -> bool:
        """Return whether a trial's best value is no worse than the median of the others' means."""
        costs = self._costs()
        others = [
            [cost for epoch, cost in costs[other].items() if epoch <= rung]
            for other in costs
            if other != trial_id and max(costs[other]) >= rung
        ]
        means = [mean for seen in others if seen and math.isfinite(mean := np.mean(seen))]
        if len(means) < self._min_trials:
            return True
        hoped = float(cost_table([standings[trial_id]], self._objectives)[0, 0])
        return bool(min(hoped, *costs[trial_id].values()) <= np.median(means))

    def _costs(self) -> dict[str, dict[int, float]]:
        """Return the objective of each trial at each epoch that counts; less is better."""
        found: dict[str, dict[int, float]] = {}
        for epoch, standings in self._table.items():
            if self._is_rung(epoch):
                costs = cost_table(list(standings.values()), self._objectives)[:, 0]
                for trial_id, cost in zip(standings, costs, strict=True):
                    found.setdefault(trial_id, {})[epoch] = float(cost)
        return found


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
    n_anneal_epochs = max_anneal_epochs(stage, context.base)
    n_epochs = max_trial_epochs(stage, context.base)
    given = (stage, StageStand(context), journal.standings(), journal.note_standing, n_epochs)
    if (median := stage.scheduler.median_stopping) is not None:
        grace = first_rung(median.grace_period, n_anneal_epochs, n_epochs)
        return MedianStop(*given, grace, median.min_trials)
    asha = stage.scheduler.asha
    assert asha is not None
    return ParetoAsha(*given, rungs(asha, n_anneal_epochs, n_epochs), asha.reduction_factor)


@dataclass(frozen=True, slots=True)
class StageStand:
    """Reads from a report what the rule of a stage compares."""

    context: StageContext

    def __call__(self, trial: Any, report: TrialReport) -> Standing:
        """Return where a trial of Ray Tune stands."""
        stage, params = self.context.stage, TrialSpec.from_ray(trial.config).params
        compared = {*stage.objectives, *stage.select.metrics, *stage.select.then}
        known = {**report.best_metrics, **params}
        values = {key: known[key] for key in compared & known.keys() if math.isfinite(known[key])}
        n_unsupervised = self.context.count_unsupervised(params)
        return values | {N_UNSUPERVISED: n_unsupervised, EPOCH: report.epoch}
