"""The latent space: posteriors, their partition into blocks, and the rotation behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Generator, Tensor

from psvae_tune.config.model import ModelConfig


class Blocks(NamedTuple):
    """A (frame, latent) tensor cut into its blocks."""

    supervised: Tensor
    background: Tensor
    unsupervised: Tensor


@dataclass(frozen=True, slots=True)
class Partition:
    """Number of latents in each block; the blocks lie in the order of the fields."""

    n_supervised: int
    n_background: int
    n_unsupervised: int

    @property
    def n_latents(self) -> int:
        """Number of latents in all blocks."""
        return self.n_supervised + self.n_background + self.n_unsupervised

    @property
    def supervised(self) -> slice:
        """Columns of the supervised block."""
        return slice(0, self.n_supervised)

    @property
    def background(self) -> slice:
        """Columns of the background block."""
        return slice(self.n_supervised, self.n_supervised + self.n_background)

    @property
    def unsupervised(self) -> slice:
        """Columns of the unsupervised block."""
        return slice(self.n_supervised + self.n_background, self.n_latents)

    @classmethod
    def of(cls, config: ModelConfig, n_labels: int) -> Self:
        """Return the blocks of a model; a negative count means that it has too few latents."""
        return cls(
            config.count_supervised(n_labels),
            config.count_background(),
            config.count_unsupervised(n_labels),
        )

    def name_latents(self, label_names: Sequence[str]) -> tuple[str, ...]:
        """Return a name for each latent: that of its label, or its block and its number there."""
        return (
            *label_names[: self.n_supervised],
            *(f"background {i}" for i in range(self.n_background)),
            *(f"unsupervised {i}" for i in range(self.n_unsupervised)),
        )

    def split(self, values: Tensor) -> Blocks:
        """Return the blocks of a (frame, latent) tensor as views."""
        return Blocks(
            values[:, self.supervised], values[:, self.background], values[:, self.unsupervised]
        )


@dataclass(frozen=True, slots=True)
class Posterior:
    """Output of an encoder: a Gaussian for each frame, or a point of a deterministic model."""

    mean: Tensor
    """(frame, latent)."""
    logvar: Tensor | None
    """(frame, latent): log variance; None for a point."""
    frame_size: tuple[int, int]
    """(height, width) of the encoded frames."""
    switches: tuple[Tensor, ...] = ()
    """Position of the maximum in each window of max pooling, one tensor a layer, from the frames
    inwards; unpooling needs them."""

    def sample(self, rng: Generator | None) -> Tensor:
        r"""Draw latents, :math:`z = \mu + e^{\log\sigma^2 / 2} \epsilon`.

        Parameters
        ----------
        rng
            Generator on the device of the mean; None returns the mean.

        Returns
        -------
        Tensor
            (frame, latent).
        """
        if self.logvar is None or rng is None:
            return self.mean
        noise = torch.randn(
            self.mean.shape, generator=rng, device=self.mean.device, dtype=self.mean.dtype
        )
        return self.mean + (0.5 * self.logvar).exp() * noise


def draw_rotation(n_latents: int, rng: Generator) -> Tensor:
    """Draw an orthogonal matrix from the uniform distribution.

    Parameters
    ----------
    n_latents
        Number of rows, and of columns.
    rng
        Generator on the CPU.

    Returns
    -------
    Tensor
        (latent, latent).

    References
    ----------
    Mezzadri (2007), How to generate random matrices from the classical compact groups,
    https://arxiv.org/abs/math-ph/0609050
    """
    normal = torch.randn(n_latents, n_latents, generator=rng, dtype=torch.float64)
    q, r = torch.linalg.qr(normal)
    # The convention of the factorisation fixes signs, which would make the draws uneven.
    return (q * r.diagonal().sign()).to(torch.get_default_dtype())
