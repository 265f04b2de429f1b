"""Principal variances of frames, and of what labels leave of them."""

import numpy as np
import pytest

from psvae_tune.errors import DataError
from psvae_tune.metrics.capacity import measure_capacity
from tests.support.linear_frames import SIZE, generate

VARIANCES = [2.0, 1.2, 0.5, 0.1]


def test_variances_of_frames_are_those_of_their_generator():
    frames, _, clips = generate(VARIANCES)
    found = measure_capacity(frames, clips)
    assert found.frames[:4] == pytest.approx(VARIANCES, rel=1e-4)
    assert found.frames[4:] == pytest.approx(0, abs=1e-5)
    assert found.total == pytest.approx(sum(VARIANCES), rel=1e-4)
    assert (found.residual == found.frames).all()
    assert [found.count_active(variance) for variance in (3, 1, 0.3, 0.05)] == [0, 2, 3, 4]


def test_the_share_that_survives_is_one_minus_the_ratio():
    frames, _, clips = generate(VARIANCES)
    found = measure_capacity(frames, clips)
    assert found.surviving(0.6)[:4] == pytest.approx([0.7, 0.5, 0, 0], abs=1e-3)


def test_bytes_have_the_variances_of_floats_from_zero_to_one():
    frames, _, clips = generate([v / 20 for v in VARIANCES], noise=0.02)
    stored = np.rint(255 * frames.clip(0, 1)).astype(np.uint8)
    exact = measure_capacity(stored / np.float32(255), clips).frames
    assert measure_capacity(stored, clips).frames == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("explained", [[0], [0, 2], [1, 3]])
def test_labels_leave_the_components_of_other_factors(explained):
    frames, factors, clips = generate(VARIANCES, n_clips=40, noise=0.01)
    found = measure_capacity(frames, clips, factors[:, explained])
    left = [v for i, v in enumerate(VARIANCES) if i not in explained]
    assert found.residual[:2] == pytest.approx(left[:2], rel=0.15)
    assert found.residual[len(left)] < 0.1 * VARIANCES[explained[0]]


def test_labels_explain_what_follows_from_them_by_a_curve():
    def wave(factors):
        return np.stack([np.sin(2 * factors[:, 0]), factors[:, 1]], axis=1)

    frames, factors, clips = generate([4.0, 0.5], n_clips=40, wave=wave)
    found = measure_capacity(frames, clips, factors[:, :1])
    assert found.residual[:1] == pytest.approx([0.5], rel=0.1)


def test_labels_explain_nothing_by_chance():
    frames, _, clips = generate(VARIANCES, n_clips=8, noise=0.01)
    rng = np.random.default_rng(1)
    many = rng.standard_normal((len(frames), 60))
    found = measure_capacity(frames, clips, many)
    assert found.residual[:4] == pytest.approx(VARIANCES, rel=0.1)
    assert found.left == pytest.approx(found.total, rel=0.1)


def test_a_bright_scene_is_no_component():
    frames, factors, clips = generate([0.01, 0.005], n_clips=40)
    found = measure_capacity(frames + 0.4, clips, factors[:, :1])
    assert found.residual[:2] == pytest.approx([0.005, 0], abs=1e-3)


def test_masked_labels_do_not_count_and_nothing_of_them_matters():
    frames, factors, clips = generate(VARIANCES, n_clips=40)
    labels = factors[:, :1].copy()
    mask = np.random.default_rng(0).random(labels.shape) < 0.9
    found = measure_capacity(frames, clips, labels, label_mask=mask)
    labels[~mask] = np.nan
    spoilt = measure_capacity(frames, clips, labels, label_mask=mask)
    assert (spoilt.residual == found.residual).all()
    # One frame in ten keeps its first component.
    assert found.residual[:2] == pytest.approx([1.2, 0.5], rel=0.2)
    all_lost = measure_capacity(frames, clips, labels, label_mask=np.zeros_like(mask))
    assert all_lost.residual[:4] == pytest.approx(VARIANCES, rel=0.05)


def test_pixels_that_count_stand_for_those_that_do_not():
    frames, _, clips = generate(VARIANCES)
    mask = np.ones(frames.shape, bool)
    mask[:, :, : SIZE // 4] = False
    spoilt = np.where(mask, frames, 1e6)
    visible = frames[:, :, SIZE // 4 :].reshape(len(frames), -1).astype(np.float64)
    exact = np.linalg.eigvalsh(np.cov(visible.T, bias=True))[::-1]
    found = measure_capacity(spoilt, clips, frame_mask=mask)
    assert found.frames[:4] == pytest.approx(exact[:4] * 4 / 3, rel=1e-3)


def test_the_variance_is_a_tenth_of_the_weakest_wanted_component_and_never_above_one():
    frames, _, clips = generate([30.0, 2.0, 0.05], noise=0.01)
    found = measure_capacity(frames, clips)
    assert found.choose_variance(1) == 1
    assert found.choose_variance(2) == pytest.approx(0.2, rel=0.01)
    # What is left beside two is the third, spread over the pixels, and the noise.
    assert found.noise(2) == pytest.approx((0.05 + SIZE**2 * 1e-4) / SIZE**2, rel=0.1)
    assert found.choose_variance(40) == found.noise(40)


def test_the_difference_between_sessions_is_left_to_background_latents():
    frames, _, clips = generate(VARIANCES)
    sessions = (clips >= 10).astype(int)
    darker = frames - 0.2 * sessions[:, None, None, None].astype(np.float32)
    whole = measure_capacity(darker, clips)
    assert whole.frames[0] == pytest.approx(SIZE**2 * 0.01, rel=0.3)
    parts = measure_capacity(darker, clips, sessions=sessions)
    assert parts.frames[:3] == pytest.approx(VARIANCES[:3], rel=0.05)


@pytest.mark.parametrize(
    ("frames", "more", "problem"),
    [
        (np.full((40, 1, 4, 4), 7, np.uint8), {}, "never vary"),
        (np.random.default_rng(0).random((40, 1, 4, 4)), {"frame_mask": 0}, "hide every pixel"),
        (np.random.default_rng(0).random((40, 1, 4, 4)), {"clips": 0}, "two clips or more"),
    ],
)
def test_what_has_no_capacity_is_one_error(frames, more, problem):
    clips = np.arange(40) // 10 * more.get("clips", 1)
    mask = np.zeros(frames.shape, bool) if "frame_mask" in more else None
    with pytest.raises(DataError, match=problem) as error:
        measure_capacity(frames, clips, np.arange(40.0)[:, None], frame_mask=mask)
    assert len(error.value.problems) == 1
