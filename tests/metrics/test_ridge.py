"""Ridge regressions against those of scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit

from psvae_tune.metrics.ridge import MAX_FOLDS, PENALTIES, predict_by_kernel, predict_new

CLIPS = np.repeat(np.arange(10), 6)
FOLDS = PredefinedSplit(CLIPS % MAX_FOLDS)


def draw(n_features=8, n_targets=3):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, n_features)) * rng.uniform(0.1, 3, n_features) + 5
    weights = rng.standard_normal((n_features, n_targets))
    noise = np.array([0.1, 3, 30])[:n_targets]
    return features, features @ weights + noise * rng.standard_normal((60, n_targets)) - 7


def unit_of(features):
    """Return the mean eigenvalue of the products of centred features, as often as they are."""
    centred = features - features.mean(axis=0)
    return (centred**2).sum() / features.shape[1]


def best_ridges(features, target):
    """Return the penalty that is best on clips that are left out, by a loop over all."""
    errors = []
    for p in PENALTIES:
        predicted = np.zeros(len(target))
        for train, test in FOLDS.split():
            model = Ridge(p * unit_of(features[train])).fit(features[train], target[train])
            predicted[test] = model.predict(features[test])
        errors.append(((predicted - target) ** 2).sum())
    return PENALTIES[int(np.argmin(errors))]


def test_new_frames_are_predicted_as_by_the_ridge_that_is_best_on_clips_left_out():
    features, targets = draw()
    new = np.random.default_rng(1).standard_normal((9, 8)) + 5
    found = predict_new(features, targets, CLIPS, new)
    penalties = []
    for column, target in enumerate(targets.T):
        penalties.append(best_ridges(features, target))
        model = Ridge(penalties[-1] * unit_of(features)).fit(features, target)
        np.testing.assert_allclose(found[:, column], model.predict(new), rtol=1e-6, atol=1e-8)
    assert len(set(penalties)) > 1


def test_a_linear_kernel_predicts_clips_as_the_ridge_on_the_others():
    """Each target is predicted with one of the penalties, the one of the least error."""
    features, targets = draw()
    found = predict_by_kernel(features @ features.T, targets, CLIPS)
    for column, target in enumerate(targets.T):
        # The unit is per frame here, and per feature in scikit-learn's dual.
        guesses = []
        for p in PENALTIES:
            guess = np.zeros(len(target))
            for train, test in FOLDS.split():
                x = features[train]
                model = Ridge(p * unit_of(x) * x.shape[1] / len(x)).fit(x, target[train])
                guess[test] = model.predict(features[test])
            guesses.append(guess)
        best = min(guesses, key=lambda guess: ((guess - target) ** 2).sum())
        np.testing.assert_allclose(found[:, column], best, rtol=1e-6, atol=1e-8)


def test_the_intercept_is_not_shrunk():
    features = np.random.default_rng(0).standard_normal((60, 4))
    targets = np.full((60, 1), 1e6)
    assert predict_new(features, targets, CLIPS, features) == pytest.approx(1e6)
    assert predict_by_kernel(features @ features.T, targets, CLIPS) == pytest.approx(1e6)


def test_features_that_do_not_vary_predict_the_mean():
    features, targets = np.ones((60, 2)), np.arange(60.0)[:, None]
    assert predict_new(features, targets, CLIPS, features[:3]) == pytest.approx(29.5)


def test_alike_frames_of_a_clip_do_not_tell_the_penalty():
    """Targets that are constant in each clip and unrelated to features are hardly predicted."""
    rng = np.random.default_rng(0)
    clips = np.repeat(np.arange(20), 10)
    features = rng.standard_normal((20, 30))[clips] + 0.01 * rng.standard_normal((200, 30))
    targets = rng.standard_normal((20, 40))[clips]
    new = rng.standard_normal((50, 30))
    by_clips = predict_new(features, targets, clips, new)
    by_frames = predict_new(features, targets, np.arange(200), new)
    assert by_clips.std() < 0.6 * by_frames.std()
