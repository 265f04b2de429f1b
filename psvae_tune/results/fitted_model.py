"""A fitted model for a notebook: it encodes recordings, and decodes changed latents.

The file is long because users read `FittedModel`, and each method tells all about itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from psvae_tune.errors import ConfigError, DataError
from psvae_tune.models.encoding import N_FRAMES_AT_ONCE, Encoding, Floats, encode
from psvae_tune.models.latent_edits import with_background, with_labels
from psvae_tune.models.model import Model
from psvae_tune.models.model_file import SavedModel, load_model
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
from psvae_tune.results.predictions import Predictions, predict_recording
from psvae_tune.results.recording_frames import Recording, RecordingFrames, open_recording


@dataclass(frozen=True, slots=True, repr=False)
class FittedModel:
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

    saved: SavedModel
    origin: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str, device: torch.device | str = "cpu") -> Self:
        """Read a model file.

        Parameters
        ----------
        path
            A ``model.pt`` that a trial or ``psvae-tune export`` has written.
        device
            The device to compute on, such as ``"cpu"`` or ``"cuda"``.

        Raises
        ------
        StorageError
            If the file is missing, damaged or no model of this project.
        """
        return cls(load_model(path, device))

    @property
    def model(self) -> Model:
        """The network and its objective, a `torch.nn.Module` in evaluation mode."""
        return self.saved.model

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, which are the columns of `predict_labels`."""
        return self.saved.label_names

    @property
    def latent_names(self) -> tuple[str, ...]:
        """Names of the latents, the columns of `transform`; some have the name of a label."""
        return self.model.partition.name_latents(self.label_names)

    def __repr__(self) -> str:
        counts = f"{len(self.latent_names)} latents, {len(self.label_names)} labels"
        return f"FittedModel({self.model.config.model_class}, {counts})"

    def transform(self, recording: Recording, session_index: int = 0) -> Floats:
        """Return the latents of every frame, without sampling.

        Parameters
        ----------
        recording, session_index
            Frames, a session, or a path; and the session of the fit that they belong to. A
            conditional encoder needs a session or an HDF5 file with ``labels_sc``.

        Returns
        -------
        NDArray
            (frame, latent): posterior means, or the latents of a deterministic model. The columns
            are named by `latent_names`.

        Raises
        ------
        DataError
            If the recording cannot be read, or does not fit the model.

        Examples
        --------
        >>> model.transform(session.frames[:10]).shape
        (10, 6)
        """
        return self._encode(recording, session_index).latents

    def predict_labels(self, recording: Recording, session_index: int = 0) -> Floats:
        """Return the labels that the model reads from every frame.

        Parameters
        ----------
        recording, session_index
            Frames, a session, or a path; and the session of the fit that they belong to.

        Returns
        -------
        NDArray
            (frame, label) in the user's units. The columns are named by `label_names`.

        Raises
        ------
        ConfigError
            If the model predicts no labels.
        DataError
            If the recording cannot be read, or does not fit the model.

        Examples
        --------
        >>> model.predict_labels(session).shape
        (120, 4)
        """
        if "labels_hat" not in self.model.config.capabilities:
            raise ConfigError("model", f"`{self.model.config.model_class}` predicts no labels")
        labels_hat = self._encode(recording, session_index).labels_hat
        assert labels_hat is not None
        return self.saved.label_scaler.inverse(labels_hat, session_index)

    def predict(
        self,
        recording: Recording,
        session_index: int = 0,
        batch_size: int = N_FRAMES_AT_ONCE,
        progress: Callable[[int, int], None] | None = None,
    ) -> Predictions:
        """Return the latents and the labels of every frame, with its index and its time.

        Parameters
        ----------
        recording, session_index
            Frames, a session, or a path; and the session of the fit that they belong to.
        batch_size
            Largest number of frames that are encoded at a time; fewer need less memory.
        progress
            Called after every batch with the number of frames that are done, and of all frames.

        Returns
        -------
        Predictions
            Its ``to_frame()`` is a table with one row a frame: ``session``, ``clip``,
            ``frame_index``, ``time_s``, latents, labels, and masks of the labels.
            `psvae_tune.write_predictions` writes it to a file.

        Raises
        ------
        DataError
            If the recording cannot be read, or does not fit the model.

        Examples
        --------
        >>> table = model.predict(session).to_frame()
        >>> list(table)[:5]
        ['session', 'clip', 'frame_index', 'time_s', 'latent: paw_left_x']
        """
        found = predict_recording(self.saved, recording, session_index, batch_size, progress)
        return replace(found, model={**self.origin, **found.model})

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

    def export_onnx(self, path: Path | str, session_index: int = 0) -> None:
        """Write the encoder to an ONNX file, for programs that run without Python.

        Its input ``frames`` is uint8, (frame, channel, height, width), 0 to 255, as a recording
        stores them; its outputs are ``latents``, as `transform` has them, and, if the model
        predicts labels, ``labels``, as `predict_labels` has them. A conditional encoder takes
        ``labels_sc``, (frame, label) in pixels, as well. The metadata names the columns, their
        units, the size of the frames and the part of the video that they show.

        Parameters
        ----------
        path
            File to write.
        session_index
            The session of the fit whose layers and label units the file has.

        Raises
        ------
        ConfigError
            If the packages of the extra ``onnx`` are not installed.
        DataError
            If the model was fitted to no such session.
        StorageError
            If the file exists, or cannot be written.
        """
        from psvae_tune.models.onnx_file import write_onnx

        write_onnx(self.saved, Path(path), session_index)

    def _open(
        self, recording: Recording, session_index: int, labels_sc: ArrayLike | None = None
    ) -> RecordingFrames:
        return open_recording(recording, labels_sc, self.saved.views(session_index))

    def _encode(self, recording: Recording, session_index: int) -> Encoding:
        opened = self._open(recording, session_index)
        return encode(self.model, opened.iter_batches(self.model, session_index))
