"""Base class of all models: encode, sample, decode, and a table of terms.

The file is long because a reader finds in one place what a model family inherits.
"""

from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from psvae_tune.config.model import ModelConfig
from psvae_tune.errors import ConfigError, DataError
from psvae_tune.models.batch import Batch, DataShape, Prediction, Term, Terms
from psvae_tune.models.label_planes import label_planes
from psvae_tune.models.latents import Partition, Posterior
from psvae_tune.models.layers.networks import NETS

ArrayLike = Tensor | NDArray[Any]


class Model(nn.Module):
    """A model of behavioural video; `registry.build_model` makes one.

    A family overrides `objective`, and what is special about its latents or its labels.

    Parameters
    ----------
    config
        Its settings, the weights of its terms included.
    shape
        Of the data it is built for.
    """

    is_variational: ClassVar[bool] = False
    is_conditional: ClassVar[bool] = False
    """Whether the decoder sees the labels beside the latents."""

    config: ModelConfig

    def __init__(self, config: ModelConfig, shape: DataShape) -> None:
        super().__init__()
        self.config = config
        self.shape = shape
        self.partition = self.partition_of(config, shape)
        self.net = NETS[config.model_type](
            config,
            shape,
            shape.n_labels // 2 if config.conditional_encoder else 0,
            shape.n_labels if self.is_conditional else 0,
            self.is_variational,
        )

    @classmethod
    def partition_of(cls, config: ModelConfig, shape: DataShape) -> Partition:
        """Return the blocks of the latent space; a negative count means too few latents."""
        n_supervised = config.count_supervised(shape.n_labels)
        return Partition(n_supervised, 0, config.n_ae_latents - n_supervised)

    def objective(
        self, batch: Batch, prediction: Prediction, z: Tensor, ramp: float, rng: Generator | None
    ) -> dict[str, Term]:
        """Return the rows of the objective: name, weight and value.

        Parameters
        ----------
        batch
            What was recorded.
        prediction
            What the model says of it, the frames being decoded from ``z``.
        z
            (frame, latent): draws.
        ramp
            Factor of the weights that are annealed.
        rng
            For terms that draw more than ``z``.
        """
        raise TypeError(f"{type(self).__name__} has no objective; build one of the registry")

    def terms(self, batch: Batch, ramp: float, rng: Generator | None) -> Terms:
        """Score a batch.

        Parameters
        ----------
        batch
            On the device of the model.
        ramp
            Factor of the weights that are annealed, 0 to 1.
        rng
            On the same device; draws the latents that are decoded and scored. With None no
            latents are drawn: the posterior means stand for them in every term.

        Returns
        -------
        Terms
            Every term with its weight. Where latents were drawn, the predicted frames are
            decoded from the draws; use `predict` for what the model says without sampling.
        """
        q = self.encode(batch.frames, batch.labels_sc, batch.session_index)
        z = q.sample(rng)
        frames = self.decode(z, batch.labels, batch.session_index, like=q)
        prediction = Prediction(frames, q.mean, q.logvar, self.predict_labels(q.mean))
        return Terms(self.objective(batch, prediction, z, ramp, rng), prediction)

    def terms_of_means(self, batch: Batch, rng: Generator) -> Terms:
        """Score a batch for comparison: predictions are made from posterior means.

        Parameters
        ----------
        batch
            On the device of the model.
        rng
            On the same device; the terms of the KL are expectations over the posterior, and
            are taken on its draws.

        Returns
        -------
        Terms
            Every term at its full weight, and the predictions.
        """
        q = self.encode(batch.frames, batch.labels_sc, batch.session_index)
        frames = self.decode(q.mean, batch.labels, batch.session_index, like=q)
        prediction = Prediction(frames, q.mean, q.logvar, self.predict_labels(q.mean))
        return Terms(self.objective(batch, prediction, q.sample(rng), 1.0, rng), prediction)

    @torch.inference_mode()
    def predict(
        self,
        frames: ArrayLike,
        labels: ArrayLike | None = None,
        labels_sc: ArrayLike | None = None,
        session_index: ArrayLike | int | None = None,
    ) -> Prediction:
        """Say what the model makes of frames, without sampling.

        Parameters
        ----------
        frames
            (frame, channel, height, width) in [0, 1].
        labels
            (frame, label), standardised; only a conditional model needs them.
        labels_sc
            (frame, label) in pixels, all x, then all y; only a conditional encoder needs them.
        session_index
            (frame,), or one number for all frames; only session-specific layers need it.

        Returns
        -------
        Prediction
            On the device of the model.

        Raises
        ------
        DataError
            If something is missing, or does not fit the model.
        """
        batch = self.to_batch(frames, labels, labels_sc, session_index)
        q = self.encode(batch.frames, batch.labels_sc, batch.session_index)
        frames_hat = self.decode(q.mean, batch.labels, batch.session_index, like=q)
        return Prediction(frames_hat, q.mean, q.logvar, self.predict_labels(q.mean))

    def to_batch(
        self,
        frames: ArrayLike,
        labels: ArrayLike | None = None,
        labels_sc: ArrayLike | None = None,
        session_index: ArrayLike | int | None = None,
    ) -> Batch:
        """Return arrays as a batch, in the type and on the device of the weights.

        Parameters
        ----------
        frames, labels, labels_sc, session_index
            As for `predict`.

        Raises
        ------
        DataError
            If the frames or the sessions do not fit the model.
        """
        if frames.ndim != 4 or not self.net.accepts((frames.shape[1], *frames.shape[2:])):
            shape = self.shape
            raise DataError(
                "frames",
                "must fit a network built for "
                f"(frame, {shape.n_channels}, {shape.height}, {shape.width}), "
                f"got {tuple(frames.shape)}",
            )
        return Batch(
            self._tensor(frames),
            labels=None if labels is None else self._tensor(labels),
            labels_sc=None if labels_sc is None else self._tensor(labels_sc),
            session_index=self._sessions(session_index, len(frames)),
        )

    def encode(
        self,
        frames: Tensor,
        labels_sc: Tensor | None = None,
        session_index: Tensor | None = None,
    ) -> Posterior:
        """Return the posterior of frames.

        Raises
        ------
        DataError
            If a conditional encoder is given no ``labels_sc``.
        """
        if self.config.conditional_encoder:
            if labels_sc is None:
                raise DataError("labels_sc", "a conditional encoder needs them, got none")
            planes = label_planes(labels_sc, frames.shape[2], frames.shape[3])
            frames = torch.cat([frames, planes.to(frames.dtype)], dim=1)
        return self.net.encode(frames, session_index)

    def decode(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        session_index: Tensor | None = None,
        like: Posterior | None = None,
    ) -> Tensor:
        """Return the frames of latents.

        Parameters
        ----------
        z
            (frame, latent).
        labels
            (frame, label), standardised; only a conditional model looks at them.
        session_index
            (frame,); only session-specific layers look at it.
        like
            The posterior of as many frames, or of one, whose size and max-pooling switches to
            decode with. Without it the size is that of the data the model was built for, and
            unpooling puts every maximum into the first pixel of its window.

        Returns
        -------
        Tensor
            (frame, channel, height, width).

        Raises
        ------
        DataError
            If a conditional model is given no labels.
        """
        if self.is_conditional:
            if labels is None:
                name = self.config.model_class
                raise DataError("labels", f"`{name}` decodes with them, got none")
            z = torch.cat([z, labels], dim=1)
        if like is None:
            return self.net.decode(z, (self.shape.height, self.shape.width), session_index, ())
        return self.net.decode(z, like.frame_size, session_index, like.switches)

    def predict_labels(self, mean: Tensor) -> Tensor | None:
        """Return (frame, label), standardised, of (frame, latent); None without such a readout."""
        return None

    def latents_for_labels(self, labels: Tensor) -> Tensor:
        """Return the supervised latents, in `to_partition`, that read out as ``labels``.

        Parameters
        ----------
        labels
            (frame, label), standardised.

        Returns
        -------
        Tensor
            (frame, supervised latent).

        Raises
        ------
        ConfigError
            If the model predicts no labels.
        """
        raise ConfigError("model", f"`{self.config.model_class}` has no latents for labels")

    def to_partition(self, mean: Tensor) -> Tensor:
        """Return latents in the coordinates that the partition speaks of; most are in them."""
        return mean

    def from_partition(self, coordinates: Tensor) -> Tensor:
        """Undo `to_partition`."""
        return coordinates

    def with_labels(self, mean: Tensor, labels: Tensor) -> Tensor:
        """Return latents that read out as ``labels`` and are otherwise like ``mean``.

        Parameters
        ----------
        mean
            (frame, latent).
        labels
            (frame, label), standardised.

        Raises
        ------
        ConfigError
            If the model predicts no labels.
        """
        blocks = self.partition.split(self.to_partition(mean))
        supervised = self.latents_for_labels(labels)
        return self.from_partition(
            torch.cat([supervised, blocks.background, blocks.unsupervised], dim=1)
        )

    def with_background(self, mean: Tensor, background: Tensor) -> Tensor:
        """Return latents like ``mean`` with other background latents, (frame, latent) both.

        Raises
        ------
        ConfigError
            If the model has no background latents.
        """
        if not self.partition.n_background:
            raise ConfigError("model", f"`{self.config.model_class}` has no background latents")
        blocks = self.partition.split(self.to_partition(mean))
        background = background.expand_as(blocks.background)
        return self.from_partition(
            torch.cat([blocks.supervised, background, blocks.unsupervised], dim=1)
        )

    def _tensor(self, values: ArrayLike) -> Tensor:
        """Return values in the type and on the device of the weights."""
        weight = self.net.mean.weight
        if isinstance(values, Tensor):
            return values.to(weight.device, weight.dtype)
        return torch.tensor(values, dtype=weight.dtype, device=weight.device)

    def _sessions(self, session_index: ArrayLike | int | None, n_frames: int) -> Tensor | None:
        if session_index is None:
            if self.config.fit_sess_io_layers and self.shape.n_sessions > 1:
                raise DataError("session_index", "session-specific layers need it, got none")
            return None
        if not isinstance(session_index, Tensor):
            session_index = torch.tensor(session_index)
        sessions = session_index.to(self.net.mean.weight.device, torch.int64).expand(n_frames)
        if n_frames:
            first, last = int(sessions.min()), int(sessions.max())
            if first < 0 or last >= self.shape.n_sessions:
                raise DataError(
                    "session_index",
                    f"must be 0 to {self.shape.n_sessions - 1}, got {first} to {last}",
                )
        return sessions
