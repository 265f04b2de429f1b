import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from psvae_tune.metrics.disentanglement import (
    dci,
    information,
    mean_lead,
    predict_by_lasso,
    squared_correlation,
)
from tests.support.signals import draw_ar1


def score_all(latents, labels, mask=None, n_train=None):
    """Fit to the first frames, two thirds by default, and score the rest."""
    n_train = 2 * len(labels) // 3 if n_train is None else n_train
    (z_train, z), (y_train, y) = np.split(latents, [n_train]), np.split(labels, [n_train])
    mask_train, mask = (None, None) if mask is None else np.split(mask, [n_train])
    found = {}
    for name, table in (("mig", information), ("sap", squared_correlation)):
        found[name] = mean_lead(table(z_train, y_train, mask_train), table(z, y, mask))
    lasso = predict_by_lasso(z_train, y_train, z, mask_train)
    scores = dci(lasso.weights, y, lasso.labels_hat, mask)
    return found | (dict.fromkeys(("dci",)) if scores is None else scores._asdict())


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).normal(size=(3000, 3))


def test_aligned_latents_score_near_one_and_a_rotation_costs(labels):
    noise = 0.02 * np.random.default_rng(1).normal(size=labels.shape)
    aligned = score_all(labels + noise, labels)
    assert min(aligned.values()) > 0.8
    rotation = ortho_group.rvs(3, random_state=np.random.default_rng(2))
    mixed = score_all((labels + noise) @ rotation, labels)
    assert mixed.pop("informativeness") > 0.97
    for name, value in mixed.items():
        assert value < aligned[name] - 0.3, name


def test_latents_beyond_the_labels_do_no_harm(labels):
    extra = np.random.default_rng(1).normal(size=(3000, 2))
    assert min(score_all(np.concatenate([labels, extra], axis=1), labels).values()) > 0.8


@pytest.mark.parametrize("memory", [0, 10])
def test_latents_that_know_nothing_score_near_zero(memory):
    """With memory, a score on the fitted frames is up to .76."""
    scores = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        latents, factors = draw_ar1(rng, 1440, 6, memory), draw_ar1(rng, 1440, 4, memory)
        scores.append(score_all(latents, factors, n_train=1280))
    for name in scores[0]:
        assert np.mean([found[name] for found in scores]) < 0.03, name


def test_the_more_latents_know_the_higher_they_score(labels):
    noise = np.random.default_rng(1).normal(size=labels.shape)
    knowing = [score_all(labels + size * noise, labels) for size in (10, 2, 1, 0.5, 0.1)]
    for name in knowing[0]:
        values = [found[name] for found in knowing]
        assert values == sorted(values), name
        assert values[0] < 0.1
        assert values[-1] > values[0] + 0.5


def test_squared_correlation_by_hand():
    latents = np.array([[1.0, 1.0], [2.0, -1.0], [3.0, -1.0], [4.0, 1.0]])
    np.testing.assert_allclose(
        squared_correlation(latents, latents[:, :1]), [[1.0], [0.0]], atol=1e-12
    )


def test_information_by_hand():
    # Two bins (15 frames): the first latent tells the label's bin, the second is constant.
    label = np.arange(15.0)[:, None]
    latents = np.concatenate([10 * label, np.ones((15, 1))], axis=1)
    np.testing.assert_allclose(information(latents, label), [[1.0], [0.0]], atol=1e-12)


def test_the_lead_is_that_of_the_latents_that_lead_in_training():
    train = np.array([[0.9, 0.1], [0.5, 0.2], [0.1, 0.3]])
    table = np.array([[0.6, 0.9], [0.4, 0.1], [0.9, 0.3]])
    # Latents 0 and 1 lead for the first label, 2 and 1 for the second.
    assert mean_lead(train, table) == pytest.approx((0.6 - 0.4 + 0.3 - 0.1) / 2)
    assert mean_lead(train, 1 - table) == 0.0
    # A label that does not vary in one of them is left out.
    train[:, 1] = np.nan
    assert mean_lead(train, table) == pytest.approx(0.2)


def test_duplicated_latents_have_no_lead(labels):
    found = score_all(labels[:, [0, 0, 1, 1, 2, 2]], labels)
    assert found["mig"] == found["sap"] == 0.0


def test_dci_by_hand():
    # Orthogonal latents: the lasso takes the penalty of 0.05 off each weight. The first label is
    # the first latent; the other two are mixtures, half and half, of the other two.
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(500, 3))
    latents = np.linalg.qr(draws - draws.mean(axis=0))[0] * np.sqrt(500)
    half = np.sqrt(0.5)
    labels = latents @ np.array([[1, 0, 0], [0, half, half], [0, half, -half]])
    lasso = predict_by_lasso(latents, labels, latents)
    expected = [[0.95, 0, 0], [0, half - 0.05, half - 0.05], [0, half - 0.05, 0.05 - half]]
    np.testing.assert_allclose(lasso.weights, expected, atol=1e-6)
    result = dci(lasso.weights, labels, lasso.labels_hat)
    r2 = 1 - np.array([0.05**2, 2 * 0.05**2, 2 * 0.05**2])
    even = 1 - np.log(2) / np.log(3)
    # Each of the mixing latents has half of both mixed labels.
    assert result.disentanglement == pytest.approx(r2 @ [1, even, even] / 3, abs=1e-6)
    assert result.completeness == pytest.approx(r2 @ [1, even, even] / 3, abs=1e-6)
    assert result.informativeness == pytest.approx(r2.mean(), abs=1e-6)


def test_a_label_that_is_not_predicted_on_other_frames_has_no_importances():
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(400, 2))
    labels = latents.copy()
    labels[200:, 1] = rng.normal(size=200)  # the training frames promise what does not hold
    lasso = predict_by_lasso(latents[:200], labels[:200], latents[200:])
    assert lasso.weights[1, 1] > 0.9
    result = dci(lasso.weights, labels[200:], lasso.labels_hat)
    np.testing.assert_allclose(result, [0.5, 0.5, 0.5], atol=0.01)


def test_constant_latents_score_zero(labels):
    assert set(score_all(np.full_like(labels, 3.0), labels).values()) == {0.0}


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_order_sign_and_scale_change_nothing(seed):
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=(180, 2))
    latents = labels @ rng.normal(size=(2, 3)) + 0.3 * rng.normal(size=(180, 3))
    frames = np.concatenate([rng.permutation(120), 120 + rng.permutation(60)])
    columns = rng.permutation(3)
    changed = (latents * [100.0, 0.01, 1.0] + 3)[frames][:, columns]
    expected, result = score_all(latents, labels), score_all(changed, labels[frames])
    for name in expected:
        assert result[name] == pytest.approx(expected[name], abs=1e-3), name


def test_invalid_entries_change_nothing(labels):
    latents = labels[:, ::-1] + 0.1
    mask = np.random.default_rng(0).random(labels.shape) > 0.3
    wild = np.where(mask, labels, np.nan)
    assert score_all(latents, wild, mask) == score_all(latents, labels, mask)


def test_constant_label_is_left_out(labels):
    constant = np.concatenate([labels, np.full((3000, 1), 0.1)], axis=1)
    assert score_all(labels, constant) == pytest.approx(score_all(labels, labels))


def test_absent_without_two_latents_or_a_varying_label(labels):
    absent = {"mig": None, "sap": None, "dci": None}
    assert score_all(labels[:, :1], labels) == absent
    assert score_all(labels[:, :0], labels) == absent
    assert score_all(labels, np.ones((3000, 2))) == absent
    assert score_all(labels, labels, np.zeros(labels.shape)) == absent
    assert score_all(np.zeros((0, 2)), np.zeros((0, 2))) == absent
    assert score_all(labels, labels[:, :1])["dci"] is None


def test_constant_latents_beside_others_are_harmless(labels):
    latents = np.concatenate([labels, np.zeros((3000, 1))], axis=1)
    assert min(score_all(latents, labels).values()) > 0.8
