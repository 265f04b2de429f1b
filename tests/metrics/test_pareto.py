import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from psvae_tune.metrics.pareto import (
    best_first,
    crowding,
    hypervolume,
    non_dominated,
    non_dominated_rank,
)

# Few distinct values, so that ties and duplicates are common.
GRID = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, np.inf])
POINTS = st.tuples(st.integers(0, 12), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=GRID)
)
POINTS_2D = st.integers(0, 10).flatmap(lambda n: arrays(np.float64, (n, 2), elements=GRID))


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(
        x < y for x, y in zip(a, b, strict=True)
    )


@given(POINTS)
def test_front_equals_brute_force(points):
    expected = [not any(dominates(other, point) for other in points) for point in points]
    assert non_dominated(points).tolist() == expected


@given(POINTS)
def test_rank_is_the_longest_chain_of_dominators(points):
    def chain(point):
        return max((1 + chain(p) for p in points if dominates(p, point)), default=0)

    assert non_dominated_rank(points).tolist() == [chain(point) for point in points]


def test_equal_points_share_a_front():
    points = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 2.0], [3.0, 0.0]])
    assert non_dominated(points).tolist() == [True, True, False, True]
    assert non_dominated_rank(points).tolist() == [0, 0, 1, 0]


def test_crowding_by_hand():
    front = np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]])
    inf = np.inf
    np.testing.assert_allclose(crowding(front), [inf, 3 / 4 + 3 / 4, 3 / 4 + 2 / 4, inf])


def test_points_that_coincide_share_their_room():
    front = np.array([[0.0, 4.0], [1.0, 2.0], [1.0, 2.0], [4.0, 0.0]])
    np.testing.assert_allclose(crowding(front)[1:3], [(4 / 4 + 4 / 4) / 2] * 2)


def test_crowding_of_points_without_spread_is_zero():
    assert crowding(np.ones((3, 2))).tolist() == [0, 0, 0]
    assert crowding(np.ones((1, 2))).tolist() == [0]
    assert crowding(np.ones((0, 2))).tolist() == []


def test_lacking_values_neither_have_nor_take_room():
    front = np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0], [np.inf, -1.0]])
    inf = np.inf
    np.testing.assert_allclose(crowding(front), [inf, 3 / 4 + 3 / 5, 3 / 4 + 2 / 5, inf, inf])
    twins = np.array([[0.0, 1.0], [1.0, 0.0], [np.inf, 0.5]])
    np.testing.assert_allclose(crowding(twins), [inf, inf, 1.0])


@given(POINTS, st.randoms(use_true_random=False))
def test_order_of_points_changes_nothing(points, random):
    order = random.sample(range(len(points)), len(points))
    for function in (non_dominated, non_dominated_rank, crowding):
        np.testing.assert_allclose(function(points[order]), function(points)[order])


@given(POINTS_2D)
def test_hypervolume_counts_the_cells_of_a_grid(points):
    cells = itertools.product(range(5), range(5))
    covered = sum(any(p[0] <= x and p[1] <= y for p in points) for x, y in cells)
    assert hypervolume(points, np.array([5.0, 5.0])) == pytest.approx(covered)


def test_hypervolume_by_hand():
    points = np.array([[1.0, 3.0], [2.0, 1.0], [9.0, 0.0]])
    assert hypervolume(points, np.array([4.0, 4.0])) == 3 * 1 + 2 * 2


def test_points_without_a_value_are_refused():
    with pytest.raises(AssertionError):
        non_dominated(np.array([[np.nan, 1.0]]))


@given(POINTS)
def test_best_first_goes_through_the_fronts_the_least_crowded_before_others(points):
    order = best_first(points)
    assert sorted(order) == list(range(len(points)))
    rank = non_dominated_rank(points)
    assert list(rank[order]) == sorted(rank)
    for front in np.unique(rank):
        inside = [i for i in order if rank[i] == front]
        room = dict(
            zip(np.flatnonzero(rank == front), crowding(points[rank == front]), strict=True)
        )
        assert [room[i] for i in inside] == sorted(room.values(), reverse=True)


@given(
    arrays(np.float64, st.tuples(st.integers(1, 12), st.just(2)), elements=st.floats(0, 1)),
    st.data(),
)
def test_what_misses_more_comes_later_and_equals_are_ordered_among_themselves(points, data):
    levels = st.sampled_from([-1.0, 0.0, 0.5, 1.0, np.inf])
    missed = np.array([data.draw(levels) for _ in points])
    order = best_first(points, missed)
    assert sorted(order) == list(range(len(points)))
    cut = np.maximum(missed, 0)
    assert (np.diff(np.unique(cut, return_inverse=True)[1][order]) >= 0).all()
    for level in np.unique(cut):
        members = np.flatnonzero(cut == level)
        alone = members[best_first(points[members])]
        assert [index for index in order if index in members] == list(alone)
    assert list(best_first(points)) == list(best_first(points, np.zeros(len(points))))
