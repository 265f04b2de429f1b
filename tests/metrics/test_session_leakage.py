import numpy as np
import pytest
from scipy.stats import norm

from psvae_tune.metrics.session_leakage import (
    predict_sessions,
    session_accuracy,
    session_dominance,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def score(latents, session, n_train):
    """Fit to the first frames, and score the rest."""
    found = predict_sessions(latents[:n_train], session[:n_train], latents[n_train:])
    return session_accuracy(session[n_train:], found, len(np.unique(session[:n_train])))


def test_separate_sessions_are_told_apart_at_any_scale(rng):
    session = rng.integers(0, 3, size=600)
    latents = (rng.normal(size=(600, 2)) + 20 * np.eye(3, 2)[session]) * [1e4, 1e-4]
    assert score(latents, session, 400) > 0.99


def test_equal_sessions_score_chance_however_unequal_in_length(rng):
    session = (rng.random(4000) < 0.1).astype(int)
    accuracy = score(rng.normal(size=(4000, 3)), session, 2000)
    assert accuracy == pytest.approx(0.5, abs=0.1)


def test_rare_session_counts_as_much_as_a_common_one(rng):
    # Two unit normals two apart: the best threshold is half way, each side right with Φ(1).
    session = (rng.random(20_000) < 0.05).astype(int)
    latents = rng.normal(size=(20_000, 1)) + 2 * session[:, None]
    assert score(latents, session, 10_000) == pytest.approx(norm.cdf(1), abs=0.03)


def test_luck_below_chance_is_not_rewarded():
    session = np.array([0, 0, 1, 1, 2, 2])
    for shift in (1, 2):
        assert session_accuracy(session, (session + shift) % 3, 3) == pytest.approx(1 / 3)
    by_hand = np.array([0, 0, 1, 0, 0, 0])
    assert session_accuracy(session, by_hand, 3) == pytest.approx((1 + 1 / 2 + 0) / 3)


@pytest.mark.parametrize("n_latents", [0, 2])
def test_constant_or_absent_latents_score_chance(n_latents):
    session = np.tile([0, 1, 2, 3], 50)
    assert score(np.zeros((200, n_latents)), session, 100) == 0.25


def test_absent_without_frames_to_score():
    assert session_accuracy(np.zeros(0, int), np.zeros(0, int), 2) is None


def dominance(latents, session):
    """Measure frames that lie in clips of 25."""
    return session_dominance(latents, session, np.arange(len(session)) // 25)


def test_latents_that_are_sessions_dominate(rng):
    session = np.repeat(np.arange(8), 100)
    found = dominance(rng.normal(size=(800, 2)) + 100 * rng.normal(size=(8, 2))[session], session)
    assert found.cluster_ami > 0.9
    assert found.sessions_per_cluster == pytest.approx(1, abs=0.2)
    assert found.foreign_neighbours == 0
    assert found.foreign_neighbours_by_chance == pytest.approx(7 / 8, abs=0.04)


def test_latents_that_know_no_session_do_not(rng):
    session = np.repeat(np.arange(4), 200)
    found = dominance(rng.normal(size=(800, 3)), session)
    assert abs(found.cluster_ami) < 0.02
    assert found.sessions_per_cluster == pytest.approx(4, abs=0.2)
    assert found.foreign_neighbours == pytest.approx(found.foreign_neighbours_by_chance, abs=0.06)


@pytest.mark.parametrize("sessions", [[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1], [0, 1, 0, 1, 0, 1]])
def test_latents_that_do_not_vary_know_no_session(sessions):
    session, clip = np.repeat(sessions, 40), np.repeat(np.arange(6), 40)
    found = session_dominance(np.full((240, 2), 3.0), session, clip)
    assert found.cluster_ami == 0
    assert found.foreign_neighbours == found.foreign_neighbours_by_chance
    assert 1 < found.sessions_per_cluster <= 2


def test_neighbours_are_those_of_a_search_through_all_other_clips(rng):
    session, clip = np.repeat([0, 1, 1], 20), np.repeat(np.arange(6), 10)
    latents = rng.normal(size=(60, 2)) + session[:, None]
    found = session_dominance(latents, session, clip)
    z = (latents - latents.mean(axis=0)) / latents.std(axis=0)
    foreign = []
    for i in range(60):
        others = [j for j in range(60) if clip[j] != clip[i]]
        nearest = min(others, key=lambda j: ((z[i] - z[j]) ** 2).sum())
        foreign.append(session[nearest] != session[i])
    assert found.foreign_neighbours == np.mean(foreign)
