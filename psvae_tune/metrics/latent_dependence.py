"""Measure how far unsupervised latents depend on each other, and how many of them are in use.

A latent that is constant over the frames depends on nothing and scores 0 with every other
latent. Read these metrics together with `active_units`, which does not count such a latent.
The measures of dependence are None with fewer than two latents or two frames.
"""

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.arrays import Floats, standardise

_N_FRAMES_HSIC = 500


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
    r"""Return the total correlation of a Gaussian with the covariance of the latents.

    .. math:: \tfrac12 \Big(\sum_i \log \Sigma_{ii} - \log\det\Sigma\Big)
              = -\tfrac12 \log\det R

    with :math:`R` the correlation matrix. Its eigenvalues are kept above machine precision, so
    that two equal latents score about 18 nats instead of infinity.

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
    eigenvalues = np.linalg.eigvalsh(_correlation_matrix(latents))
    log_det = np.log(np.maximum(eigenvalues, np.finfo(np.float64).eps)).sum()
    return max(0.0, -0.5 * float(log_det))


def hsic(latents: Floats) -> float | None:
    r"""Return the mean normalised Hilbert-Schmidt independence criterion over pairs of latents.

    .. math:: \frac{\langle \bar K_i, \bar K_j \rangle}
                   {\|\bar K_i\| \, \|\bar K_j\|},
              \qquad K_i(t, s) = \exp\Big(-\frac{(z_{ti} - z_{si})^2}{2\sigma_i^2}\Big)

    with :math:`\bar K` centred over rows and columns and :math:`\sigma_i` the median distance
    between two frames. It is 0 only for independent latents; the estimate is biased upwards by
    about 1/frames. Longer splits are thinned evenly to 500 frames, which bounds the cost.

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
    Gretton et al. (2005), Measuring statistical dependence with Hilbert-Schmidt norms.
    Cortes et al. (2012), Algorithms for learning kernels based on centered alignment.
    """
    if min(latents.shape) < 2:
        return None
    n_frames = min(len(latents), _N_FRAMES_HSIC)
    rows = np.linspace(0, len(latents) - 1, n_frames).round().astype(int)
    kernels = np.stack([_unit_kernel(column) for column in standardise(latents[rows]).T])
    return _mean_over_pairs(np.clip(kernels @ kernels.T, 0.0, 1.0))


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


def active_units(mean: Floats, logvar: Floats, threshold: float = 0.01) -> int:
    """Return how many latents carry information: those with a mean KL above the threshold.

    Parameters
    ----------
    mean, logvar
        (frame, latent); ``logvar`` is the log variance
    threshold
        Nats

    References
    ----------
    Duan et al. (2020), Unsupervised model selection for variational disentangled
    representation learning, arXiv:1905.12614.
    """
    return int(np.count_nonzero(mean_kl(mean, logvar) > threshold))


def _correlation_matrix(latents: Floats) -> NDArray[np.float64]:
    z = standardise(latents)
    matrix = np.clip(z.T @ z / len(z), -1.0, 1.0)
    np.fill_diagonal(matrix, 1.0)
    return np.asarray(matrix)


def _mean_over_pairs(matrix: NDArray[np.float64]) -> float:
    return float(matrix[np.triu_indices(len(matrix), k=1)].mean())


def _unit_kernel(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centred Gaussian kernel of one latent as a flat unit vector, or zeros."""
    distance = np.abs(values[:, None] - values[None, :])
    off_diagonal = distance[np.triu_indices(len(values), k=1)]
    # The median is 0 where most frames share one value; the mean is 0 only where all do.
    bandwidth = np.median(off_diagonal) or off_diagonal.mean()
    if bandwidth == 0:
        return np.zeros(distance.size)
    kernel = np.exp(-0.5 * (distance / bandwidth) ** 2)
    kernel -= kernel.mean(axis=0)
    kernel -= kernel.mean(axis=1, keepdims=True)
    return np.asarray((kernel / np.linalg.norm(kernel)).ravel())
