"""Autoencoders: plain, and conditional on the labels.

L = MSE(frames)
"""

from torch import Generator, Tensor

from psvae_tune.models.batch import Batch, Prediction, Term
from psvae_tune.models.losses import mean_squared_error
from psvae_tune.models.model import Model


class AE(Model):
    """Autoencoder (Batty et al., 2019)."""

    def objective(
        self, batch: Batch, prediction: Prediction, z: Tensor, rng: Generator | None
    ) -> dict[str, Term]:
        """Return the squared error of the frames."""
        error = mean_squared_error(batch.frames, prediction.frames, batch.frame_mask)
        return {"frame_mse": Term(1, error)}


class CondAE(AE):
    """Autoencoder whose decoder, and on request encoder, sees the labels."""

    is_conditional = True
