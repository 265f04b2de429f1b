"""The terms of every objective: pure functions of tensors, each with its equation.

All are minimised and in nats per frame, except the squared errors. Shape suffixes are used
where two frame axes meet: F the frame that was drawn, G the frame whose posterior it is
scored under, D the latent.
"""

import math
from typing import NamedTuple

import torch
from torch import Generator, Tensor

LOG_2PI = math.log(2 * math.pi)


class DecomposedKL(NamedTuple):
    """The three parts of the KL between the posterior and the standard normal."""

    icmi: Tensor
    """Index-code mutual information."""
    tc: Tensor
    """Total correlation."""
    dwkl: Tensor
    """Dimension-wise KL."""


def mean_squared_error(target: Tensor, prediction: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Average the squared error over the valid entries.

    .. math:: \frac{1}{|V|} \sum_{i \in V} (t_i - \hat t_i)^2

    Parameters
    ----------
    target, prediction
        (frame, ...).
    mask
        (frame, ...), 0 where an entry does not count; None where all count. Without any valid
        entry the error is 0.

    Returns
    -------
    Tensor
        Scalar.
    """
    error = target - prediction
    if mask is None:
        return error.square().mean()
    # Entries are selected before they are squared, so that no NaN under the mask reaches the
    # gradient.
    valid = torch.where(mask > 0, error, torch.zeros_like(error))
    return valid.square().sum() / mask.sum().clamp_min(1)


def gaussian_nll(
    target: Tensor, prediction: Tensor, mask: Tensor | None = None, variance: float = 1.0
) -> Tensor:
    r"""Return the negative log-likelihood of a frame under Gaussians of one variance.

    .. math::
        \frac{n}{|V|} \sum_{i \in V}
        \frac{(t_i - \hat t_i)^2 / \sigma^2 + \log 2\pi\sigma^2}{2}

    with n entries a frame. The mean over the valid entries counts for all n, so a masked
    fraction does not change the weight of the term.

    Parameters
    ----------
    target, prediction
        (frame, ...).
    mask
        (frame, ...), 0 where an entry does not count; None where all count.
    variance
        σ², in squared units of an entry.

    Returns
    -------
    Tensor
        Scalar, summed over the entries of a frame and averaged over frames.
    """
    n_entries = target[0].numel()
    error = mean_squared_error(target, prediction, mask)
    return 0.5 * n_entries * (error / variance + (LOG_2PI + math.log(variance)))


def kl_to_std_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    r"""Return the KL divergence of diagonal Gaussians from the standard normal.

    .. math:: \frac12 \sum_d \left(\mu_d^2 + \sigma_d^2 - \log \sigma_d^2 - 1\right)

    Parameters
    ----------
    mean, logvar
        (frame, latent).

    Returns
    -------
    Tensor
        Scalar, summed over latents and averaged over frames.
    """
    return 0.5 * (mean.square() + logvar.exp() - logvar - 1).sum(dim=1).mean()


def decompose_kl(z: Tensor, mean: Tensor, logvar: Tensor) -> DecomposedKL:
    r"""Split the KL of the posterior into mutual information, total correlation and the rest.

    .. math::

        \log q(z|x) - \log p(z) =
        \underbrace{\log\frac{q(z|x)}{q(z)}}_{\mathrm{ICMI}} +
        \underbrace{\log\frac{q(z)}{\prod_d q(z_d)}}_{\mathrm{TC}} +
        \underbrace{\log\frac{\prod_d q(z_d)}{p(z)}}_{\mathrm{DWKL}}

    averaged over the frames, where q(z) and q(z_d) are *means* over the posteriors of the n
    frames. Keeping the 1/n makes the three add up to the mean of log q(z|x) - log p(z), and
    the total correlation of one latent, or of posteriors that are all the same, exactly 0.

    Parameters
    ----------
    z
        (frame, latent), one draw from each posterior.
    mean, logvar
        (frame, latent).

    Returns
    -------
    DecomposedKL
        Scalars.

    References
    ----------
    Chen, Li, Grosse, Duvenaud (2018), Isolating sources of disentanglement in variational
    autoencoders, https://arxiv.org/abs/1802.04942
    """
    log_q_FGD = _log_density(z[:, None], mean[None], logvar[None])
    log_q_FG = log_q_FGD.sum(dim=2)
    conditional = log_q_FG.diagonal()
    joint = _log_mean_exp(log_q_FG)
    product = _log_mean_exp(log_q_FGD).sum(dim=1)
    prior = (-0.5 * (z.square() + LOG_2PI)).sum(dim=1)
    return DecomposedKL(
        icmi=(conditional - joint).mean(),
        tc=(joint - product).mean(),
        dwkl=(product - prior).mean(),
    )


def _log_density(z: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * ((z - mean).square() * (-logvar).exp() + logvar + LOG_2PI)


def _log_mean_exp(log_q: Tensor) -> Tensor:
    """Return the log of the mean over axis 1, exactly the value itself where all are equal."""
    highest = log_q.detach().amax(dim=1, keepdim=True)
    return (log_q - highest).exp().mean(dim=1).log() + highest.squeeze(1)


def triplet_loss(
    mean: Tensor, session_index: Tensor, rng: Generator, margin: float = 1.0
) -> Tensor:
    r"""Pull latents of the same session together and those of different sessions apart.

    .. math:: \frac1n \sum_a \max(0, \|b_a - b_p\| - \|b_a - b_q\| + m)

    Every frame a is the anchor once, with a positive p drawn uniformly from the other frames
    of its session and a negative q from the frames of all other sessions. Frames that have no
    positive or no negative in the batch do not count; the loss of one session alone is 0.

    Parameters
    ----------
    mean
        (frame, latent): means of the background latents.
    session_index
        (frame,) integers.
    rng
        Generator on the device of ``mean``, which draws positives and negatives.
    margin
        Distance by which a negative must be farther away than a positive.

    Returns
    -------
    Tensor
        Scalar.

    References
    ----------
    Schroff, Kalenichenko, Philbin (2015), FaceNet, https://arxiv.org/abs/1503.03832
    """
    itself = torch.eye(len(mean), dtype=torch.bool, device=mean.device)
    is_same = session_index[:, None] == session_index[None]
    is_positive, is_negative = is_same & ~itself, ~is_same
    counts = is_positive.any(dim=1) & is_negative.any(dim=1)

    def distance_to_one_of(is_candidate: Tensor) -> Tensor:
        # An anchor without candidates draws itself, and is left out of the mean.
        is_drawable = torch.where(counts[:, None], is_candidate, itself)
        # As `torch.multinomial` draws, which on a GPU waits for its kernels.
        times = torch.empty_like(is_drawable, dtype=mean.dtype).exponential_(generator=rng)
        drawn = (is_drawable / times).argmax(dim=1)
        return torch.linalg.vector_norm(mean - mean[drawn], dim=1)

    nearer, farther = distance_to_one_of(is_positive), distance_to_one_of(is_negative)
    violation = torch.relu(nearer - farther + margin)
    return (violation * counts).sum() / counts.sum().clamp_min(1)


def projection_error(latents: Tensor, projection: Tensor) -> Tensor:
    r"""Average the squared part of the latents outside the subspace of the labels.

    .. math:: \mathrm{mean}\left[(z - P^\top P z)^2\right]

    Parameters
    ----------
    latents
        (frame, latent).
    projection
        (label, latent): maps latents to labels.

    Returns
    -------
    Tensor
        Scalar.

    References
    ----------
    Li, Lin, Lin, Wang (2020), Latent space factorisation and manipulation via matrix subspace
    projection, https://arxiv.org/abs/1907.12385
    """
    return mean_squared_error(latents, latents @ projection.T @ projection)
