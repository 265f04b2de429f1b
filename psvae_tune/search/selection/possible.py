"""The trials that a rule could still choose, as far as an epoch that is not the last one tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from psvae_tune.config.metric_catalog import Goal, end_problem, goal_of, sign
from psvae_tune.config.selection_rule import SelectionRule
from psvae_tune.metrics.pareto import non_dominated
from psvae_tune.search.selection.ranking import tolerated

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a trial stands at an epoch."""

    shortfall: float
    """Sum of what the trial lacks of its stage's requirements; see `total_shortfall`."""
    values: Mapping[str, float]
    """Finite metrics of the best epoch so far, and hyperparameters that are numbers."""


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
    shortfalls = np.array([standing.shortfall for standing in standings])
    is_whole = np.isfinite(costs).all(axis=1) & np.isfinite(ties).all(axis=1)
    rows = np.flatnonzero(is_whole & (shortfalls <= 0))
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
            if key in standing.values:
                table[row, column] = sign(goal) * standing.values[key]
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
