import numpy as np

from psvae_tune.metrics.sampling_error import frames_of


def test_frames_of_clips_that_repeat():
    np.testing.assert_array_equal(frames_of([2, 0, 2], [2, 5, 3]), [7, 8, 9, 0, 1, 7, 8, 9])
