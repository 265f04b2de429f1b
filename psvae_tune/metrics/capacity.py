r"""How many latents frames keep active beside the labels, by the theory of linear models.

A linear variational autoencoder with a Gaussian likelihood of variance σ² a pixel is probabilistic
PCA: at the optimum, the i-th latent is active only if the i-th principal variance λ of the frames
(in [0, 1], summed over pixels) exceeds σ², and the share 1 − σ²/λ of its component survives.
Labels have latents of their own; the unsupervised ones compete for what labels do not explain.
Convolutional networks are not linear, so this is a guide.

References
----------
Tipping, Bishop (1999), Probabilistic principal component analysis;
Lucas, Tucker, Grosse, Norouzi (2019), Don't blame the ELBO!, https://arxiv.org/abs/1911.02469
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from psvae_tune.errors import DataError
from psvae_tune.metrics.arrays import Array, Floats, Mask, valid_entries
from psvae_tune.metrics.ridge import predict_by_kernel

MAX_COMPONENTS = 100
"""Number of components beyond which the rest counts as noise, of which labels explain nothing."""
STRONG = 10.0
"""λ / σ² of a component of which nine tenths survive."""
_FARTHEST = 4.0  # standard deviations of a label; what is farther away is a slip of a tracker


@dataclass(frozen=True, slots=True, eq=False)
class Capacity:
    """Principal variances of frames in [0, 1], summed over pixels."""

    frames: NDArray[np.float64]
    """(component,), descending, of the frames."""
    residual: NDArray[np.float64]
    """(component,), descending, of what the labels leave; of the frames where there are none."""
    total: float
    """Variance of the frames, all components together."""
    left: float
    """Variance that the labels leave."""
    n_pixels: int

    def surviving(self, variance: float) -> NDArray[np.float64]:
        """Return the share 1 − σ²/λ of each residual component that survives; 0 for the others."""
        return np.clip(1 - variance / np.maximum(self.residual, 1e-300), 0, 1)

    def count_active(self, variance: float) -> int:
        """Return the number of components that labels leave and that exceed σ²."""
        return int((self.residual > variance).sum())

    def noise(self, n_latents: int) -> float:
        """Return the mean variance of a pixel beside the first residual components.

        It is the σ² that is most likely in probabilistic PCA of the residual.
        """
        left = self.left - self.residual[:n_latents].sum()
        return float(max(left, 0) / max(self.n_pixels - n_latents, 1))

    def stands_out(self, n_latents: int) -> bool:
        """Return whether the last of so many residual components has ten times that of noise."""
        if n_latents > len(self.residual):
            return False
        return bool(self.residual[n_latents - 1] >= STRONG * self.noise(n_latents))

    def choose_variance(self, n_latents: int) -> float:
        """Return the σ² with which nine tenths of the wanted components survive.

        It is a tenth of the weakest wanted λ, at most 1 as published, and at least `noise`, below
        which latents would code noise.
        """
        wanted = self.residual[: max(n_latents, 1)]
        return float(max(min(1.0, wanted[-1] / STRONG), self.noise(n_latents)))


def measure_capacity(
    frames: Array,
    clips: NDArray[np.integer],
    labels: Floats | None = None,
    frame_mask: Mask | None = None,
    label_mask: Mask | None = None,
    sessions: NDArray[np.integer] | None = None,
) -> Capacity:
    """Measure the principal variances of frames, and of what the labels leave of them.

    The labels' share is that of a kernel ridge regression which predicts the frames of clips that
    it has not seen, so that what fits by chance does not count. It is too small where there are
    few clips to learn from; `Capacity.residual` is then too large.

    Parameters
    ----------
    frames
        (frame, channel, height, width), uint8 or floats in [0, 1]
    clips
        (frame,), the clip of each frame
    labels
        (frame, label), standardised; None where a model does not see any
    frame_mask
        As the frames, 0 where a pixel does not count. As in the likelihood, those that count stand
        for all.
    label_mask
        (frame, label), 0 where the tracker lost the point
    sessions
        (frame,), the session of each, whose mean frames count for nothing; None for models without
        latents for the differences between sessions

    Raises
    ------
    DataError
        If the masks hide all pixels, the frames never vary, or there is a single clip of which no
        part can be left out.
    """
    # One thread gives the same digits everywhere, and does not wait for those of other processes.
    with threadpool_limits(1):
        centred = _centre(frames, frame_mask, sessions)
        return _measure(*centred, clips, labels, label_mask)


def _measure(
    pixels: NDArray[np.float32],
    scale: float,
    clips: NDArray[np.integer],
    labels: Floats | None,
    label_mask: Mask | None,
) -> Capacity:
    total = float((pixels**2).sum(dtype=np.float64)) * scale
    if total <= 0:
        raise DataError("frames", "never vary, so no latent can be active")
    scores = _principal_scores(pixels)
    variances = (scores**2).sum(axis=0) * scale
    n_pixels = pixels.shape[1]
    if labels is None or not labels.shape[1]:
        return Capacity(variances, variances, total, total, n_pixels)
    if len(np.unique(clips)) == 1:
        raise DataError("frames", "need two clips or more, of which one is left out, got 1")
    residual = scores - predict_by_kernel(_label_kernel(labels, label_mask), scores, clips)
    values = np.linalg.eigvalsh(residual.T @ residual)[::-1] * scale
    explained = float((scores**2).sum() - (residual**2).sum()) * scale
    return Capacity(variances, np.maximum(values, 0), total, total - explained, n_pixels)


def _centre(
    frames: Array, mask: Mask | None, sessions: NDArray[np.integer] | None
) -> tuple[NDArray[np.float32], float]:
    """Return (frame, pixel) around the mean frame, 0 where masked, and the factor of variances."""
    pixels = frames.reshape(len(frames), -1).astype(np.float32)
    if frames.dtype == np.uint8:
        pixels /= 255
    valid = np.ones((1, 1), bool) if mask is None else np.asarray(mask, bool)
    valid = np.broadcast_to(valid.reshape(len(valid), -1), pixels.shape)
    if not valid.any():
        raise DataError("masks", "hide every pixel of every frame")
    groups = np.zeros(len(pixels), int) if sessions is None else sessions
    for group in np.unique(groups):
        rows = groups == group
        total = np.where(valid[rows], pixels[rows], 0).sum(axis=0, dtype=np.float64)
        mean = (total / np.maximum(valid[rows].sum(axis=0), 1)).astype(np.float32)
        pixels[rows] = np.where(valid[rows], pixels[rows] - mean, 0)
    return pixels, valid.size / int(valid.sum()) / len(pixels)


def _principal_scores(pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (frame, component), the strongest first, without components that do not vary."""
    # There are fewer frames than pixels, or the other way round.
    is_wide = pixels.shape[1] > len(pixels)
    gram = pixels @ pixels.T if is_wide else pixels.T @ pixels
    squares, axes = np.linalg.eigh(gram.astype(np.float64))
    kept = np.argsort(squares)[::-1][:MAX_COMPONENTS]
    kept = kept[squares[kept] > 1e-7 * squares.max()]
    if is_wide:
        return np.asarray(axes[:, kept] * np.sqrt(squares[kept]))
    return np.asarray(pixels @ axes[:, kept])


def _label_kernel(labels: Floats, label_mask: Mask | None) -> NDArray[np.float64]:
    """Return a Gaussian kernel of the labels and of where they are masked, (frame, frame).

    It is as wide as two frames are apart whose labels all differ by one standard deviation.
    """
    valid = valid_entries(labels, label_mask)
    z = np.clip(np.where(valid, labels, 0).astype(np.float64), -_FARTHEST, _FARTHEST)
    columns = np.concatenate([z, ~valid[:, (~valid).any(axis=0)]], axis=1)
    squares = (columns**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * columns @ columns.T
    return np.asarray(np.exp(-np.maximum(distances, 0) / (2 * columns.shape[1])))
