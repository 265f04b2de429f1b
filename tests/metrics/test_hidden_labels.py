"""What latents find of hidden labels: known answers, and NumPy's own correlation."""

import numpy as np
import pytest

from psvae_tune.metrics.hidden_labels import (
    correlate,
    find_best_latents,
    mean_r2,
    predict_quadratic,
    quadratic,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("seed", range(5))
def test_each_label_has_the_latent_that_correlates_most_with_it(seed):
    rng = np.random.default_rng(seed)
    latents, labels = rng.normal(size=(60, 3)), rng.normal(size=(60, 2))
    labels[:, 0] -= 2 * latents[:, 1]
    mask = rng.random((60, 2)) < 0.7
    best = find_best_latents(latents, labels, mask)
    found = correlate(latents, best, labels, mask)
    for label in range(2):
        rows = mask[:, label]
        each = [np.corrcoef(z[rows], labels[rows, label])[0, 1] for z in latents.T]
        assert best[label] == np.argmax(np.abs(each))
        assert found[label] == pytest.approx(each[best[label]])


def test_what_does_not_vary_correlates_with_nothing(rng):
    latents, labels = np.ones((20, 1)), rng.normal(size=(20, 2))
    labels[:, 1] = 3
    found = correlate(latents, np.array([0, 0]), labels)
    assert found[0] == 0
    assert np.isnan(found[1])


def test_quadratic_features_are_columns_squares_and_products():
    found = quadratic(np.array([[2.0, 3.0]]))
    assert found.tolist() == [[2, 3, 4, 6, 9]]


def test_a_label_that_others_tell_by_their_squares_is_predicted_on_new_clips(rng):
    known = rng.normal(size=(300, 2))
    labels = np.stack([known[:, 0] ** 2 - known[:, 0] * known[:, 1], rng.normal(size=300)], axis=1)
    clips = np.repeat(np.arange(10), 30)
    mask = np.ones((300, 2), bool)
    mask[::3] = False
    labels[~mask] = 1e6  # the wrong guess of a tracker
    old = clips < 8
    found = predict_quadratic(known[old], labels[old], clips[old], known[~old], mask[old])
    r2 = mean_r2(labels[~old][:, :1], found[:, :1], mask[~old][:, :1])
    assert r2 > 0.999
    # Noise is not predicted: its penalty is one that leaves almost nothing of it.
    assert abs(mean_r2(labels[~old][:, 1:], found[:, 1:], mask[~old][:, 1:])) < 0.1


def test_a_label_that_is_valid_in_one_clip_alone_has_no_prediction(rng):
    known, labels = rng.normal(size=(40, 1)), rng.normal(size=(40, 1))
    clips = np.repeat([0, 1], 20)
    found = predict_quadratic(known, labels, clips, known, clips[:, None] == 0)
    assert np.isnan(found).all()
    assert mean_r2(labels, found) is None
