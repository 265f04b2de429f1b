"""Latents and labels of recordings that a model has never seen."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.session_file import read_session
from psvae_tune.data.video import View, iterate_frames, probe_video
from psvae_tune.errors import DataError
from psvae_tune.models.model_file import SavedModel
from psvae_tune.models.pyfunc import N_FRAMES_AT_ONCE, FramesToLatents
from psvae_tune.predictions import Predictions, name_latents


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
