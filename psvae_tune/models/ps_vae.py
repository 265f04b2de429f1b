"""Partitioned-subspace VAE (Whiteway et al., 2021), for one session and for several.

L = −log p(frames) − α·log p(labels) + KL_s + r·ICMI_u + r·β·TC_u + r·DWKL_u
several sessions: + δ·triplet_b
"""

from dataclasses import replace

import torch
from torch import Generator, Tensor, nn

from psvae_tune.config.model import MSPSVAEConfig, PSVAEConfig
from psvae_tune.models.batch import Batch, DataShape, Prediction, Term
from psvae_tune.models.latents import Posterior, draw_rotation
from psvae_tune.models.losses import gaussian_nll, kl_to_std_normal, triplet_loss
from psvae_tune.models.model import Model
from psvae_tune.models.vae import frames_nll, kl_rows


class PSVAE(Model):
    """VAE with a latent for each label, and further latents that are driven to be independent.

    A fixed rotation, drawn from ``rng_seed_model``, maps the output of the encoder to the
    blocks of the latent space.
    """

    is_variational = True
    config: PSVAEConfig
    rotation: Tensor

    def __init__(self, config: PSVAEConfig, shape: DataShape) -> None:
        super().__init__(config, shape)
        rng = torch.Generator().manual_seed(config.rng_seed_model)
        self.register_buffer("rotation", draw_rotation(config.n_ae_latents, rng))
        self.readout = Readout(self.partition.n_supervised)

    def encode(
        self,
        frames: Tensor,
        labels_sc: Tensor | None = None,
        session_index: Tensor | None = None,
    ) -> Posterior:
        """Return the posterior of frames, its means rotated into the blocks."""
        q = super().encode(frames, labels_sc, session_index)
        return replace(q, mean=q.mean @ self.rotation.T)

    def objective(
        self, batch: Batch, prediction: Prediction, z: Tensor, rng: Generator | None
    ) -> dict[str, Term]:
        """Return the likelihoods, the KL of the supervised latents and that of the others."""
        assert batch.labels is not None
        assert prediction.labels is not None
        assert prediction.logvar is not None
        draws, means, logvars = (
            self.partition.split(values) for values in (z, prediction.mean, prediction.logvar)
        )
        labels_nll = gaussian_nll(batch.labels, prediction.labels, batch.label_mask)
        return {
            "frames_nll": frames_nll(batch, prediction, self.config.variance),
            "labels_nll": Term(self.config.alpha, labels_nll),
            "supervised_kl": Term(1, kl_to_std_normal(means.supervised, logvars.supervised)),
            **kl_rows(
                draws.unsupervised,
                means.unsupervised,
                logvars.unsupervised,
                self.config.beta,
            ),
        }

    def predict_labels(self, mean: Tensor) -> Tensor:
        """Return the labels that the supervised latents read out as, (frame, label)."""
        labels: Tensor = self.readout(self.partition.split(mean).supervised)
        return labels

    def latents_for_labels(self, labels: Tensor) -> Tensor:
        """Return the supervised latents that read out as ``labels``."""
        return (labels - self.readout.bias) / self.readout.weight


class MultisessionPSVAE(PSVAE):
    """PS-VAE whose background latents hold the differences between sessions."""

    config: MSPSVAEConfig

    def objective(
        self, batch: Batch, prediction: Prediction, z: Tensor, rng: Generator | None
    ) -> dict[str, Term]:
        """Return the rows of the PS-VAE and the triplet loss of the background means."""
        assert batch.session_index is not None
        background = self.partition.split(prediction.mean).background
        # Without a generator, the same triplets are drawn every time.
        rng = rng or torch.Generator(background.device).manual_seed(0)
        triplet = triplet_loss(background, batch.session_index, rng)
        return {
            **super().objective(batch, prediction, z, rng),
            "triplet": Term(self.config.delta, triplet),
        }


class Readout(nn.Module):
    """A scale and a shift for each label.

    They start at 1 and 0, where standardised labels equal standard normal latents.
    """

    def __init__(self, n_labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_labels))
        self.bias = nn.Parameter(torch.zeros(n_labels))

    def forward(self, supervised: Tensor) -> Tensor:
        """Return (frame, label)."""
        return supervised * self.weight + self.bias
