import numpy as np
import pytest

from psvae_tune.metrics.seed_agreement import udr

BOTH = np.array([True, True])
FACTORS = {
    "gaussian": lambda rng: rng.normal(size=(2000, 2)),
    "uniform": lambda rng: rng.uniform(-1, 1, size=(2000, 2)),
    "laplace": lambda rng: rng.laplace(size=(2000, 2)),
}


def fits(factors, is_rotated, n_fits=6):
    factors = factors / factors.std(axis=0)
    result = []
    for seed in range(n_fits):
        rng = np.random.default_rng(100 + seed)
        angle = rng.uniform(0, 2 * np.pi) if is_rotated else 0.0
        c, s = np.cos(angle), np.sin(angle)
        latents = factors @ np.array([[c, -s], [s, c]]) * rng.choice([-2, 3], size=2)
        result.append((latents + 0.05 * rng.normal(size=latents.shape))[:, rng.permutation(2)])
    return result


@pytest.mark.parametrize("method", ["lasso", "spearman"])
@pytest.mark.parametrize("kind", FACTORS)
def test_rotations_agree_less_than_aligned_fits(kind, method):
    factors = FACTORS[kind](np.random.default_rng(0))
    aligned = udr(fits(factors, is_rotated=False), [BOTH] * 6, method)
    rotated = udr(fits(factors, is_rotated=True), [BOTH] * 6, method)
    assert np.median(aligned.per_fit) > 0.85
    assert np.median(rotated.per_fit) < np.median(aligned.per_fit) - 0.08
    assert aligned.spread.max() < rotated.spread.max()


def test_lasso_of_known_rotations():
    # For independent unit factors the lasso only shrinks: |cos| and |sin| of the angle between
    # two fits, each less the penalty of 0.1. Aligned fits score 0.9.
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(4000, 2))
    factors -= factors.mean(axis=0)
    factors = factors @ np.linalg.inv(np.linalg.cholesky(factors.T @ factors / 4000)).T
    angles = np.array([0.0, 0.0, 0.2, 0.5, np.pi / 4, 1.3])
    rotations = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in angles]
    result = udr([factors @ rotation for rotation in rotations], [BOTH] * 6)
    between = angles[:, None] - angles[None, :]
    strengths = np.abs([np.cos(between), np.sin(between)])
    strengths = np.maximum(strengths - 0.1, 0.0)
    expected = strengths.max(axis=0) ** 2 / strengths.sum(axis=0)
    np.fill_diagonal(expected, 0.0)
    np.testing.assert_allclose(result.pairs, expected, atol=1e-4)
    assert result.pairs[0, 1] == pytest.approx(0.9, abs=1e-4)
    others = expected[~np.eye(6, dtype=bool)].reshape(6, 5)
    np.testing.assert_allclose(result.per_fit, np.median(others, axis=1), atol=1e-4)


def test_spearman_of_equal_fits_by_hand():
    # Ranks of the two latents correlate by 0.8; R = [[1, .8], [.8, 1]], s = 1 / 1.8.
    latents = np.array([[1.0, 2.0], [2.0, 1.0], [3.0, 4.0], [4.0, 3.0], [5.0, 5.0]])
    result = udr([latents, latents], [BOTH] * 2, "spearman")
    np.testing.assert_allclose(result.per_fit, 1 / 1.8)
    np.testing.assert_allclose(result.pairs, (1 - np.eye(2)) / 1.8)
    np.testing.assert_array_equal(result.spread, 0)


def test_one_odd_fit_is_the_lowest_and_does_not_sink_the_others():
    aligned = fits(FACTORS["gaussian"](np.random.default_rng(0)), is_rotated=False, n_fits=4)
    odd = np.random.default_rng(1).normal(size=(2000, 2))
    result = udr([*aligned, odd], [BOTH] * 5)
    assert result.per_fit.argmin() == 4
    assert result.per_fit[:4].min() > 0.85


def test_collapsed_latents_are_left_out():
    aligned = fits(FACTORS["gaussian"](np.random.default_rng(0)), is_rotated=False, n_fits=3)
    noise = np.random.default_rng(1).normal(size=(2000, 1))
    padded = [np.concatenate([latents, noise], axis=1) for latents in aligned]
    result = udr(padded, [np.array([True, True, False])] * 3)
    np.testing.assert_array_equal(result.pairs, udr(aligned, [BOTH] * 3).pairs)


def test_fit_without_an_active_latent_agrees_with_none():
    aligned = fits(FACTORS["gaussian"](np.random.default_rng(0)), is_rotated=False, n_fits=3)
    result = udr(aligned, [BOTH, BOTH, ~BOTH])
    assert result.per_fit[2] == 0.0
    assert result.pairs[0, 1] > 0.85


@pytest.mark.parametrize("method", ["lasso", "spearman"])
def test_constant_means_and_single_latents_are_harmless(method):
    rng = np.random.default_rng(0)
    varying, constant = rng.normal(size=(50, 1)), np.full((50, 1), 0.3)
    result = udr([varying, varying, constant], [np.array([True])] * 3, method)
    assert result.pairs[0, 1] > 0.85
    assert result.per_fit[2] == 0.0


def test_one_fit_agrees_with_nobody():
    assert udr([np.zeros((10, 2))], [BOTH]) is None
    assert udr([], []) is None
