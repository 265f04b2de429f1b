"""Successive halving in which every rung is a complete training, only a shorter one."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from psvae_tune.config.metric_catalog import Goal
from psvae_tune.metrics.pareto import best_first
from psvae_tune.search.stage_journal import TrialEnd


def epoch_divisors(n_points: int, factor: float) -> list[float]:
    r"""Return by how much the trainings before the full ones are shortened, longest last.

    .. math:: \eta^k, \dots, \eta \qquad k = \lfloor \log_\eta n \rfloor

    so that about as many epochs are trained at every length.
    """
    count = math.floor(math.log(n_points, factor) + 1e-9)
    return [factor**k for k in range(count, 0, -1)]


def select_survivors(
    ends: Sequence[TrialEnd],
    objectives: Mapping[str, Goal],
    factor: float,
    missed: Sequence[float],
) -> list[int]:
    """Return which trainings are continued at the next length: the best 1/factor, in order.

    Parameters
    ----------
    ends
        How each ended. One that did not finish, or lacks a value, is behind all others.
    objectives
        What they are ordered by: non-domination, then the spread within a front.
    factor
        How many times fewer go on.
    missed
        By how much each misses what its stage requires; one that misses nothing is before all
        that do.
    """
    signs = [1 if goal == "min" else -1 for goal in objectives.values()]
    costs = np.full((len(ends), len(objectives)), np.inf)
    for row, end in enumerate(ends):
        values = np.array([end.best_metrics.get(key, np.nan) for key in objectives], float)
        if end.is_finished and np.isfinite(values).all():
            costs[row] = signs * values
    n_kept = math.ceil(len(ends) / factor)
    return sorted(best_first(costs, np.array(missed))[:n_kept].tolist())
