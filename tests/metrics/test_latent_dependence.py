import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psvae_tune.metrics.latent_dependence import (
    active_units,
    gaussian_tc,
    hsic,
    latent_correlation,
    mean_kl,
)

PAIRWISE = [latent_correlation, gaussian_tc, hsic]


def rotated(latents, angle=np.pi / 4):
    c, s = np.cos(angle), np.sin(angle)
    return latents @ np.array([[c, -s], [s, c]])


def with_covariance(covariance, draws):
    """Return frames made from draws whose sample covariance is exact."""
    draws = draws - draws.mean(axis=0)
    whitened = draws @ np.linalg.inv(np.linalg.cholesky(np.cov(draws.T, bias=True))).T
    return whitened @ np.linalg.cholesky(covariance).T


def test_known_covariance():
    covariance = np.array([[4.0, 1.0, 0.0], [1.0, 1.0, -0.5], [0.0, -0.5, 9.0]])
    latents = with_covariance(covariance, np.random.default_rng(0).normal(size=(200, 3)))
    correlations = [1 / 2, 0.0, 0.5 / 3]
    assert latent_correlation(latents) == pytest.approx(np.mean(correlations))
    expected = 0.5 * (np.log(4 * 1 * 9) - np.log(np.linalg.det(covariance)))
    assert gaussian_tc(latents) == pytest.approx(expected)


def test_two_gaussians_have_the_mutual_information_of_the_textbook():
    draws = np.random.default_rng(0).normal(size=(200, 2))
    latents = with_covariance(np.array([[1.0, 0.8], [0.8, 1.0]]), draws)
    assert gaussian_tc(latents) == pytest.approx(-0.5 * np.log(1 - 0.8**2))


def test_hsic_equals_its_definition():
    latents = np.random.default_rng(0).normal(size=(12, 2))
    n = len(latents)
    centring = np.eye(n) - 1 / n
    centred = []
    for z in latents.T:
        distances = [abs(z[i] - z[j]) for i in range(n) for j in range(i)]
        width = np.median(distances)
        kernel = np.array([[np.exp(-((a - b) ** 2) / (2 * width**2)) for b in z] for a in z])
        centred.append(centring @ kernel @ centring)
    k, m = centred
    expected = np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))
    assert hsic(latents) == pytest.approx(expected)


def test_hsic_sees_a_rotation_of_uniform_factors_that_correlation_cannot():
    factors = with_covariance(np.eye(2), np.random.default_rng(0).uniform(-1, 1, size=(2000, 2)))
    for latents in (factors, rotated(factors)):
        assert latent_correlation(latents) == pytest.approx(0, abs=1e-9)
        assert gaussian_tc(latents) == pytest.approx(0, abs=1e-9)
    assert hsic(rotated(factors)) > 4 * hsic(factors)


@pytest.mark.parametrize("metric", PAIRWISE)
@given(seed=st.integers(0, 1000))
def test_order_sign_and_scale_change_nothing(metric, seed):
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 3))
    changed = latents[rng.permutation(40)][:, rng.permutation(3)]
    changed = changed * [1e3, -1e-3, 1.0] + [5.0, 0.0, -1.0]
    assert metric(changed) == pytest.approx(metric(latents), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("metric", PAIRWISE)
@pytest.mark.parametrize("shape", [(100, 1), (100, 0), (1, 3), (0, 3)])
def test_nothing_to_compare_is_no_metric(metric, shape):
    assert metric(np.zeros(shape)) is None


@pytest.mark.parametrize("metric", PAIRWISE)
def test_collapsed_latent_depends_on_nothing(metric):
    latents = np.random.default_rng(0).normal(size=(100, 3))
    latents[:, 2] = 0.1
    share = 1 if metric is gaussian_tc else 1 / 3  # a sum against a mean over three pairs
    assert metric(latents) == pytest.approx(share * metric(latents[:, :2]))
    assert metric(np.full((100, 3), 0.3)) == 0.0


@pytest.mark.parametrize("metric", PAIRWISE)
def test_equal_latents_score_highest(metric):
    latents = np.random.default_rng(0).normal(size=(100, 1))
    value = metric(np.concatenate([latents, latents], axis=1))
    if metric is gaussian_tc:
        assert 10 < value < 20
    else:
        assert value == pytest.approx(1.0)


def test_latent_that_mostly_rests_at_one_value():
    latents = np.zeros((100, 2))
    latents[:10] = np.random.default_rng(0).normal(size=(10, 2))
    assert 0 < hsic(latents) <= 1


def test_float32_is_computed_in_float64():
    latents = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32) * 1e-2 + 100
    expected = np.corrcoef(latents.astype(np.float64).T)[0, 1]
    assert latent_correlation(latents) == pytest.approx(abs(expected), rel=1e-9)


def test_mean_kl_by_hand():
    mean = np.array([[1.0, 0.0], [-1.0, 0.0]])
    logvar = np.log([[1.0, 0.25], [1.0, 0.25]])
    expected = [0.5, 0.5 * (0.25 - np.log(0.25) - 1)]
    np.testing.assert_allclose(mean_kl(mean, logvar), expected)


def test_active_units_do_not_count_collapsed_latents():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(100, 3)) * [1.0, 0.01, 0.3]
    assert active_units(mean, np.zeros((100, 3))) == 2
    assert active_units(mean, np.zeros((100, 3)), threshold=0.2) == 1
    assert active_units(np.zeros((100, 3)), np.zeros((100, 3))) == 0
