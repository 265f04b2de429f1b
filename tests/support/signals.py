"""Signals with a memory, as movements and latents are."""

import numpy as np


def draw_ar1(rng, n_frames, n_signals, memory):
    """Draw independent AR(1) signals of unit variance, of shape (frame, signal).

    Their autocorrelation falls to 1/e over ``memory`` frames; 0 is white noise.
    """
    kept = np.exp(-1 / memory) if memory else 0.0
    signals = rng.normal(size=(n_frames, n_signals))
    for frame in range(1, n_frames):
        signals[frame] = kept * signals[frame - 1] + np.sqrt(1 - kept**2) * signals[frame]
    return signals
