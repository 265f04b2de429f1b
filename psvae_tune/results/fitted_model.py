"""A fitted model for a notebook: it encodes recordings, and decodes changed latents."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from psvae_tune.errors import DataError
from psvae_tune.models.encoding import Floats
from psvae_tune.models.latent_edits import with_background, with_labels
from psvae_tune.models.traversal import traverse
from psvae_tune.results.decoding import (
    DEFAULT_STEPS,
    check_steps,
    condition_labels,
    draw_frames,
    find_latent,
    label_steps,
    render,
    standardise_labels,
)
from psvae_tune.results.fitted_encoder import FittedEncoder
from psvae_tune.results.recording_frames import Recording


@dataclass(frozen=True, slots=True, repr=False)
class FittedModel(FittedEncoder):
    """A fitted model together with the names and the units of its labels.

    A recording is given as frames, (frame, channel, height, width), uint8 or floats in [0, 1]; as
    a `Session`; or as the path of an HDF5 file in the BehaveNet layout or of a video, whose frames
    are cut and scaled as those that the model was fitted to. Frames that are returned are float32
    in [0, 1]. Labels are in the user's units everywhere. For a model of several sessions,
    ``session_index`` says, counted from 0, which of them has the view of the video, the layers and
    the label units to use.

    Attributes
    ----------
    saved
        Contents of the model file.
    origin
        Where the model is from, as far as it is known: its file or name, its study, its trial and
        its run in MLflow.

    Examples
    --------
    >>> model = FittedModel.load(path)
    >>> model
    FittedModel(ps-vae, 6 latents, 4 labels)
    >>> model.latent_names[3:]
    ('paw_right_y', 'unsupervised 0', 'unsupervised 1')
    >>> model.transform(session).shape
    (120, 6)
    """

    def reconstruct(
        self, recording: Recording, session_index: int = 0, labels: ArrayLike | None = None
    ) -> Floats:
        """Return every frame as the model decodes it from its latents.

        Parameters
        ----------
        recording, session_index
            Frames, a session, or a path; and the session of the fit that they belong to.
        labels
            (frame, label), for a conditional model alone; NaN where the tracker lost the point. A
            session and an HDF5 file bring their own.

        Returns
        -------
        NDArray
            (frame, channel, height, width).

        Raises
        ------
        ConfigError
            If labels are given to a model that does not decode with them; see `set_labels`.
        DataError
            If the recording cannot be read, or something is missing or does not fit the model.

        Examples
        --------
        >>> model.reconstruct(session.frames[:10]).shape
        (10, 1, 32, 32)
        """
        opened = self._open(recording, session_index)
        condition = condition_labels(self.saved, opened, labels, session_index)
        return render(self.model, opened, session_index, lambda mean, _: mean, condition)

    def set_labels(
        self,
        frames: Recording,
        labels: ArrayLike,
        session_index: int = 0,
        labels_sc: ArrayLike | None = None,
    ) -> Floats:
        """Return frames as they would look with other labels.

        Parameters
        ----------
        frames
            The frames, or a recording, from which everything else is taken.
        labels
            (frame, label); NaN leaves a label as the model sees it. A conditional model, which
            sees none, must be told them all.
        session_index
            The session of the fit that the frames belong to.
        labels_sc
            (frame, label) in pixels, all x, then all y; only a conditional encoder needs them.

        Returns
        -------
        NDArray
            (frame, channel, height, width).

        Raises
        ------
        ConfigError
            If the model has no latents for labels.
        DataError
            If something is missing, or does not fit the model.

        Examples
        --------
        >>> labels = np.full((10, 4), np.nan)
        >>> labels[:, 0] = 12.0
        >>> model.set_labels(session.frames[:10], labels).shape
        (10, 1, 32, 32)
        """
        opened = self._open(frames, session_index, labels_sc)
        scaled = standardise_labels(self.saved, labels, opened.n_frames, session_index)
        if self.model.is_conditional:
            name = self.model.config.model_class
            if np.isnan(scaled).any():
                raise DataError("labels", f"`{name}` predicts none, so none may be NaN")
            return render(self.model, opened, session_index, lambda mean, _: mean, scaled)

        def change(mean: Tensor, labels: Tensor | None) -> Tensor:
            assert labels is not None
            seen = self.model.predict_labels(mean)
            known = labels if seen is None else torch.where(labels.isnan(), seen, labels)
            return with_labels(self.model, mean, known)

        return render(self.model, opened, session_index, change, scaled)

    def traverse(
        self,
        frame: ArrayLike,
        latent: str | int,
        values: ArrayLike | None = None,
        session_index: int = 0,
        labels: ArrayLike | None = None,
        labels_sc: ArrayLike | None = None,
    ) -> Floats:
        """Return a frame as it would look if one latent had other values.

        Parameters
        ----------
        frame, session_index
            (channel, height, width), from which all other latents are taken; and its session.
        latent
            The name of the latent, one of `latent_names`, or its column in `transform`.
        values
            (value,). A label that is named is in the user's units; any other latent is in the
            units of `transform`. By default five values from two standard deviations below the
            mean to two above it: of the label where the model learned its units, and otherwise of
            the standard normal, which only the latents of a variational model come near to.
        labels
            (label,); only a conditional model needs them.
        labels_sc
            (label,) in pixels, all x, then all y; only a conditional encoder needs them.

        Returns
        -------
        NDArray
            (value, channel, height, width).

        Raises
        ------
        ConfigError
            If the model has no such latent.
        DataError
            If something is missing, is not finite, or does not fit the model.

        Examples
        --------
        >>> model.traverse(session.frames[0], "unsupervised 0", [-1, 0, 1]).shape
        (3, 1, 32, 32)
        >>> model.traverse(session.frames[0], "paw_left_x", [10, 14, 18, 22]).shape
        (4, 1, 32, 32)
        """
        column = find_latent(self.latent_names, latent)
        if isinstance(latent, str) and column < self.model.partition.n_supervised:
            steps = label_steps(self.saved, column, values, session_index)
        else:
            steps = DEFAULT_STEPS if values is None else check_steps(values)
        condition, points = (
            None if each is None else np.asarray(each)[None] for each in (labels, labels_sc)
        )
        if condition is not None:
            condition = standardise_labels(self.saved, condition, 1, session_index)
        opened = self._open(np.asarray(frame)[None], session_index, points)
        (batch,) = opened.iter_batches(self.model, session_index, condition)
        return traverse(self.model, batch, [column], steps[None]).frames[0]

    def swap_session(
        self, frames: Recording, donors: Recording, session_index: int, donor_index: int
    ) -> Floats:
        """Return frames of one session as they would look in another one.

        The mean background latents of the other session take the place of their own.

        Parameters
        ----------
        frames, donors
            Frames, or a recording, of the one and of the other session.
        session_index, donor_index
            The one and the other session of the fit.

        Returns
        -------
        NDArray
            (frame, channel, height, width).

        Raises
        ------
        ConfigError
            If the model has no background latents.
        DataError
            If a recording cannot be read, or does not fit the model.

        Examples
        --------
        >>> pair.swap_session(session.frames[:10], session, 0, 1).shape
        (10, 1, 32, 32)
        """
        latents = self._encode(donors, donor_index).latents
        background = torch.from_numpy(latents[:, self.model.partition.background].mean(axis=0))

        def change(mean: Tensor, labels: Tensor | None) -> Tensor:
            return with_background(self.model, mean, background.to(mean))

        opened = self._open(frames, session_index)
        return render(self.model, opened, session_index, change, decoded_index=donor_index)

    def sample(
        self,
        n_frames: int,
        seed: int,
        labels: ArrayLike | None = None,
        like: Recording | None = None,
        session_index: int = 0,
    ) -> Floats:
        """Return frames of latents drawn from the prior, the standard normal.

        Parameters
        ----------
        n_frames, seed
            Number of frames to draw, and the seed of the draws.
        labels
            (frame, label) that the frames are to have; only a conditional model needs them.
        like, session_index
            Frames, or a recording, and their session. Background latents have no prior: they are
            those of frames drawn from these.

        Returns
        -------
        NDArray
            (frame, channel, height, width).

        Raises
        ------
        ConfigError
            If the model is not variational, and so has no prior.
        DataError
            If something is missing, or does not fit the model.

        Examples
        --------
        >>> model.sample(3, seed=0).shape
        (3, 1, 32, 32)
        """
        latents = None
        if like is not None and self.model.partition.n_background:
            latents = self._encode(like, session_index).latents
        return draw_frames(self.saved, n_frames, seed, labels, latents, session_index)
