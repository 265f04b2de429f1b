"""Base class of all models: encode, sample, decode, and a table of terms."""

from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from psvae_tune.config.model import ModelConfig
from psvae_tune.errors import ConfigError, DataError
from psvae_tune.models.batch import (
    ArrayLike,
    Batch,
    DataShape,
    Prediction,
    Ramp,
    Term,
    Terms,
    expand_sessions,
)
from psvae_tune.models.label_planes import label_planes
from psvae_tune.models.latents import Partition, Posterior
from psvae_tune.models.layers.networks import NETS, NetworkShape


class Model(nn.Module):
    """A model of behavioural video; `registry.build_model` makes one.

    A family overrides `objective`, and the methods for its latents and labels that differ.

    Parameters
    ----------
    config
        Settings, including the weights of the terms.
    shape
        Sizes of the data that the model is built for.
    """

    is_variational: ClassVar[bool] = False
    is_conditional: ClassVar[bool] = False
    """Whether the decoder sees the labels in addition to the latents."""

    config: ModelConfig

    def __init__(self, config: ModelConfig, shape: DataShape) -> None:
        super().__init__()
        self.config = config
        self.shape = shape
        self.partition = Partition.of(config, shape.n_labels)
        self.net = NETS[config.model_type](
            NetworkShape(
                shape.n_channels,
                shape.height,
                shape.width,
                config.n_ae_latents,
                config.ae_arch_json,
                n_planes=shape.n_labels // 2 if config.conditional_encoder else 0,
                n_conditions=shape.n_labels if self.is_conditional else 0,
                is_variational=self.is_variational,
                n_copies=shape.n_sessions if config.fit_sess_io_layers else 1,
            )
        )

    def objective(
        self, batch: Batch, prediction: Prediction, z: Tensor, rng: Generator | None
    ) -> dict[str, Term]:
        """Return the rows of the objective: name, weight and value.

        Parameters
        ----------
        batch
            Recorded frames and labels.
        prediction
            Output of the model for them.
        z
            (frame, latent): draws.
        rng
            Generator for terms that draw more than ``z``.
        """
        raise TypeError(f"{type(self).__name__} has no objective; build one of the registry")

    def terms(self, batch: Batch, ramp: Ramp, rng: Generator | None) -> Terms:
        """Score a batch.

        Parameters
        ----------
        batch
            A batch on the device of the model.
        ramp
            Factor of the annealed weights, 0 to 1.
        rng
            Generator on the same device, which draws the latents that are decoded and scored.
            With None the posterior means take their place in every term.

        Returns
        -------
        Terms
            Every term with its weight, and the prediction; its frames are decoded from draws.
        """
        q = self.encode(batch.frames, batch.labels_sc, batch.session_index)
        return self.terms_of_draws(batch, q, q.sample(rng), rng).anneal(ramp)

    def terms_of_draws(
        self, batch: Batch, q: Posterior, z: Tensor, rng: Generator | None
    ) -> Terms:
        """Score a batch by a posterior of its frames and draws from it, (frame, latent)."""
        prediction = self._predict(batch, q, z)
        return Terms(self.objective(batch, prediction, z, rng), prediction)

    def terms_of_means(self, batch: Batch, rng: Generator) -> Terms:
        """Score a batch for comparison: predictions are made from posterior means.

        Parameters
        ----------
        batch
            A batch on the device of the model.
        rng
            Generator on the same device. The terms of the KL are expectations over the
            posterior, which one draw of it estimates.
        """
        q = self.encode(batch.frames, batch.labels_sc, batch.session_index)
        prediction = self._predict(batch, q, q.mean)
        return Terms(self.objective(batch, prediction, q.sample(rng), rng), prediction)

    @torch.inference_mode()
    def predict(
        self,
        frames: ArrayLike,
        labels: ArrayLike | None = None,
        labels_sc: ArrayLike | None = None,
        session_index: ArrayLike | int | None = None,
    ) -> Prediction:
        """Encode and decode frames without sampling.

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

        Raises
        ------
        DataError
            If something is missing, or does not fit the model.
        """
        batch = self.to_batch(frames, labels, labels_sc, session_index)
        q = self.encode(batch.frames, batch.labels_sc, batch.session_index)
        return self._predict(batch, q, q.mean)

    def _predict(self, batch: Batch, q: Posterior, z: Tensor) -> Prediction:
        frames = self.decode(z, batch.labels, batch.session_index, like=q)
        return Prediction(frames, q.mean, q.logvar, self.predict_labels(q.mean))

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
            Posterior of as many frames, or of one, that gives the frame size and the switches of
            max pooling. Without it the size is that of the data the model was built for, and
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
        """Return latents in the coordinates of the partition; most models encode in them."""
        return mean

    def from_partition(self, coordinates: Tensor) -> Tensor:
        """Undo `to_partition`."""
        return coordinates

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
        sessions = expand_sessions(session_index, n_frames, self.shape.n_sessions)
        return sessions.to(self.net.mean.weight.device)
