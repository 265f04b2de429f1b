"""What a fitted model is for: latents and labels of a session, and frames that never were.

::

    fitted = FittedModel.load("model.pt")
    session = read_session("session.h5", needs_labels=False)
    seen = fitted.describe(session)              # latents, and labels in pixels
    wanted = np.full_like(seen.labels[:10], np.nan)
    wanted[:, 0] = 12.0                          # the first label, in pixels
    frames = fitted.set_labels(session.frames[:10], wanted)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psvae_tune.data.session import Session
from psvae_tune.errors import ConfigError, DataError
from psvae_tune.models.latents import Posterior
from psvae_tune.models.model import Model
from psvae_tune.models.model_file import SavedModel, load_model
from psvae_tune.models.pyfunc import N_FRAMES_AT_ONCE, in_unit_range

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Description:
    """A session as a model sees it."""

    latents: Floats
    """(frame, latent): posterior means, or the latents of a deterministic model."""
    logvar: Floats | None
    """(frame, latent): log variance of the posterior; None for a deterministic model."""
    labels: Floats | None
    """(frame, label) in the user's units; None where the model predicts no labels."""


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A model with the units of its labels.

    Frames are (frame, channel, height, width), uint8 or floats in [0, 1]; frames that are
    returned are floats in [0, 1]. Labels are in the user's units. ``session_index`` says which
    of the sessions of the fit is meant, where sessions have layers or units of their own.
    """

    saved: SavedModel

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> Self:
        """Read a ``model.pt``; see `psvae_tune.models.model_file.load_model`."""
        return cls(load_model(path, device))

    @property
    def model(self) -> Model:
        """The network and its objective."""
        return self.saved.model

    @torch.inference_mode()
    def describe(self, session: Session, session_index: int = 0) -> Description:
        """Return the latents and the predicted labels of every frame of a session.

        Raises
        ------
        DataError
            If the session does not fit the model.
        """
        parts = []
        for start in range(0, session.header.n_frames, N_FRAMES_AT_ONCE):
            rows = slice(start, start + N_FRAMES_AT_ONCE)
            points = None if session.labels_sc is None else session.labels_sc[rows]
            q = self._encode(session.frames[rows], session_index, points)
            parts.append((q.mean, q.logvar, self.model.predict_labels(q.mean)))
        latents, logvar, labels = (_join(part) for part in zip(*parts, strict=True))
        assert latents is not None
        if labels is not None:
            labels = self.saved.in_units(labels, session_index)
        return Description(latents, logvar, labels)

    @torch.inference_mode()
    def set_labels(
        self,
        frames: NDArray[Any],
        labels: NDArray[np.floating],
        session_index: int = 0,
        labels_sc: NDArray[np.floating] | None = None,
    ) -> Floats:
        """Return what frames would look like with other labels.

        Parameters
        ----------
        frames
            What everything else is taken from.
        labels
            (frame, label); NaN leaves a label as the model sees it. A conditional model, which
            sees none, must be told them all.
        session_index
            Of the frames.
        labels_sc
            (frame, label) in pixels, all x, then all y; only a conditional encoder needs them.

        Raises
        ------
        ConfigError
            If the model knows no labels.
        DataError
            If something is missing, or does not fit the model.
        """
        self._check_labels(labels, len(frames))
        q = self._encode(frames, session_index, labels_sc)
        scaled = torch.from_numpy(self.saved.standardise(labels, session_index)).to(q.mean)
        if self.model.is_conditional:
            if scaled.isnan().any():
                name = self.model.config.model_class
                raise DataError("labels", f"`{name}` predicts none, so none may be NaN")
            return self._decode(q.mean, session_index, scaled, q)
        seen = self.model.predict_labels(q.mean)
        if seen is not None:
            scaled = torch.where(scaled.isnan(), seen, scaled)
        return self._decode(self.model.with_labels(q.mean, scaled), session_index, None, q)

    @torch.inference_mode()
    def swap_session(
        self, frames: NDArray[Any], donors: NDArray[Any], session_index: int, donor_index: int
    ) -> Floats:
        """Return what frames of one session would look like in another.

        The mean background latents of the other session's frames take the place of their own.

        Parameters
        ----------
        frames, session_index
            What moves as it is, and its session.
        donors, donor_index
            Frames of the other session, and which it is.

        Raises
        ------
        ConfigError
            If the model has no background latents.
        """
        q, other = self._encode(frames, session_index), self._encode(donors, donor_index)
        partition = self.model.partition
        background = partition.split(self.model.to_partition(other.mean)).background
        z = self.model.with_background(q.mean, background.mean(dim=0))
        return self._decode(z, donor_index, None, q)

    @torch.inference_mode()
    def sample(
        self,
        n_frames: int,
        seed: int,
        labels: NDArray[np.floating] | None = None,
        like: NDArray[Any] | None = None,
        session_index: int = 0,
    ) -> Floats:
        """Return frames of latents drawn from the prior, the standard normal.

        Parameters
        ----------
        n_frames
            How many.
        seed
            Decides the draws.
        labels
            (frame, label) that the frames are to have; only a conditional model needs them.
        like
            Frames of a session. Background latents have no prior: theirs are drawn from.
        session_index
            Of the frames to return.

        Raises
        ------
        ConfigError
            If the model is no variational one, and so has no prior.
        DataError
            If something is missing.
        """
        model = self.model
        if not model.is_variational:
            raise ConfigError("model", f"`{model.config.model_class}` has no prior to draw from")
        rng = torch.Generator().manual_seed(seed)
        weight = model.net.mean.weight
        z = torch.randn(n_frames, model.partition.n_latents, generator=rng).to(weight)
        if model.partition.n_background:
            if like is None:
                raise DataError("like", "background latents are drawn from frames, got none")
            chosen = torch.randint(len(like), (n_frames,), generator=rng).numpy()
            q = self._encode(np.asarray(like)[chosen], session_index)
            background = model.partition.split(model.to_partition(q.mean)).background
            z = model.with_background(z, background)
        scaled = None
        if labels is not None:
            self._check_labels(labels, n_frames)
            scaled = torch.from_numpy(self.saved.standardise(labels, session_index)).to(weight)
            if not model.is_conditional:
                z, scaled = model.with_labels(z, scaled), None
        return self._decode(z, session_index, scaled, None)

    def _check_labels(self, labels: NDArray[np.floating], n_frames: int) -> None:
        expected = (n_frames, self.model.shape.n_labels)
        if labels.shape != expected:
            raise DataError("labels", f"must be {expected} (frame, label), got {labels.shape}")

    def _encode(
        self,
        frames: NDArray[Any],
        session_index: int,
        labels_sc: NDArray[np.floating] | None = None,
    ) -> Posterior:
        return self.model.infer(in_unit_range(frames), labels_sc, session_index)

    def _decode(
        self, z: Tensor, session_index: int, labels: Tensor | None, like: Posterior | None
    ) -> Floats:
        sessions = torch.full((len(z),), session_index, device=z.device)
        return self.model.decode(z, labels, sessions, like).cpu().numpy()


def _join(parts: Sequence[Tensor | None]) -> Floats | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present).cpu().numpy() if present else None
