"""Variational autoencoders: plain and conditional with β·KL, and with a decomposed KL.

β-VAE:    L = −log p(frames) + r·β·KL
β-TC-VAE: L = −log p(frames) + r·ICMI + r·β·TC + r·DWKL
"""

from torch import Generator, Tensor

from psvae_tune.config.model import BetaTCVAEConfig, VAEConfig
from psvae_tune.models.batch import Batch, Prediction, Term
from psvae_tune.models.losses import decompose_kl, gaussian_nll, kl_to_std_normal
from psvae_tune.models.model import Model


class VAE(Model):
    """Variational autoencoder (Kingma and Welling, 2014; β: Higgins et al., 2017)."""

    is_variational = True
    config: VAEConfig

    def objective(
        self, batch: Batch, prediction: Prediction, z: Tensor, rng: Generator | None
    ) -> dict[str, Term]:
        """Return the likelihood of the frames and the KL."""
        assert prediction.logvar is not None
        return {
            "frames_nll": frames_nll(batch, prediction, self.config.variance),
            "kl": Term(
                self.config.beta,
                kl_to_std_normal(prediction.mean, prediction.logvar),
                is_annealed=True,
            ),
        }


class CondVAE(VAE):
    """Variational autoencoder whose decoder, and on request encoder, sees the labels."""

    is_conditional = True


class BetaTCVAE(Model):
    """Variational autoencoder with a weight on the total correlation (Chen et al., 2018)."""

    is_variational = True
    config: BetaTCVAEConfig

    def objective(
        self, batch: Batch, prediction: Prediction, z: Tensor, rng: Generator | None
    ) -> dict[str, Term]:
        """Return the likelihood of the frames and the parts of the KL."""
        assert prediction.logvar is not None
        return {
            "frames_nll": frames_nll(batch, prediction, self.config.variance),
            **kl_rows(z, prediction.mean, prediction.logvar, self.config.beta),
        }


def frames_nll(batch: Batch, prediction: Prediction, variance: float) -> Term:
    """Return the term of the likelihood of the frames, whose pixels have a variance."""
    return Term(1, gaussian_nll(batch.frames, prediction.frames, batch.frame_mask, variance))


def kl_rows(z: Tensor, mean: Tensor, logvar: Tensor, beta: float) -> dict[str, Term]:
    """Return the terms of the decomposed KL of latents, with β on the total correlation."""
    kl = decompose_kl(z, mean, logvar)
    return {
        "icmi": Term(1, kl.icmi, is_annealed=True),
        "tc": Term(beta, kl.tc, is_annealed=True),
        "dwkl": Term(1, kl.dwkl, is_annealed=True),
    }
