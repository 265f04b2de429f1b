"""Latents and predicted labels of whole recordings, and the files that hold them.

The HDF5 file has the layout of the recordings: group ``latents`` and, where the model predicts
labels, ``labels_hat``, one dataset a clip, and the names of the columns as attributes.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from psvae_tune.data.session_file import read_session
from psvae_tune.data.video import View, iterate_frames, probe_video
from psvae_tune.errors import DataError
from psvae_tune.models.latents import Partition
from psvae_tune.models.model import Model
from psvae_tune.models.model_file import SavedModel
from psvae_tune.models.pyfunc import N_FRAMES_AT_ONCE, FramesToLatents
from psvae_tune.training.batches import PreparedData

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says of every frame of one session."""

    latent_names: tuple[str, ...]
    label_names: tuple[str, ...]
    """Of the predicted labels; empty where the model predicts none."""
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


def name_latents(partition: Partition, label_names: Sequence[str]) -> tuple[str, ...]:
    """Return a name for each latent: that of its label, or its block and its number there."""
    supervised = tuple(label_names[: partition.n_supervised])
    background = tuple(f"background {i}" for i in range(partition.n_background))
    return (
        *supervised,
        *background,
        *(f"unsupervised {i}" for i in range(partition.n_unsupervised)),
    )


@torch.inference_mode()
def predict_sessions(
    model: Model, data: PreparedData, device: torch.device
) -> tuple[Predictions, ...]:
    """Encode every clip of every session without sampling.

    Side effects: puts the model into evaluation mode.
    """
    model.eval()
    found = []
    for index, item in enumerate(data.sessions):
        header = item.session.header
        latents, labels_hat = [], []
        for clip in range(header.n_clips):
            batch = data.batch([(index, clip)], device)
            mean = model.encode(batch.frames, batch.labels_sc, batch.session_index).mean
            latents.append(model.to_partition(mean).cpu().numpy())
            predicted = model.predict_labels(mean)
            if predicted is not None and item.scaler is not None:
                labels_hat.append(item.scaler.inverse(predicted.cpu().numpy()))
        found.append(
            Predictions(
                latent_names=name_latents(model.partition, header.label_names),
                label_names=header.label_names if labels_hat else (),
                clip_names=header.clip_names,
                clip_lengths=header.clip_lengths,
                latents=np.concatenate(latents),
                labels_hat=np.concatenate(labels_hat) if labels_hat else None,
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
    """Return predictions as a table, one row a frame: clip, frame, latents, labels."""
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


def predict_recording(saved: SavedModel, path: Path, session_index: int = 0) -> Predictions:
    """Encode every frame of a recording.

    Parameters
    ----------
    saved
        The model.
    path
        An HDF5 file in the BehaveNet layout, or a video, which is one clip; its frames are made
        grey and scaled to the size that the model was fitted on.
    session_index
        Whose layers and label units to use, where the model has several sessions.

    Raises
    ------
    DataError
        If the recording cannot be read, or does not fit the model.
    """
    encoder = FramesToLatents(saved)
    if h5py.is_hdf5(path):
        session = read_session(path, needs_labels=False)
        header = session.header
        clip_names, clip_lengths = header.clip_names, header.clip_lengths
        parts = [
            encoder.predict(session.frames[start : start + N_FRAMES_AT_ONCE], session_index)
            for start in range(0, header.n_frames, N_FRAMES_AT_ONCE)
        ]
    else:
        parts = [encoder.predict(chunk, session_index) for chunk in _read_video(saved, path)]
        clip_names = ("trial_0000",)
        clip_lengths = (sum(len(part["latents"]) for part in parts),)
    label_names = tuple(saved.extra.get("label_names", ()))
    has_labels = "labels" in parts[0]
    return Predictions(
        latent_names=name_latents(saved.model.partition, label_names),
        label_names=label_names if has_labels else (),
        clip_names=clip_names,
        clip_lengths=clip_lengths,
        latents=np.concatenate([part["latents"] for part in parts]),
        labels_hat=np.concatenate([part["labels"] for part in parts]) if has_labels else None,
    )


def _read_video(saved: SavedModel, path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield chunks of a video as (frame, 1, height, width)."""
    shape = saved.model.shape
    if shape.n_channels != 1:
        raise DataError(
            str(path), f"a video has 1 channel, the model was fitted on {shape.n_channels}"
        )
    info = probe_video(path)
    view = View(info.whole, shape.width, shape.height)
    frames = iterate_frames(info, view, range(info.n_frames))
    while chunk := list(islice(frames, N_FRAMES_AT_ONCE)):
        yield np.stack(chunk)
