"""The walk through weights: against Kruskal's algorithm, and known answers."""

import itertools

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree

from psvae_tune.search.weight_path import distance, fronts, nearest, walk


def points_of(table):
    return [{"alpha": float(alpha), "beta": float(beta)} for alpha, beta in table]


@pytest.mark.parametrize("seed", range(20))
def test_a_walk_is_a_shortest_tree_in_which_every_point_comes_after_its_origin(seed):
    rng = np.random.default_rng(seed)
    root, *points = points_of(10 ** rng.uniform(0, 3, (9, 2)))
    steps = walk(points, root)
    assert sorted(point for point, _ in steps) == list(range(8))
    reached = {None}
    for point, origin in steps:
        assert origin in reached
        reached.add(point)
    length = sum(
        distance(points[point], root if origin is None else points[origin])
        for point, origin in steps
    )
    everything = [root, *points]
    table = np.array([[distance(a, b) for a in everything] for b in everything])
    assert length == pytest.approx(minimum_spanning_tree(table).sum())


def test_a_line_is_walked_from_its_nearer_end_outwards():
    alphas = [{"alpha": alpha} for alpha in (1000.0, 50.0, 500.0, 100.0)]
    assert walk(alphas, {"alpha": 50.0}) == [(1, None), (3, None), (2, 3), (0, 2)]
    assert walk(alphas, {"alpha": 200.0}) == [(3, None), (1, 3), (2, None), (0, 2)]


def test_of_equally_near_points_the_one_with_the_smaller_weights_is_reached_first():
    grid = points_of(itertools.product((10, 1), (10, 1)))
    assert [point for point, _ in walk(grid, {"alpha": 1.0, "beta": 1.0})] == [3, 2, 1, 0]


def test_points_of_one_front_do_not_wait_for_each_other():
    grid = points_of(itertools.product((1, 10, 100), (1, 10, 100)))
    steps = walk(grid, grid[0])
    groups = fronts(steps)
    place = {point: i for i, group in enumerate(groups) for point in group}
    assert sorted(itertools.chain(*groups)) == list(range(9))
    for point, origin in steps:
        assert place[point] == (0 if origin is None else place[origin] + 1)
    assert max(map(len, groups)) >= 2


def test_a_weight_of_zero_has_a_place_below_all_others():
    weights = [{"beta": 0.0}, {"beta": 1.0}, {"beta": 5.0}]
    assert np.isfinite(distance(weights[0], weights[2]))
    assert nearest({"beta": 0.5}, weights) == 1
    assert nearest({"beta": 0.0}, weights[1:]) == 0
