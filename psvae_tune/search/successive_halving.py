"""Successive halving in which every rung is a complete but shorter training."""

import math
from collections.abc import Sequence

from psvae_tune.config.selection_rule import SelectionRule, total_shortfall
from psvae_tune.errors import StudyError
from psvae_tune.metrics.pareto import best_first
from psvae_tune.search.selection.candidates import (
    Candidate,
    gather,
    meet_requirements,
)
from psvae_tune.search.selection.ranking import costs, rank
from psvae_tune.tracking.trial_result import N_UNSUPERVISED, TrialResult


def epoch_divisors(n_trials: int, factor: float) -> list[float]:
    r"""Return the divisors of the epochs of all trainings but the full ones, shortest first.

    .. math:: \eta^k, \dots, \eta \qquad k = \lfloor \log_\eta n \rfloor

    so that about as many epochs are trained at every length.
    """
    count = math.floor(math.log(n_trials, factor) + 1e-9)
    return [factor**k for k in range(count, 0, -1)]


def count_survivors(n_trials: int, factor: float, rule: SelectionRule, n_seeds: int) -> int:
    """Return the largest number of trainings that `select_survivors` may return.

    Parameters
    ----------
    n_trials
        Number of trainings at this length.
    factor
        Factor by which fewer trainings continue.
    rule
        Rule of the stage.
    n_seeds
        Largest number of trainings that differ in their seed alone.
    """
    n_kept = math.ceil(n_trials / factor)
    n_ends = 2 if rule.knee is not None else 2 * len(rule.chebyshev or ())
    n_settings = 1 + n_ends if n_kept > 1 else 1
    return min(max(n_kept + n_seeds - 1, n_settings * n_seeds), n_trials)


def select_survivors(
    trials: Sequence[TrialResult], rule: SelectionRule, factor: float
) -> list[int]:
    """Return the indices of the trainings that continue at the next length.

    The rule of the stage orders the settings. The first ones continue, with all their seeds, until
    there are as many trainings as one in ``factor``. So if longer trainings keep the order of the
    shorter ones, the stage chooses what it would have chosen with all of them.

    Parameters
    ----------
    trials
        Results of the trainings at this length.
    rule
        Rule of the stage.
    factor
        Factor by which fewer trainings continue.
    """
    n_kept = math.ceil(len(trials) / factor)
    rows = {trial.trial_id: row for row, trial in enumerate(trials)}
    order, n_needed = _order(trials, rule)
    kept: list[int] = []
    for place, candidate in enumerate(order):
        if len(kept) < n_kept or (n_kept > 1 and place < n_needed):
            kept += [rows[trial.trial_id] for trial in candidate.trials]
    left = [row for row in rows.values() if row not in kept]
    left.sort(key=lambda row: (not trials[row].completed, _total_shortfall(trials[row], rule)))
    return sorted([*kept, *left[: max(n_kept - len(kept), 0)]])


def _order(trials: Sequence[TrialResult], rule: SelectionRule) -> tuple[list[Candidate], int]:
    """Return the settings that a rule could choose, and the number of them that it needs.

    The first one is its choice. A knee, and distances from the best, are measured between the
    ends of the front, which come next and are needed. All others follow, best first.
    """
    try:
        pool = gather(trials, rule.metrics)
        eligible = meet_requirements(pool.candidates, rule.require)
    except StudyError:  # the rule can choose none
        return [], 0
    try:
        ranked = list(rank(eligible, rule, pool.spread).order)
    except StudyError:  # no setting has two seeds yet, by which the rule measures its tolerance
        ranked = [eligible[row] for row in best_first(costs(eligible, rule.objectives))]
    ends: list[Candidate] = []
    if rule.knee is not None or rule.chebyshev is not None:
        table = costs(ranked, rule.objectives)
        ends = [ranked[row] for row in {*table.argmin(axis=0), *table.argmax(axis=0)}]
    names = {one.identity for one in ranked}
    behind = [one for one in eligible if one.identity not in names]
    if behind:
        behind = [behind[row] for row in best_first(costs(behind, rule.objectives))]
    order = {one.identity: one for one in [ranked[0], *ends, *ranked, *behind]}
    return list(order.values()), len({one.identity for one in [ranked[0], *ends]})


def _total_shortfall(trial: TrialResult, rule: SelectionRule) -> float:
    n_unsupervised = trial.params.get(N_UNSUPERVISED, 0)
    assert isinstance(n_unsupervised, int)
    return total_shortfall(rule.require, trial.metrics, n_unsupervised)
