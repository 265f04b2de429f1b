"""The half of a fitted model that encodes: recordings become latents and labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from numpy.typing import ArrayLike

from psvae_tune.errors import ConfigError
from psvae_tune.models.encoding import N_FRAMES_AT_ONCE, Encoding, Floats, encode
from psvae_tune.models.model import Model
from psvae_tune.models.model_file import SavedModel, load_model
from psvae_tune.results.predictions import Predictions, predict_recording
from psvae_tune.results.recording_frames import Recording, RecordingFrames, open_recording


@dataclass(frozen=True, slots=True, repr=False)
class FittedEncoder:
    """What `FittedModel` tells of frames: their latents and their labels.

    Attributes
    ----------
    saved
        Contents of the model file.
    origin
        Where the model is from, as far as it is known: its file or name, its study, its trial and
        its run in MLflow.
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
        return f"{type(self).__name__}({self.model.config.model_class}, {counts})"

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

    def export_onnx(self, path: Path | str, session_index: int = 0) -> None:
        """Write the encoder to an ONNX file, for programs that run without Python.

        Its input ``frames`` is uint8, (frame, channel, height, width), 0 to 255, as a recording
        stores them; its outputs are ``latents``, as `transform` has them, and, if the model
        predicts labels, ``labels``, as `predict_labels` has them. A conditional encoder takes
        ``labels_sc``, (frame, label) in pixels, as well. The metadata names the columns, their
        units, the size of the frames, the part of the video that they show, and `origin`.

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

        write_onnx(self.saved, Path(path), session_index, self.origin)

    def _open(
        self, recording: Recording, session_index: int, labels_sc: ArrayLike | None = None
    ) -> RecordingFrames:
        return open_recording(recording, labels_sc, self.saved.views(session_index))

    def _encode(self, recording: Recording, session_index: int) -> Encoding:
        opened = self._open(recording, session_index)
        return encode(self.model, opened.iter_batches(self.model, session_index))
