"""Compare points by several objectives: Pareto fronts, ranks, crowding and hypervolume.

A point is a row of an array (point, objective). All objectives are minimised; infinity stands for
a missing value, which is worse than any other. Equal points do not dominate each other, and no
result depends on the order of the points.
"""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


def non_dominated(points: Points) -> NDArray[np.bool_]:
    r"""Return which points no other point dominates.

    .. math:: a \prec b \iff \forall k: a_k \le b_k \text{ and } \exists k: a_k < b_k

    Parameters
    ----------
    points
        (point, objective)

    Returns
    -------
    NDArray
        (point,)
    """
    points = np.asarray(points, dtype=np.float64)
    assert not np.isnan(points).any(), "a point without a value cannot be compared"
    no_worse = (points[:, None] <= points[None, :]).all(axis=2)
    better = (points[:, None] < points[None, :]).any(axis=2)
    return np.asarray(~(no_worse & better).any(axis=0))


def non_dominated_rank(points: Points) -> NDArray[np.intp]:
    """Return the front of each point: 0 if no point dominates it, 1 if only front 0 does, etc.

    Parameters
    ----------
    points
        (point, objective)

    Returns
    -------
    NDArray
        (point,)

    References
    ----------
    Deb et al. (2002), A fast and elitist multiobjective genetic algorithm: NSGA-II.
    """
    points = np.asarray(points, dtype=np.float64)
    rank = np.zeros(len(points), dtype=np.intp)
    left = np.arange(len(points))
    while len(left):
        front = non_dominated(points[left])
        left = left[~front]
        rank[left] += 1
    return rank


def crowding(points: Points) -> NDArray[np.float64]:
    r"""Return the distance of each point of one front from its neighbours.

    .. math:: \sum_k \frac{v_k^+ - v_k^-}{m_k (\max_k - \min_k)}

    with :math:`v_k^\pm` the next larger and smaller values of objective :math:`k` and
    :math:`m_k` the number of points that share the value. A point with the largest or smallest
    value of an objective is infinitely far. Without shared values this is the crowding distance
    of NSGA-II; points that share a value divide the distance between them. A missing value adds
    nothing to its point, and takes nothing from others.

    Parameters
    ----------
    points
        (point, objective)

    Returns
    -------
    NDArray
        (point,)

    References
    ----------
    Deb et al. (2002), A fast and elitist multiobjective genetic algorithm: NSGA-II.
    """
    points = np.asarray(points, dtype=np.float64)
    room = np.zeros(len(points))
    for column, has_value in zip(points.T, np.isfinite(points.T), strict=True):
        values, place, counts = np.unique(
            column[has_value], return_inverse=True, return_counts=True
        )
        if len(values) > 1:  # an objective with one value for all points shows no spread
            gaps = np.full(len(values), np.inf)
            gaps[1:-1] = (values[2:] - values[:-2]) / (values[-1] - values[0]) / counts[1:-1]
            room[has_value] += gaps[place]
    return room


def best_first(points: Points, shortfalls: Points | None = None) -> NDArray[np.intp]:
    """Return the order of points by front, and within a front the least crowded first.

    Parameters
    ----------
    points
        (point, objective)
    shortfalls
        (point,): distance of each point from its requirements, 0 or less where it meets them;
        None without requirements. Points that miss a requirement come after all others, the
        nearest first, however good their objectives are

    Returns
    -------
    NDArray
        (point,): indices; points that tie keep their order

    References
    ----------
    Deb (2000), An efficient constraint handling method for genetic algorithms.
    """
    points = np.asarray(points, dtype=np.float64)
    missed = np.zeros(len(points)) if shortfalls is None else np.maximum(shortfalls, 0)
    rank, spread = np.empty(len(points), np.intp), np.empty(len(points))
    # A point is compared only with points of the same shortfall.
    for group in (np.flatnonzero(missed == value) for value in np.unique(missed)):
        rank[group] = non_dominated_rank(points[group])
        for front in np.unique(rank[group]):
            members = group[rank[group] == front]
            spread[members] = crowding(points[members])
    return np.lexsort((-spread, rank, missed))


def hypervolume(points: Points, reference: Points) -> float:
    """Return the area that points with two objectives dominate, up to a reference point.

    Parameters
    ----------
    points
        (point, 2); those not better than the reference in both objectives add nothing
    reference
        (2,)

    Returns
    -------
    float
        0 without points

    References
    ----------
    Zitzler and Thiele (1998), Multiobjective optimization using evolutionary algorithms.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    points = points[(points < reference).all(axis=1)]
    points = points[np.argsort(points[:, 0])]
    # Between a point and the next one, the lowest point so far bounds the dominated area.
    widths = np.diff(points[:, 0], append=reference[0])
    heights = reference[1] - np.minimum.accumulate(points[:, 1])
    return float((widths * heights).sum())
