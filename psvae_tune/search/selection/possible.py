"""Find the trials that a rule could still choose, as far as an epoch before the last one tells."""

from collections.abc import Mapping, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from psvae_tune.config.metric_catalog import Goal, goal_of, is_metric, sign
from psvae_tune.config.metric_check import end_problem
from psvae_tune.config.selection_rule import SelectionRule, total_shortfall
from psvae_tune.metrics.pareto import non_dominated
from psvae_tune.search.selection.ranking import tolerated
from psvae_tune.tracking.trial_result import N_UNSUPERVISED

Table = NDArray[np.float64]
Standing = Mapping[str, float]
"""Where a trial stands: the finite metrics of its best epoch, hyperparameters that are numbers,
`N_UNSUPERVISED`, and under `EPOCH` the number of epochs that were trained."""
EPOCH = "epoch"


def prospect(before: Standing, now: Standing, n_epochs: int) -> Standing | None:
    r"""Return where a trial would stand at its end if it went on at its pace.

    Each metric gains with every doubling of the epochs what it gained with the last one,

    .. math:: v_{end} = v + \frac{v - v_{before}}{d} d_{left}

    with :math:`d` doublings since ``before`` and :math:`d_{left}` until the end. Learning slows
    down, so that a trial seldom does better. A metric that became worse stays as it is.

    Parameters
    ----------
    before, now
        Standings of the trial at two epochs.
    n_epochs
        Number of epochs at its end.

    Returns
    -------
    Standing or None
        None if it has no pace in some metric, which it did not have before.
    """
    values = dict(now)
    n_doublings = np.log2(now[EPOCH] / before[EPOCH])
    n_left = np.log2(n_epochs / now[EPOCH])
    for key, value in now.items():
        if is_metric(key):
            if key not in before:
                return None
            toward = sign(goal_of(key))
            gain = max(toward * (before[key] - value), 0.0)
            values[key] = float(value - toward * gain * n_left / n_doublings)
    return values


def shortfalls(standings: Sequence[Standing], rule: SelectionRule) -> Table:
    """Return the sum of what each trial lacks of the requirements that are known by now."""
    known = {key: bound for key, bound in rule.require.items() if end_problem(key) is None}
    return np.array(
        [total_shortfall(known, one, int(one.get(N_UNSUPERVISED, 0))) for one in standings]
    )


def could_be_chosen(standings: Sequence[Standing], rule: SelectionRule) -> NDArray[np.bool_]:
    """Return which trials a rule could choose if all trials ended as they stand.

    More trials may come. A trial is left out only if no trial that comes can make the rule choose
    it: another one beats it in whatever the rule compares, or it misses a requirement.

    Parameters
    ----------
    standings
        One a trial, all at the same epoch.
    rule
        Rule of the stage. Metrics in its ``then`` that are known only at the end of a trial may
        turn out either way.

    Returns
    -------
    NDArray
        (trial,)
    """
    objectives = {key: goal_of(key) for key in rule.objectives}
    known_now = takewhile(lambda item: end_problem(item[0]) is None, rule.then.items())
    costs, ties = (cost_table(standings, goals) for goals in (objectives, dict(known_now)))
    is_whole = np.isfinite(costs).all(axis=1) & np.isfinite(ties).all(axis=1)
    rows = np.flatnonzero(is_whole & (shortfalls(standings, rule) <= 0))
    found = np.zeros(len(standings), dtype=bool)
    if len(rows):
        found[rows] = _unbeaten(costs[rows], ties[rows], rule)
    return found


def cost_table(standings: Sequence[Standing], goals: Mapping[str, Goal]) -> Table:
    """Return the (trial, key) table of values with signs that make less the better.

    A value that a trial lacks is infinite.
    """
    table = np.full((len(standings), len(goals)), np.inf)
    for row, standing in enumerate(standings):
        for column, (key, goal) in enumerate(goals.items()):
            if key in standing:
                table[row, column] = sign(goal) * standing[key]
    return table


def _unbeaten(costs: Table, ties: Table, rule: SelectionRule) -> NDArray[np.bool_]:
    if rule.within is None:
        return non_dominated(costs)
    cost = costs[:, 0]
    found = np.ones(len(cost), dtype=bool)
    if rule.within.tolerance != "one_standard_error":
        best = cost.min()
        found = cost <= tolerated(best, rule.within.tolerance * abs(best))
    # Who comes before another in `then`, and is no worse, is inside whenever the other is.
    place = np.unique(ties, axis=0, return_inverse=True)[1].reshape(-1)
    for row in np.flatnonzero(found):
        found[row] = not (cost[place < place[row]] <= cost[row]).any()
    return found
