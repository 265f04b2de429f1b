"""Trials whose weights are near each other: which one a trial goes on from."""

import math
from collections.abc import Mapping, Sequence

SMALLEST = 1e-3
"""Weight that smaller ones, 0 among them, are taken for: a distance of weights is a ratio."""

Weights = Mapping[str, float]


def distance(one: Weights, other: Weights) -> float:
    r"""Return how far two settings of the same weights are from each other.

    .. math:: \sqrt{\sum_i \ln^2(w_i / v_i)}
    """
    return math.hypot(
        *(math.log(max(one[name], SMALLEST) / max(other[name], SMALLEST)) for name in one)
    )


def nearest(weights: Weights, others: Sequence[Weights]) -> int:
    """Return the index of the settings that are nearest to some weights, the first of equals."""
    return min(range(len(others)), key=lambda i: distance(weights, others[i]))


def walk(points: Sequence[Weights], root: Weights) -> list[tuple[int, int | None]]:
    """Return the order in which points are reached from a root, each from a point before it.

    Each step goes to the point that is nearest to any that has been reached, so that the steps
    are a minimum spanning tree. Of equal distances, that to the smaller weights is taken.

    Parameters
    ----------
    points
        The points, in any order.
    root
        The weights that the walk begins at.

    Returns
    -------
    list of tuple
        Index of each point, and that of the point that it is reached from; None for the root.

    References
    ----------
    Prim (1957), Shortest connection networks and some generalizations, Bell Syst. Tech. J. 36(6).
    """
    origins: dict[int, int | None] = dict.fromkeys(range(len(points)))
    lengths = {i: distance(point, root) for i, point in enumerate(points)}
    steps = []
    while lengths:
        # Rounded, because equal ratios differ in their last bits.
        new = min(lengths, key=lambda i: (round(lengths[i], 9), *points[i].values()))
        del lengths[new]
        steps.append((new, origins[new]))
        for i in lengths:
            if (length := distance(points[i], points[new])) < lengths[i] - 1e-9:
                lengths[i], origins[i] = length, new
    return steps


def fronts(steps: Sequence[tuple[int, int | None]]) -> list[list[int]]:
    """Return the points of a walk in groups that can be reached at once, each after the other."""
    depths: dict[int | None, int] = {None: -1}
    for point, origin in steps:
        depths[point] = depths[origin] + 1
    found: list[list[int]] = [[] for _ in range(max(depths.values()) + 1)]
    for point, _ in steps:
        found[depths[point]].append(point)
    return found
