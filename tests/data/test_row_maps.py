"""Poses that belong to a video are told from those of another one, and matched to its frames."""

import numpy as np
import pytest

from psvae_tune.data.alignment import reduce_frames
from psvae_tune.data.autocorrelation import autocorrelation, memory_of
from psvae_tune.data.row_maps import choose_map, compare, possible_maps
from tests.support.recordings import draw, path_of_square

N = 500


def slow_path(n, seed):
    """Return the places of two smooth points, (frame, 4): sums of slow sines."""
    rng = np.random.default_rng(seed)
    frequency = rng.uniform(0.002, 0.02, (3, 4))
    phase = rng.uniform(0, 2 * np.pi, (3, 4))
    waves = np.sin(2 * np.pi * frequency * np.arange(n)[:, None, None] + phase)
    return 32 + 22 * waves.mean(1)


def see(places):
    """Return the features of frames that show two bright spots."""
    y, x = np.mgrid[:64, :64]
    image = np.zeros((len(places), 64, 64), np.float32)
    for k in (0, 2):
        cx, cy = places[:, k, None, None], places[:, k + 1, None, None]
        image += (200 - 60 * k) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 50)
    return reduce_frames(image[:, None])


KINDS = {
    "slow": (slow_path, see),
    "quick": (path_of_square, lambda places: reduce_frames(draw(places)[:, None])),
}


@pytest.fixture(scope="module", params=KINDS)
def recordings(request):
    """Return how paths are made, and the paths and features of some videos."""
    make, look = KINDS[request.param]
    truths = [make(N, seed) for seed in range(1, 7)]
    return make, [(truth, look(truth)) for truth in truths]


def choose(features, labels, masks=None):
    masks = np.ones(labels.shape, bool) if masks is None else masks
    maps = possible_maps(len(labels), len(features))
    return choose_map(maps, features, range(len(features)), labels, masks)[0]


@pytest.mark.parametrize("length", [60, 120, 250, 499, 501, 1000])
def test_poses_of_another_video_are_never_taken(recordings, length):
    make, videos = recordings
    taken = [seed for seed in range(100, 140) if choose(videos[seed % 6][1], make(length, seed))]
    assert not taken


@pytest.mark.parametrize("start", [20, 60, 100, 150])
def test_poses_of_another_part_of_the_video_are_not_taken(recordings, start):
    for truth, features in recordings[1]:
        assert choose(features, truth[start : start + 300]) is None


PARTS = {
    "row i is frame i": slice(0, 300),
    "the last row is the last frame": slice(150, N),
    "row i is frame 2·i": slice(0, N, 2),
}


@pytest.mark.parametrize("words", PARTS)
def test_poses_of_a_part_are_matched_to_it_or_asked_about(recordings, words):
    n_matched = 0
    for truth, features in recordings[1]:
        labels = truth[PARTS[words]]
        found = choose(features, labels)
        assert found is None or found.words == words
        n_matched += found is not None
    is_slow = truth.shape[1] == 4  # such recordings hold few independent frames
    assert n_matched >= (2 if is_slow else 6)


def test_masked_labels_do_not_count():
    truth = path_of_square(N)
    features, labels = KINDS["quick"][1](truth), truth[:300]
    masks = np.random.default_rng(0).random(labels.shape) < 0.9
    masks[40:60] = False
    guesses = np.where(masks, labels, 1e4 * np.random.default_rng(1).random(labels.shape))
    assert choose(features, guesses, masks).words == "row i is frame i"
    assert choose(features, labels, np.zeros_like(masks)) is None


def test_poses_of_more_frames_are_matched():
    truth = path_of_square(N)
    features = KINDS["quick"][1](truth)
    longer = np.concatenate([truth, path_of_square(400, 5)])
    assert choose(features, longer).words == "row i is frame i"
    assert choose(features[::2], truth).words == "row 2·i is frame i"


@pytest.mark.parametrize("n_missing", [1, 2, 3, 8, 30])
@pytest.mark.parametrize("place", [0.3, 0.5, 0.7])
def test_rows_that_are_missing_in_the_middle_fit_nowhere(recordings, n_missing, place):
    first = int(place * N)
    for truth, features in recordings[1]:
        labels = np.delete(truth, range(first, first + n_missing), axis=0)
        assert choose(features, labels) is None


@pytest.mark.parametrize("n_missing", [1, 2, 20])
def test_a_tracker_that_lost_the_last_frames_is_understood(n_missing):
    for seed in range(6):
        truth = path_of_square(N, seed)
        features = KINDS["quick"][1](truth)
        assert choose(features, truth[:-n_missing]).words == "row i is frame i"


def test_rows_that_are_missing_at_both_ends_fit_nowhere(recordings):
    for truth, features in recordings[1]:
        assert choose(features, truth[3:-2]) is None


def test_labels_that_tell_nothing_are_not_taken(recordings):
    truth, features = recordings[1][0]
    assert choose(features, np.full((300, 2), 7.0)) is None
    assert choose(features, truth[:2]) is None


def test_agreement_is_that_of_loops():
    rng = np.random.default_rng(0)
    seen, told = rng.uniform(-1, 1, (2, 60))
    told[3:] += seen[:-3]
    seen[[5, 17]] = told[[17, 40]] = np.nan

    def correlate(a, b):
        both = np.isfinite(a) & np.isfinite(b)
        return a[both] @ b[both] / np.sqrt((a[both] ** 2).sum() * (b[both] ** 2).sum())

    both = np.isfinite(seen) & np.isfinite(told)
    memory = max(
        memory_of(autocorrelation(np.nan_to_num(series), both, 30)) for series in (seen, told)
    )
    moved = [correlate(seen, np.roll(told, -shift)) for shift in range(60)]
    turned = [correlate(seen, np.roll(told[::-1], shift)) for shift in range(60)]
    found = compare(seen, told)
    assert found.score == pytest.approx(moved[0])
    assert found.chance == pytest.approx(max(moved[2 * memory : 61 - 2 * memory] + turned))
    assert found.n_stretches == pytest.approx(57 / memory)
    near = [*range(2 * memory), *range(1 - 2 * memory, 0)]
    assert found.lag == max(near, key=lambda shift: moved[shift])
    assert moved.index(max(moved)) == 3
    assert not found.is_sure


def test_autocorrelation_is_that_of_loops():
    rng = np.random.default_rng(0)
    values, mask = np.cumsum(rng.standard_normal(80)), rng.random(80) < 0.8
    centred = values - values[mask].mean()
    expected = [
        np.mean([centred[t] * centred[t + k] for t in range(80 - k) if mask[t] & mask[t + k]])
        for k in range(21)
    ]
    found = autocorrelation(values, mask, 20)
    np.testing.assert_allclose(found, np.array(expected) / values[mask].var())
    assert memory_of(found) == next(k for k, r in enumerate(found) if r < 1 / np.e)
