"""Latents and predicted labels of whole recordings, and their files.

The HDF5 file has the layout of the recordings: group ``latents`` and, where the model predicts
labels, ``labels_hat``, one dataset a clip, and the names of the columns as attributes.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from psvae_tune.models.batch import Batch
from psvae_tune.models.encoding import N_FRAMES_AT_ONCE, encode
from psvae_tune.models.model import Model
from psvae_tune.models.model_file import SavedModel
from psvae_tune.results.recording_frames import open_recording
from psvae_tune.training.batches import PreparedData

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Predictions:
    """Output of a model for every frame of one session."""

    latent_names: tuple[str, ...]
    label_names: tuple[str, ...]
    """Names of the predicted labels; empty where the model predicts none."""
    clip_names: tuple[str, ...]
    clip_lengths: tuple[int, ...]
    latents: Floats
    """(frame, latent): posterior means, in the coordinates of the model's partition."""
    labels_hat: Floats | None
    """(frame, label) in the user's units."""

    def clips(self) -> Iterator[tuple[str, slice]]:
        """Yield every clip with its frames."""
        start = 0
        for name, length in zip(self.clip_names, self.clip_lengths, strict=True):
            yield name, slice(start, start + length)
            start += length


def predict_sessions(
    model: Model, data: PreparedData, device: torch.device
) -> tuple[Predictions, ...]:
    """Encode every clip of every session without sampling.

    Side effects: puts the model into evaluation mode.
    """
    found = []
    for index, item in enumerate(data.sessions):
        header = item.session.header
        clips = (data.batch([(index, clip)], device) for clip in range(header.n_clips))
        seen = encode(model, clips)
        labels_hat = None
        if seen.labels_hat is not None:
            assert data.label_scaler is not None
            labels_hat = data.label_scaler.inverse(seen.labels_hat, index)
        found.append(
            Predictions(
                latent_names=model.partition.name_latents(header.label_names),
                label_names=() if labels_hat is None else header.label_names,
                clip_names=header.clip_names,
                clip_lengths=header.clip_lengths,
                latents=seen.latents,
                labels_hat=labels_hat,
            )
        )
    return tuple(found)


def to_hdf5(predictions: Predictions) -> bytes:
    """Return predictions as the bytes of an HDF5 file."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _write_group(file, "latents", predictions.latents, predictions.latent_names, predictions)
        if predictions.labels_hat is not None:
            names = predictions.label_names
            _write_group(file, "labels_hat", predictions.labels_hat, names, predictions)
    return buffer.getvalue()


def _write_group(
    file: h5py.File, name: str, values: Floats, columns: Sequence[str], predictions: Predictions
) -> None:
    group = file.create_group(name)
    group.attrs["names"] = json.dumps(list(columns))
    for clip_name, rows in predictions.clips():
        group.create_dataset(clip_name, data=values[rows])


def to_csv(predictions: Predictions) -> bytes:
    """Return predictions as CSV, one row a frame: clip, frame, latents, labels."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    latent_columns = [f"latent: {name}" for name in predictions.latent_names]
    label_columns = [f"label: {name}" for name in predictions.label_names]
    writer.writerow(["clip", "frame", *latent_columns, *label_columns])
    values = predictions.latents
    if predictions.labels_hat is not None:
        values = np.concatenate([values, predictions.labels_hat], axis=1)
    for clip_name, rows in predictions.clips():
        for frame, row in enumerate(values[rows]):
            writer.writerow([clip_name, frame, *(f"{value:.6g}" for value in row)])
    return text.getvalue().encode()


def predict_recording(
    saved: SavedModel,
    path: Path,
    session_index: int = 0,
    n_at_once: int = N_FRAMES_AT_ONCE,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Encode every frame of a recording.

    Parameters
    ----------
    saved
        The model.
    path
        An HDF5 file in the BehaveNet layout, or a video, which is one clip; its frames are cut and
        scaled as those that the model was fitted to.
    session_index
        The session of the fit whose layers and label units are used.
    n_at_once
        Largest number of frames that are encoded at a time.
    progress
        Called after every batch with the number of frames that are done, and of all frames.

    Raises
    ------
    DataError
        If the recording cannot be read, or does not fit the model.
    """
    recording = open_recording(path, views=saved.views(session_index))
    batches = recording.iter_batches(saved.model, session_index, n_at_once=n_at_once)
    if progress is not None:
        batches = _count(batches, lambda n_done: progress(n_done, recording.n_frames))
    seen = encode(saved.model, batches)
    clip_names: tuple[str, ...] = ("trial_0000",)
    clip_lengths: tuple[int, ...] = (recording.n_frames,)
    if recording.session is not None:
        header = recording.session.header
        clip_names, clip_lengths = header.clip_names, header.clip_lengths
    labels_hat = seen.labels_hat
    if labels_hat is not None:
        labels_hat = saved.label_scaler.inverse(labels_hat, session_index)
    return Predictions(
        latent_names=saved.model.partition.name_latents(saved.label_names),
        label_names=() if labels_hat is None else saved.label_names,
        clip_names=clip_names,
        clip_lengths=clip_lengths,
        latents=seen.latents,
        labels_hat=labels_hat,
    )


def _count(batches: Iterator[Batch], progress: Callable[[int], None]) -> Iterator[Batch]:
    """Yield batches, and tell after each has been used how many frames that makes."""
    n_done = 0
    for batch in batches:
        yield batch
        n_done += len(batch.frames)
        progress(n_done)
