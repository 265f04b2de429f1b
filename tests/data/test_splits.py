import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psvae_tune.data.splits import parse_trial_splits, split_clips, take_fraction
from psvae_tune.errors import ConfigError, DataError

sizes = st.integers(1, 8)
gaps = st.integers(0, 3)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def requests(draw, gap=gaps):
    train, val, test, gap = draw(sizes), draw(sizes), draw(sizes), draw(gap)
    n_clips = train + val + test + 3 * gap + draw(st.integers(0, 60))
    return n_clips, f"{train};{val};{test};{gap}", draw(seeds)


@given(requests())
def test_splits_are_disjoint_ascending_and_inside_the_session(request):
    splits = split_clips(*request)
    every = [*splits.train, *splits.val, *splits.test]
    assert len(set(every)) == len(every)
    assert set(every) <= set(range(request[0]))
    for indices in (splits.train, splits.val, splits.test):
        assert list(indices) == sorted(indices)


@given(requests())
def test_gap_clips_lie_between_different_splits(request):
    gap = parse_trial_splits(request[1]).gap
    splits = split_clips(*request)
    for one, other in (("train", "val"), ("val", "test"), ("train", "test")):
        distances = abs(np.subtract.outer(splits[one], splits[other]))
        assert distances.min() > gap


@given(requests())
def test_each_whole_block_gives_its_counts_and_the_rest_is_training(request):
    n_clips, trial_splits, _ = request
    block = parse_trial_splits(trial_splits)
    n_blocks, n_left = divmod(n_clips, sum(block) + 2 * block.gap)
    splits = split_clips(*request)
    assert len(splits.train) == n_blocks * block.train + n_left
    assert len(splits.val) == n_blocks * block.val
    assert len(splits.test) == n_blocks * block.test


@given(requests(gap=st.just(0)))
def test_without_gaps_every_clip_is_used(request):
    splits = split_clips(*request)
    assert sorted(splits.train + splits.val + splits.test) == list(range(request[0]))


@given(requests())
def test_same_seed_same_splits(request):
    assert split_clips(*request) == split_clips(*request)


def test_seeds_move_the_blocks():
    assert len({split_clips(20, "8;1;1;0", seed).val for seed in range(20)}) > 5


def test_splits_come_in_runs_of_the_asked_order():
    splits = split_clips(10, "5;2;3;0", seed=0)
    names = np.empty(10, "U5")
    for name in ("train", "val", "test"):
        names[list(splits[name])] = name
    start = next(index for index in range(10) if names[index - 1] == "test" != names[index])
    assert list(np.roll(names, -start)) == ["train"] * 5 + ["val"] * 2 + ["test"] * 3


@pytest.mark.parametrize(
    "text", ["", "8;1;1", "8;1;1;0;0", "8,1,1,0", "a;1;1;0", "8;1;1;-1", "8;1;1;0.5", "٨;1;1;0"]
)
def test_unreadable_request(text):
    with pytest.raises(ConfigError, match="must be four whole numbers between semicolons, got"):
        parse_trial_splits(text)


@pytest.mark.parametrize("text", ["0;1;1;0", "8;0;1;0", "8;1;0;0"])
def test_empty_split(text):
    with pytest.raises(ConfigError, match="must have at least 1 clip to train"):
        split_clips(100, text, seed=0)


@pytest.mark.parametrize(
    ("n_clips", "trial_splits", "suggestion"),
    [
        (6, "8;1;1;0", "4;1;1;0"),
        (13, "8;1;1;2", "5;1;1;2"),
        (9, "8;4;4;1", "4;1;1;1"),
        (4, "8;1;1;1", "2;1;1;0"),
        (2, "8;1;1;0", None),
    ],
)
def test_too_few_clips(n_clips, trial_splits, suggestion):
    with pytest.raises(DataError, match=f"needs at least .* clips, got {n_clips}") as caught:
        split_clips(n_clips, trial_splits, seed=0, where="mouse.h5")
    assert str(caught.value).startswith("mouse.h5: ")
    if suggestion is None:
        assert caught.value.hint == "cut the recording into more, shorter clips"
    else:
        assert f"use `{suggestion}`" in caught.value.hint
        split_clips(n_clips, suggestion, seed=0)


@given(n_clips=st.integers(1, 50), train_frac=st.floats(1e-6, 1), seed=seeds)
def test_fraction_of_the_clips(n_clips, train_frac, seed):
    indices = tuple(range(0, 3 * n_clips, 3))
    taken = take_fraction(indices, train_frac, seed)
    assert set(taken) <= set(indices)
    assert list(taken) == sorted(set(taken))
    assert len(taken) >= 1
    assert abs(len(taken) - train_frac * n_clips) <= 1
    assert taken == take_fraction(indices, train_frac, seed)


@given(n_clips=st.integers(2, 50), data=st.data())
def test_number_of_clips(n_clips, data):
    n_taken = data.draw(st.integers(2, n_clips))
    assert len(take_fraction(range(n_clips), float(n_taken), seed=0)) == n_taken


def test_all_of_the_clips():
    assert take_fraction(range(7), 1.0, seed=3) == tuple(range(7))


def test_seeds_take_different_clips():
    assert len({take_fraction(range(20), 0.5, seed) for seed in range(10)}) > 5


@pytest.mark.parametrize("train_frac", [0.0, -0.5, -2.0, 1.5, float("inf"), float("nan")])
def test_neither_fraction_nor_number(train_frac):
    with pytest.raises(ConfigError, match="must be a fraction up to 1 or a whole number"):
        take_fraction(range(10), train_frac, seed=0)


def test_more_clips_than_there_are():
    with pytest.raises(DataError, match="must not exceed the 10 training clips, got 11"):
        take_fraction(range(10), 11, seed=0)
