import numpy as np
import pytest
from scipy.stats import norm

from psvae_tune.metrics.session_leakage import session_accuracy


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_separate_sessions_are_told_apart_at_any_scale(rng):
    session = rng.integers(0, 3, size=600)
    latents = (rng.normal(size=(600, 2)) + 20 * np.eye(3, 2)[session]) * [1e4, 1e-4]
    assert session_accuracy(latents[:400], session[:400], latents[400:], session[400:]) > 0.99


def test_equal_sessions_score_chance_however_unequal_in_length(rng):
    session = (rng.random(4000) < 0.1).astype(int)
    latents = rng.normal(size=(4000, 3))
    accuracy = session_accuracy(latents[:2000], session[:2000], latents[2000:], session[2000:])
    assert accuracy == pytest.approx(0.5, abs=0.1)


def test_rare_session_counts_as_much_as_a_common_one(rng):
    # Two unit normals two apart: the best threshold is half way, each side right with Φ(1).
    session = (rng.random(20_000) < 0.05).astype(int)
    latents = rng.normal(size=(20_000, 1)) + 2 * session[:, None]
    half = slice(None, 10_000), slice(10_000, None)
    accuracy = session_accuracy(
        latents[half[0]], session[half[0]], latents[half[1]], session[half[1]]
    )
    assert accuracy == pytest.approx(norm.cdf(1), abs=0.03)


def test_collapsed_latents_score_chance(rng):
    session = np.repeat([0, 1, 2, 3], 25)
    assert session_accuracy(np.zeros((100, 2)), session, np.zeros((100, 2)), session) == 0.25


def test_absent_with_one_session_or_nothing_to_look_at(rng):
    latents, one, two = rng.normal(size=(10, 2)), np.zeros(10, int), np.repeat([0, 1], 5)
    assert session_accuracy(latents, one, latents, one) is None
    assert session_accuracy(latents[:, :0], two, latents[:, :0], two) is None
    assert session_accuracy(latents, two, latents[:0], two[:0]) is None
