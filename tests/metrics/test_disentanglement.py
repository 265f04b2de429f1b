import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from psvae_tune.metrics.disentanglement import dci, mig, sap


def scores(latents, labels, mask=None):
    result = dci(latents, labels, mask)
    return {
        "mig": mig(latents, labels, mask),
        "sap": sap(latents, labels, mask),
        "disentanglement": result.disentanglement,
        "completeness": result.completeness,
    }


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).normal(size=(2000, 3))


def test_aligned_latents_score_near_one_and_a_rotation_costs(labels):
    noise = 0.02 * np.random.default_rng(1).normal(size=labels.shape)
    aligned = scores(labels + noise, labels)
    assert min(aligned.values()) > 0.8
    rotation = ortho_group.rvs(3, random_state=np.random.default_rng(2))
    mixed = scores((labels + noise) @ rotation, labels)
    for name in aligned:
        assert mixed[name] < aligned[name] - 0.3, name
    assert dci((labels + noise) @ rotation, labels).informativeness > 0.97


def test_latents_beyond_the_labels_do_no_harm(labels):
    extra = np.random.default_rng(1).normal(size=(2000, 2))
    assert min(scores(np.concatenate([labels, extra], axis=1), labels).values()) > 0.8


def test_sap_by_hand():
    # Correlations of the only label with the latents: 1 and 0.
    latents = np.array([[1.0, 1.0], [2.0, -1.0], [3.0, -1.0], [4.0, 1.0]])
    assert sap(latents, latents[:, :1]) == pytest.approx(1.0)
    # Both latents carry it equally: no gap.
    assert sap(latents[:, [0, 0]], latents[:, :1]) == 0.0


def test_mig_of_duplicated_information_is_zero(labels):
    assert mig(labels[:, [0, 0]], labels[:, :1]) == 0.0


def test_mig_by_hand():
    # Two bins (15 frames): the first latent tells the label's bin, the second is constant.
    label = np.arange(15.0)[:, None]
    latents = np.concatenate([10 * label, np.ones((15, 1))], axis=1)
    assert mig(latents, label) == pytest.approx(1.0)


def test_dci_by_hand():
    # Orthogonal latents: the lasso takes the penalty of 0.05 off each weight. The first label is
    # the first latent; the other two are mixtures, half and half, of the other two.
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(500, 3))
    latents = np.linalg.qr(draws - draws.mean(axis=0))[0] * np.sqrt(500)
    half = np.sqrt(0.5)
    mixing = np.array([[1, 0, 0], [0, half, half], [0, half, -half]])
    result = dci(latents, latents @ mixing)
    even = 1 - np.log(2) / np.log(3)
    weights = np.array([0.95, 2 * (half - 0.05), 2 * (half - 0.05)])
    disentanglement = np.average([1, even, even], weights=weights)
    assert result.disentanglement == pytest.approx(disentanglement, abs=1e-6)
    assert result.completeness == pytest.approx((1 + 2 * even) / 3, abs=1e-6)
    errors = [0.05**2, 2 * 0.05**2, 2 * 0.05**2]
    assert result.informativeness == pytest.approx(1 - np.mean(errors), abs=1e-6)


def test_unrelated_latents_score_near_zero(labels):
    latents = np.random.default_rng(1).normal(size=labels.shape)
    values = scores(latents, labels)
    assert values["mig"] < 0.05
    assert values["sap"] < 0.01
    assert dci(latents, labels).informativeness < 0.05


def test_labels_that_no_latent_predicts_are_neither_complete_nor_disentangled():
    latents = np.concatenate([np.eye(4)] * 10)[:, :2]
    labels = np.concatenate([np.eye(4)] * 10)[:, 2:]
    labels = labels - 0.5 * labels.mean(axis=0)
    result = dci(np.full_like(latents, 3.0), labels)
    assert (result.disentanglement, result.completeness) == (0.0, 0.0)
    assert result.informativeness == pytest.approx(0.0)


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_order_sign_and_scale_change_nothing(seed):
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=(120, 2))
    latents = labels @ rng.normal(size=(2, 3)) + 0.3 * rng.normal(size=(120, 3))
    frames, columns = rng.permutation(120), rng.permutation(3)
    changed = (latents * [100.0, 0.01, 1.0] + 3)[frames][:, columns]
    expected, result = scores(latents, labels), scores(changed, labels[frames])
    for name in expected:
        assert result[name] == pytest.approx(expected[name], abs=1e-3), name


def test_invalid_entries_change_nothing(labels):
    latents = labels[:, ::-1] + 0.1
    mask = np.random.default_rng(0).random(labels.shape) > 0.3
    wild = np.where(mask, labels, np.nan)
    assert scores(latents, wild, mask) == scores(latents, labels, mask)


def test_constant_label_is_left_out(labels):
    constant = np.concatenate([labels, np.full((2000, 1), 0.1)], axis=1)
    assert scores(labels, constant) == scores(labels, labels)


@pytest.mark.parametrize("metric", [mig, sap, dci])
def test_absent_without_two_latents_or_a_varying_label(metric, labels):
    assert metric(labels[:, :1], labels) is None
    assert metric(labels, np.ones((2000, 2))) is None
    assert metric(labels, labels, np.zeros(labels.shape)) is None
    assert metric(np.zeros((0, 2)), np.zeros((0, 2))) is None


def test_dci_needs_two_labels(labels):
    assert dci(labels, labels[:, :1]) is None


def test_collapsed_latents_are_harmless(labels):
    latents = np.concatenate([labels, np.zeros((2000, 1))], axis=1)
    assert min(scores(latents, labels).values()) > 0.8
