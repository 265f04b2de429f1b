import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psvae_tune.metrics.latent_dependence import (
    MIN_KL,
    find_active,
    gaussian_tc,
    hsic,
    latent_correlation,
    mean_kl,
)
from tests.support.signals import draw_ar1

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
    total = 0.5 * (np.log(4 * 1 * 9) - np.log(np.linalg.det(covariance)))
    assert gaussian_tc(latents) == pytest.approx(total / 3)


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

    def above_chance(k, m):
        shifted = [np.roll(m, (shift, shift), axis=(0, 1)) for shift in range(n)]
        return np.sum(k * m) - np.mean([np.sum(k * other) for other in shifted])

    k, m = centred
    # The seed is one of those whose latents look more alike than by chance.
    expected = above_chance(k, m) / np.sqrt(above_chance(k, k) * above_chance(m, m))
    assert expected > 0.01
    assert hsic(latents) == pytest.approx(expected)


@pytest.mark.parametrize("memory", [0, 3, 10])
def test_memory_does_not_make_independent_latents_dependent(memory):
    """Without the chance level, 160 frames score 3 / n to 12 / n."""
    rng = np.random.default_rng(0)
    scores = [hsic(draw_ar1(rng, 160, 6, memory)) for _ in range(20)]
    assert np.mean(scores) < 1 / 160
    latents = draw_ar1(rng, 160, 2, memory)
    mixed = latents @ np.array([[1, 0.8], [0, 0.6]])
    assert hsic(mixed) > 0.25


def equicorrelated(correlation, n_latents):
    covariance = np.full((n_latents, n_latents), correlation)
    np.fill_diagonal(covariance, 1.0)
    return with_covariance(covariance, np.random.default_rng(0).normal(size=(400, n_latents)))


@pytest.mark.parametrize("metric", PAIRWISE)
def test_more_latents_do_not_score_higher(metric):
    """The sum over latents grew 28-fold from 2 to 8 latents of chance."""
    rng = np.random.default_rng(0)
    few, many = (np.mean([metric(rng.normal(size=(100, n))) for _ in range(40)]) for n in (2, 8))
    assert many == pytest.approx(few, rel=0.5, abs=0.003)
    for correlation in (0.1, 0.5):
        # The same dependence of every pair; a sum would grow 6.5- to 15-fold.
        few, many = (metric(equicorrelated(correlation, n)) for n in (2, 8))
        assert 0.4 * few < many < 1.1 * few + 0.01


def test_hsic_sees_a_rotation_of_uniform_factors_that_correlation_cannot():
    factors = with_covariance(np.eye(2), np.random.default_rng(0).uniform(-1, 1, size=(2000, 2)))
    for latents in (factors, rotated(factors)):
        assert latent_correlation(latents) == pytest.approx(0, abs=1e-9)
        assert gaussian_tc(latents) == pytest.approx(0, abs=1e-9)
    assert hsic(rotated(factors)) > 0.02
    assert hsic(factors) < 0.005


@pytest.mark.parametrize("metric", PAIRWISE)
@given(seed=st.integers(0, 1000))
def test_order_sign_and_scale_change_nothing(metric, seed):
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 3))
    # What is there by chance depends on the memory of the latents, so time stays in order.
    frames = rng.permutation(40) if metric is not hsic else np.roll(np.arange(40), seed)[::-1]
    changed = latents[frames][:, rng.permutation(3)]
    changed = changed * [1e3, -1e-3, 1.0] + [5.0, 0.0, -1.0]
    assert metric(changed) == pytest.approx(metric(latents), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("metric", PAIRWISE)
@pytest.mark.parametrize("shape", [(100, 1), (100, 0), (1, 3), (0, 3)])
def test_nothing_to_compare_is_no_metric(metric, shape):
    assert metric(np.zeros(shape)) is None


@pytest.mark.parametrize("metric", PAIRWISE)
def test_constant_latent_depends_on_nothing(metric):
    latents = np.random.default_rng(0).normal(size=(100, 3)) @ [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    latents[:, 2] = 0.1
    assert metric(latents) == pytest.approx(metric(latents[:, :2]) / 3)
    assert metric(latents) > 0.05
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


@pytest.mark.parametrize("n_frames", [2, 3, 100])
def test_latents_that_only_alternate_cannot_be_told_from_chance(n_frames):
    alternating = np.arange(n_frames)[:, None] % 2.0
    noise = np.random.default_rng(0).normal(size=(n_frames, 1))
    score = hsic(np.concatenate([alternating, noise], axis=1))
    assert 0 <= score <= 1
    if n_frames % 2 == 0:
        assert score == 0.0


def test_float32_is_computed_in_float64():
    latents = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32) * 1e-2 + 100
    expected = np.corrcoef(latents.astype(np.float64).T)[0, 1]
    assert latent_correlation(latents) == pytest.approx(abs(expected), rel=1e-9)


def test_mean_kl_by_hand():
    mean = np.array([[1.0, 0.0], [-1.0, 0.0]])
    logvar = np.log([[1.0, 0.25], [1.0, 0.25]])
    expected = [0.5, 0.5 * (0.25 - np.log(0.25) - 1)]
    np.testing.assert_allclose(mean_kl(mean, logvar), expected)


def test_collapsed_latents_are_not_active():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(100, 4)) * [1.0, 0.01, 0.3, 1e-3]
    logvar = np.zeros((100, 4))
    np.testing.assert_array_equal(find_active(mean, logvar), [True, False, True, False])
    np.testing.assert_array_equal(find_active(mean, logvar), mean_kl(mean, logvar) > MIN_KL)
    assert not find_active(np.zeros((100, 3)), np.zeros((100, 3))).any()
