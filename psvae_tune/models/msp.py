"""Matrix-subspace-projection autoencoder (Li et al., 2020).

L = MSE(frames) + α·[MSE(labels, P z) + MSE(z, Pᵀ P z)]
"""

import torch
from torch import Generator, Tensor, nn

from psvae_tune.config.model import CondAEMSPConfig
from psvae_tune.models.ae import AE
from psvae_tune.models.batch import Batch, DataShape, Prediction, Term
from psvae_tune.models.losses import mean_squared_error, projection_error


class CondAEMSP(AE):
    """Autoencoder whose latents have a subspace that holds the labels.

    The subspace lies across the latents, so the partition has coordinates of its own, which
    `to_partition` gives: first the labels P z, then N z in the null space of P.
    """

    config: CondAEMSPConfig

    def __init__(self, config: CondAEMSPConfig, shape: DataShape) -> None:
        super().__init__(config, shape)
        # The projection has no bias, as published, so labels must be centred.
        self.projection = nn.Linear(config.n_ae_latents, shape.n_labels, bias=False)

    def objective(
        self, batch: Batch, prediction: Prediction, z: Tensor, rng: Generator | None
    ) -> dict[str, Term]:
        """Return the squared errors of the frames, the labels and the projection."""
        assert batch.labels is not None
        assert prediction.labels is not None
        alpha = self.config.alpha
        label_mse = mean_squared_error(batch.labels, prediction.labels, batch.label_mask)
        return {
            **super().objective(batch, prediction, z, rng),
            "label_mse": Term(alpha, label_mse),
            "projection": Term(alpha, projection_error(z, self.projection.weight)),
        }

    def predict_labels(self, mean: Tensor) -> Tensor:
        """Return P z, of shape (frame, label)."""
        labels: Tensor = self.projection(mean)
        return labels

    def latents_for_labels(self, labels: Tensor) -> Tensor:
        """Return the labels, which are coordinates of the partition themselves."""
        return labels

    def to_partition(self, mean: Tensor) -> Tensor:
        """Return [P z, N z], of shape (frame, latent)."""
        return mean @ torch.cat([self.projection.weight, self._null_space()]).T

    def from_partition(self, coordinates: Tensor) -> Tensor:
        """Return z = P⁺ (P z) + Nᵀ (N z), exact whether or not P is orthogonal."""
        labels, _, rest = self.partition.split(coordinates)
        inverse = torch.linalg.pinv(self.projection.weight)
        return labels @ inverse.T + rest @ self._null_space()

    def _null_space(self) -> Tensor:
        """Return N: orthonormal rows orthogonal to those of P, (unsupervised latent, latent)."""
        rows = torch.linalg.svd(self.projection.weight.detach(), full_matrices=True).Vh
        return rows[self.partition.n_supervised :]
