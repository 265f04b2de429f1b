"""Frames of a linear generator, whose principal variances are known."""

import numpy as np

SIZE = 16


def generate(variances, n_clips=20, clip_length=15, noise=0.0, seed=0, wave=None):
    """Return frames in [0, 1], the standard normal factors behind them, and their clips.

    Parameters
    ----------
    variances
        Principal variance, summed over pixels, of the component of each factor.
    n_clips, clip_length
        Number of clips, and of the frames of each.
    noise
        Standard deviation of each pixel around the linear frame.
    seed
        Seed of everything that is drawn.
    wave
        Function of the factors, (frame, factor), that gives the frames in their place.

    Returns
    -------
    tuple
        (frame, 1, height, width), (frame, factor), (frame,).
    """
    rng = np.random.default_rng(seed)
    n_frames = n_clips * clip_length
    drawn = rng.standard_normal((n_frames, len(variances)))
    # Uncorrelated and of unit variance to the last digit, so that the variances are exact.
    factors, _ = np.linalg.qr(drawn - drawn.mean(axis=0))
    factors *= np.sqrt(n_frames)
    patterns, _ = np.linalg.qr(rng.standard_normal((SIZE**2, len(variances))))
    values = factors if wave is None else wave(factors)
    pixels = 0.5 + values @ (patterns * np.sqrt(variances)).T
    pixels += noise * rng.standard_normal(pixels.shape)
    frames = pixels.astype(np.float32).reshape(n_frames, 1, SIZE, SIZE)
    return frames, factors, np.repeat(np.arange(n_clips), clip_length)
