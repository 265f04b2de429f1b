import numpy as np
import pytest

from psvae_tune.metrics.traversal_localisation import traversal_localisation


def test_single_pixels_apart():
    maps = np.zeros((2, 1, 4, 4))
    maps[0, 0, 0, 0], maps[1, 0, 3, 3] = 0.5, -2.0
    result = traversal_localisation(maps)
    np.testing.assert_allclose(result.concentration, 1.0)
    assert result.overlap == 0.0
    np.testing.assert_array_equal(result.energy, maps != 0)


def test_whole_frame():
    result = traversal_localisation(np.ones((2, 1, 4, 4)))
    np.testing.assert_allclose(result.concentration, 0.0, atol=1e-12)
    assert result.overlap == pytest.approx(1.0)


def test_half_of_the_frame_by_hand():
    maps = np.zeros((2, 1, 4, 4))
    maps[0, 0, :2], maps[1, 0, 1:3] = 1.0, 3.0  # eight pixels each, four shared
    result = traversal_localisation(maps)
    np.testing.assert_allclose(result.concentration, 1 - np.log(8) / np.log(16))
    assert result.overlap == pytest.approx(0.5)


def test_two_views_do_not_overlap():
    maps = np.zeros((2, 2, 3, 3))
    maps[0, 0], maps[1, 1] = 1.0, 1.0
    assert traversal_localisation(maps).overlap == 0.0


def test_strength_and_sign_change_nothing():
    maps = np.random.default_rng(0).normal(size=(3, 1, 5, 6))
    expected = traversal_localisation(maps)
    result = traversal_localisation(maps * np.array([1e-200, -3.0, 1e150])[:, None, None, None])
    np.testing.assert_allclose(result.concentration, expected.concentration)
    assert result.overlap == pytest.approx(expected.overlap)


def test_latent_that_changes_nothing():
    maps = np.zeros((2, 1, 4, 4))
    maps[0, 0, 1, 1] = 1.0
    result = traversal_localisation(maps)
    np.testing.assert_allclose(result.concentration, [1.0, 0.0])
    assert result.overlap == 0.0
    assert not result.energy[1].any()


def test_one_latent_has_no_overlap():
    assert traversal_localisation(np.ones((1, 1, 2, 2))).overlap is None
