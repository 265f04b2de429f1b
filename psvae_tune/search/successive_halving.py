"""Successive halving in which every rung is a complete but shorter training."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from psvae_tune.config.metric_catalog import Goal, sign
from psvae_tune.metrics.pareto import best_first
from psvae_tune.search.stage_journal import TrialEnd


def epoch_divisors(n_trials: int, factor: float) -> list[float]:
    r"""Return the divisors of the epochs of all trainings but the full ones, shortest first.

    .. math:: \eta^k, \dots, \eta \qquad k = \lfloor \log_\eta n \rfloor

    so that about as many epochs are trained at every length.
    """
    count = math.floor(math.log(n_trials, factor) + 1e-9)
    return [factor**k for k in range(count, 0, -1)]


def select_survivors(
    ends: Sequence[TrialEnd],
    objectives: Mapping[str, Goal],
    factor: float,
    shortfalls: Sequence[float],
) -> list[int]:
    """Return the indices of the trainings that continue at the next length: the best 1/factor.

    Parameters
    ----------
    ends
        The end of each training. One that did not finish, or lacks a value, is behind all others.
    objectives
        Metrics to order by: non-domination, then the spread within a front.
    factor
        Factor by which fewer trainings continue.
    shortfalls
        Sum of what each training lacks of its stage's requirements. A training that lacks
        nothing comes before all that lack something.
    """
    signs = [sign(goal) for goal in objectives.values()]
    costs = np.full((len(ends), len(objectives)), np.inf)
    for row, end in enumerate(ends):
        values = np.array([end.best_metrics.get(key, np.nan) for key in objectives], float)
        if end.is_finished and np.isfinite(values).all():
            costs[row] = signs * values
    n_kept = math.ceil(len(ends) / factor)
    return sorted(best_first(costs, np.array(shortfalls))[:n_kept].tolist())
