import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from psvae_tune.metrics.label_prediction import (
    label_mse,
    label_r2,
    leak_r2,
    predict_by_ridge,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def leak(latents, labels, n_train, mask=None):
    """Fit to the first frames, and score the rest."""
    (z_train, z), (y_train, y) = np.split(latents, [n_train]), np.split(labels, [n_train])
    mask_train, mask = (None, None) if mask is None else np.split(mask, [n_train])
    return leak_r2(y, predict_by_ridge(z_train, y_train, z, mask_train), mask)


def test_r2_by_hand():
    labels = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 4.0]])
    labels_hat = np.array([[0.0, 2.0], [2.0, 2.0], [2.0, 2.0]])
    # label 0: 1 - 4/8; label 1: 1 - 6/6; variances 8/3 and 2
    result = label_r2(labels, labels_hat)
    np.testing.assert_allclose(result.per_label, [0.5, 0.0])
    assert result.mean == pytest.approx((8 / 3 * 0.5 + 2 * 0.0) / (8 / 3 + 2))


def test_r2_without_mask_equals_the_reference_library(rng):
    labels = rng.normal(size=(200, 4)) * [1, 2, 5, 0.1] + [0, 3, -20, 7]
    labels_hat = labels + rng.normal(size=labels.shape)
    result = label_r2(labels, labels_hat)
    raw = r2_score(labels, labels_hat, multioutput="raw_values")
    np.testing.assert_allclose(result.per_label, raw)
    expected = r2_score(labels, labels_hat, multioutput="variance_weighted")
    assert result.mean == pytest.approx(expected)


def test_a_difference_between_label_means_explains_nothing(rng):
    # Flattening the labels under a mask would score this constant prediction 0.99.
    labels = rng.normal([0.0, 20.0], 1.0, size=(400, 2))
    constant = np.broadcast_to(labels.mean(axis=0), labels.shape)
    mask = rng.random(labels.shape) > 0.1
    assert abs(label_r2(labels, constant, mask).mean) < 0.02


def test_r2_is_pooled_over_clips_not_averaged(rng):
    # A clip in which the label hardly moves must not outweigh one in which it does.
    still, moving = rng.normal(size=(50, 1)) * 1e-3, rng.normal(size=(50, 1)) * 10
    labels = np.concatenate([still, moving])
    labels_hat = labels + 0.01
    assert label_r2(labels, labels_hat).mean > 0.99


@given(st.integers(0, 1000))
def test_invalid_entries_change_nothing(seed):
    rng = np.random.default_rng(seed)
    labels, labels_hat = rng.normal(size=(2, 30, 3))
    mask = rng.random(labels.shape) > 0.3
    mask[:2] = True
    other, other_hat = labels.copy(), labels_hat.copy()
    other[~mask], other_hat[~mask] = np.nan, 1e9
    expected = label_r2(labels, labels_hat, mask)
    result = label_r2(other, other_hat, mask.astype(np.float32))
    np.testing.assert_array_equal(result.per_label, expected.per_label)
    assert result.mean == expected.mean
    assert label_mse(other, other_hat, mask) == label_mse(labels, labels_hat, mask)


@given(st.integers(0, 1000))
def test_order_of_frames_and_of_labels_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    labels, labels_hat = rng.normal(size=(2, 30, 3))
    frames, columns = rng.permutation(30), rng.permutation(3)
    expected = label_r2(labels, labels_hat)
    result = label_r2(labels[frames][:, columns], labels_hat[frames][:, columns])
    np.testing.assert_allclose(result.per_label, expected.per_label[columns])
    assert result.mean == pytest.approx(expected.mean)


def test_masked_label_weighs_as_much_as_its_variance(rng):
    labels = rng.normal(size=(1000, 2))
    labels_hat = labels.copy()
    labels_hat[:, 1] = 0.0
    mask = np.ones(labels.shape)
    mask[100:, 1] = 0  # fewer valid frames, same variance
    assert label_r2(labels, labels_hat, mask).mean == pytest.approx(0.5, abs=0.1)


def test_constant_label_is_left_out(rng):
    labels = rng.normal(size=(20, 2))
    labels[:, 1] = 0.1
    result = label_r2(labels, labels)
    assert result.mean == 1.0
    assert np.isnan(result.per_label[1])


@pytest.mark.parametrize("n_frames", [0, 1, 5])
def test_without_a_valid_label_there_is_no_metric(n_frames):
    labels = np.ones((n_frames, 2))
    mask = np.zeros(labels.shape)
    assert label_r2(labels, labels, mask) is None
    assert label_mse(labels, labels, mask) is None
    assert leak(np.tile(labels, (2, 1)), np.tile(labels, (2, 1)), n_frames, None) is None
    assert (
        leak(np.tile(labels, (2, 1)), np.tile(labels, (2, 1)), n_frames, np.tile(mask, (2, 1)))
        is None
    )
    assert label_r2(labels, labels) is None  # valid, but nothing varies


def test_mse_divides_by_the_valid_entries():
    labels, labels_hat = np.zeros((4, 2)), np.full((4, 2), 3.0)
    assert label_mse(labels, labels_hat) == 9.0
    assert label_mse(labels, labels_hat, np.eye(4, 2)) == 9.0


def test_leak_of_known_size(rng):
    # One split scatters by 0.025 around the truth, the mean of twenty by 0.006.
    leaks = []
    for _ in range(20):
        latents, noise = rng.normal(size=(4000, 3)), rng.normal(size=(4000, 1))
        labels = 5 + latents[:, :1] * np.sqrt(0.3) + noise * np.sqrt(0.7)
        leaks.append(leak(latents, labels, 3000))
    assert np.mean(leaks) == pytest.approx(0.3, abs=0.025)


def test_leak_equals_the_reference_library(rng):
    latents, noise = rng.normal(size=(300, 3)), rng.normal(size=(300, 1))
    labels = 5 + latents[:, :1] + noise
    scaler = StandardScaler().fit(latents[:200])
    ridge = Ridge(alpha=1.0).fit(scaler.transform(latents[:200]), labels[:200])
    expected = r2_score(labels[200:], ridge.predict(scaler.transform(latents[200:])))
    assert leak(latents, labels, 200) == pytest.approx(expected)


def test_no_leak_is_zero_and_full_leak_is_one(rng):
    latents, labels = rng.normal(size=(300, 2)), rng.normal(size=(300, 2))
    assert leak(latents, labels, 20) == 0.0
    mixed = latents @ [[1.0, 2.0], [3.0, 4.0]]
    assert leak(latents, mixed, 200) == pytest.approx(1.0, abs=1e-3)


def test_one_leaking_label_is_not_hidden_by_one_that_fails(rng):
    latents = rng.normal(size=(400, 1))
    labels = np.concatenate([latents, rng.normal(size=(400, 1))], axis=1)
    labels[:200, 1] += 10  # drifts between the splits, so its reader is far off
    assert leak(latents, labels, 200) == pytest.approx(0.5, abs=0.1)


def test_leak_ignores_scale_masks_and_constant_latents(rng):
    latents, labels = rng.normal(size=(300, 2)), rng.normal(size=(300, 2))
    labels += latents
    mask = rng.random(labels.shape) > 0.2
    expected = leak(latents, labels, 150, mask)
    wild = np.where(mask, labels, 1e6)
    scaled = np.concatenate([latents * [1e3, 1e-3] + 7, np.full((300, 1), 2.0)], axis=1)
    assert leak(scaled, wild, 150, mask) == pytest.approx(expected)
    assert expected > 0.2


def test_without_latents_nothing_leaks(rng):
    assert leak(np.zeros((20, 0)), rng.normal(size=(20, 2)), 10) == 0.0


def test_a_label_without_training_frames_is_left_out(rng):
    latents = rng.normal(size=(100, 2))
    mask = np.ones((100, 2))
    mask[:50, 1] = 0
    assert leak(latents, latents, 50, mask) == leak(latents, latents[:, :1], 50)
