"""Measure how far unsupervised latents depend on each other, and how many of them are in use.

The measures of dependence are meant for the latents that `find_active` finds: the signal of a
collapsed latent is tiny, yet may correlate perfectly with another one. They are None with fewer
than two latents or two frames, because nothing is left to compare. Each is a mean over pairs, so
that it compares between numbers of latents.
"""

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.arrays import Floats, standardise

MIN_KL = 0.01
"""Mean KL in nats above which a latent is active."""
_N_FRAMES_HSIC = 250


def latent_correlation(latents: Floats) -> float | None:
    r"""Return the mean absolute Pearson correlation over all pairs of latents.

    .. math:: \frac{2}{D(D-1)} \sum_{i<j} |\rho_{ij}|

    Parameters
    ----------
    latents
        (frame, latent) of posterior means

    Returns
    -------
    float or None
        Score in [0, 1]

    References
    ----------
    Whiteway et al. (2021), Partitioning variability in animal behavioral videos using
    semi-supervised variational autoencoders, PLoS Computational Biology 17(9).
    """
    if min(latents.shape) < 2:
        return None
    return _mean_over_pairs(np.abs(_correlation_matrix(latents)))


def gaussian_tc(latents: Floats) -> float | None:
    r"""Return the total correlation of a Gaussian with the covariance of the latents, per pair.

    .. math:: \frac{2}{D(D-1)} \cdot \tfrac12 \Big(\sum_i \log \Sigma_{ii} - \log\det\Sigma\Big)
              = \frac{-\log\det R}{D(D-1)}

    with :math:`R` the correlation matrix. Its eigenvalues are kept above machine precision, so
    that two equal latents score about 18 nats instead of infinity. The total correlation of weak
    correlations, chance included, grows with the number of pairs, and is flat after the division.

    Parameters
    ----------
    latents
        (frame, latent) of posterior means

    Returns
    -------
    float or None
        Nats, at least 0

    References
    ----------
    Watanabe (1960), Information theoretical analysis of multivariate correlation.
    Locatello et al. (2019), arXiv:1811.12359.
    """
    if min(latents.shape) < 2:
        return None
    n_latents = latents.shape[1]
    eigenvalues = np.linalg.eigvalsh(_correlation_matrix(latents))
    log_det = np.log(np.maximum(eigenvalues, np.finfo(np.float64).eps)).sum()
    return max(0.0, -float(log_det) / (n_latents * (n_latents - 1)))


def hsic(latents: Floats) -> float | None:
    r"""Return the mean normalised Hilbert-Schmidt independence criterion over pairs of latents.

    .. math:: \frac{\langle \tilde K_i, \tilde K_j \rangle}
                   {\|\tilde K_i\| \, \|\tilde K_j\|},
              \qquad K_i(t, s) = \exp\Big(-\frac{(z_{ti} - z_{si})^2}{2\sigma_i^2}\Big)

    with :math:`\sigma_i` the median distance between two frames and :math:`\tilde K` the kernel
    centred over rows and columns, minus the mean of every circular diagonal :math:`s - t`.
    Smooth latents look dependent by chance, since near frames are alike in all of them. That
    level is the mean over circular shifts of one latent against the other, which keep its memory.
    It equals the product of the means of the diagonals, so that the subtraction removes it. It is
    thus 1 for equal latents, and 0 on average for independent ones, before means below 0 are set
    to 0. Longer splits are thinned evenly to 250 frames, which bounds the cost: near frames tell
    little that is new.

    Parameters
    ----------
    latents
        (frame, latent) of posterior means, in the order of time

    Returns
    -------
    float or None
        Score in [0, 1]; a mean below 0 counts as 0

    References
    ----------
    Gretton et al. (2005), Measuring statistical dependence with Hilbert-Schmidt norms.
    Cortes et al. (2012), Algorithms for learning kernels based on centered alignment.
    Chwialkowski and Gretton (2014), A kernel independence test for random processes.
    """
    if min(latents.shape) < 2:
        return None
    n_frames = min(len(latents), _N_FRAMES_HSIC)
    rows = np.linspace(0, len(latents) - 1, n_frames).round().astype(int)
    kernels = np.stack([_unit_kernel(column) for column in standardise(latents[rows]).T])
    return max(0.0, _mean_over_pairs(np.minimum(kernels @ kernels.T, 1.0)))


def mean_kl(mean: Floats, logvar: Floats) -> NDArray[np.float64]:
    r"""Return the KL of each latent's posterior to the standard normal, averaged over frames.

    .. math:: \mathrm{KL}_i = \big\langle \tfrac12 (\mu_{ti}^2 + e^{l_{ti}} - l_{ti} - 1)
              \big\rangle_t

    Parameters
    ----------
    mean, logvar
        (frame, latent); ``logvar`` is the log variance

    Returns
    -------
    NDArray
        (latent,) in nats
    """
    mean, logvar = np.asarray(mean, np.float64), np.asarray(logvar, np.float64)
    return np.asarray(0.5 * (mean**2 + np.expm1(logvar) - logvar).mean(axis=0))


def find_active(mean: Floats, logvar: Floats) -> NDArray[np.bool_]:
    """Return which latents carry information: those with a mean KL above `MIN_KL`.

    Parameters
    ----------
    mean, logvar
        (frame, latent); ``logvar`` is the log variance

    Returns
    -------
    NDArray
        (latent,)

    References
    ----------
    Duan et al. (2020), Unsupervised model selection for variational disentangled
    representation learning, arXiv:1905.12614.
    """
    return np.asarray(mean_kl(mean, logvar) > MIN_KL)


def _correlation_matrix(latents: Floats) -> NDArray[np.float64]:
    z = standardise(latents)
    matrix = np.clip(z.T @ z / len(z), -1.0, 1.0)
    np.fill_diagonal(matrix, 1.0)
    return np.asarray(matrix)


def _mean_over_pairs(matrix: NDArray[np.float64]) -> float:
    return float(matrix[np.triu_indices(len(matrix), k=1)].mean())


def _unit_kernel(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the kernel of one latent as a flat unit vector, or zeros.

    Entry (t, lag) is the kernel of frames t and t + lag, less what depends on the lag alone.
    """
    distance = np.abs(values[:, None] - values[None, :])
    off_diagonal = distance[np.triu_indices(len(values), k=1)]
    # The median is 0 where most frames share one value; the mean is 0 only where all do.
    bandwidth = np.median(off_diagonal) or off_diagonal.mean()
    if bandwidth == 0:
        return np.zeros(distance.size)
    kernel = np.exp(-0.5 * (distance / bandwidth) ** 2)
    kernel -= kernel.mean(axis=0)
    kernel -= kernel.mean(axis=1, keepdims=True)
    frames = np.arange(len(values))
    by_lag = np.take_along_axis(kernel, (frames[:, None] + frames) % len(values), axis=1)
    by_lag -= by_lag.mean(axis=0)
    norm = np.linalg.norm(by_lag)
    # Of a latent that only alternates between two values, nothing is left but rounding errors.
    if norm < 1e-9 * len(values):
        return np.zeros(distance.size)
    return np.asarray((by_lag / norm).ravel())
