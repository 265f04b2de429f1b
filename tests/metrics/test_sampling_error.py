import numpy as np
import pytest

from psvae_tune.metrics.label_prediction import label_r2
from psvae_tune.metrics.latent_dependence import latent_correlation
from psvae_tune.metrics.sampling_error import N_RESAMPLES, frames_of, sampling_errors
from tests.support.signals import draw_ar1

N_CLIPS, CLIP_LENGTH = 20, 40


def score_means(values):
    return lambda clips: {"mean": float(values[clips].mean())}


@pytest.mark.parametrize("n_clips", [2, 5, 100])
def test_the_error_of_a_mean_is_that_of_the_textbook(n_clips):
    found, expected = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=n_clips)
        found.append(sampling_errors(score_means(values), n_clips, rng)["mean"])
        expected.append(values.std(ddof=1) / np.sqrt(n_clips))
    ratio = np.divide(found, expected)
    assert np.sqrt(np.mean(ratio**2)) == pytest.approx(1, abs=0.05)
    assert np.std(ratio) < 0.2


@pytest.mark.parametrize("metric", ["correlation", "r2"])
def test_the_error_is_the_spread_over_recordings(metric):
    """Frames of a clip resemble each other, so that few of them count."""

    def record(rng):
        clips = [draw_ar1(rng, CLIP_LENGTH, 2, 8) for _ in range(N_CLIPS)]
        signals = np.concatenate(clips) @ [[1, 0.7], [0, 0.7]]

        def score(drawn):
            x, y = signals[frames_of(drawn, [CLIP_LENGTH] * N_CLIPS)].T[:, :, None]
            if metric == "r2":
                return {metric: label_r2(y, 0.7 * x).mean}
            return {metric: latent_correlation(np.concatenate([x, y], axis=1))}

        return score

    rng = np.random.default_rng(0)
    scores = [record(rng) for _ in range(60)]
    spread = np.std([score(np.arange(N_CLIPS))[metric] for score in scores])
    errors = [sampling_errors(score, N_CLIPS, rng)[metric] for score in scores]
    assert np.median(errors) == pytest.approx(spread, rel=0.25)


def test_same_seed_same_error():
    values = np.random.default_rng(0).normal(size=9)
    first, again = (
        sampling_errors(score_means(values), 9, np.random.default_rng(1)) for _ in range(2)
    )
    assert first == again


def test_what_few_resamples_have_gets_an_error_of_these():
    calls = iter(range(N_RESAMPLES))

    def score(clips):
        call = next(calls)
        often = {"often": float(call % 2)} if call % 5 else {}
        return often | {"once": None if call else 1.0}

    found = sampling_errors(score, 3, np.random.default_rng(0))
    assert set(found) == {"often"}
    values = [call % 2 for call in range(N_RESAMPLES) if call % 5]
    assert found["often"] == pytest.approx(np.std(values, ddof=1) * np.sqrt(3 / 2))


@pytest.mark.parametrize("n_clips", [0, 1])
def test_one_clip_tells_nothing_of_others(n_clips):
    assert sampling_errors(score_means(np.ones(1)), n_clips, np.random.default_rng(0)) == {}


def test_frames_of_clips_that_repeat():
    np.testing.assert_array_equal(frames_of([2, 0, 2], [2, 5, 3]), [7, 8, 9, 0, 1, 7, 8, 9])
