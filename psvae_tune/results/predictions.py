"""Latents and predicted labels of whole recordings, a row a frame."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from psvae_tune.data.frame_rows import SECONDS, FrameRows, name_sessions, rows_of_session
from psvae_tune.models.batch import Batch
from psvae_tune.models.encoding import N_FRAMES_AT_ONCE, encode
from psvae_tune.models.model import Model
from psvae_tune.models.model_file import SavedModel
from psvae_tune.results.recording_frames import Recording, open_recording
from psvae_tune.training.batches import PreparedData

if TYPE_CHECKING:
    from pandas import DataFrame

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Output of a model for every frame of one session."""

    rows: FrameRows
    """Session, clip, index and time of every frame."""
    latent_names: tuple[str, ...]
    label_names: tuple[str, ...]
    """Names of the predicted labels; empty where the model predicts none."""
    latents: Floats
    """(frame, latent): posterior means, in the coordinates of the model's partition."""
    labels_hat: Floats | None
    """(frame, label) in the user's units."""
    label_masks: NDArray[np.bool_] | None = None
    """(frame, label); False where the recording's tracker lost the point. None where there is no
    prediction to compare with, or the recording has no such labels."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """The model's settings and, where it is known, its study, its trial and its run in MLflow, as
    plain JSON."""

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns of a table with one row a frame.

        They are ``session``, ``clip``, ``frame_index``, ``time_s`` (NaN where unknown), and
        ``latent: NAME``, ``label: NAME`` and ``mask: NAME``.
        """
        n_frames = len(self.latents)
        time_s = self.rows.time_s
        columns: dict[str, NDArray[Any]] = {
            "session": np.full(n_frames, self.rows.session),
            "clip": self.rows.clip_of_frames,
            "frame_index": self.rows.frame_index,
            "time_s": np.full(n_frames, np.nan) if time_s is None else time_s,
        }
        for kind, names, values in (
            ("latent", self.latent_names, self.latents),
            ("label", self.label_names, self.labels_hat),
            ("mask", self.label_names, self.label_masks),
        ):
            if values is not None:
                pairs = zip(names, values.T, strict=True)
                columns |= {f"{kind}: {name}": column for name, column in pairs}
        return columns

    def to_clips(self) -> dict[str, Floats]:
        """Return the latents of each clip, (frame, latent), by its name."""
        return {name: self.latents[rows] for name, rows in self.rows.clips()}

    def units(self) -> dict[str, str]:
        """Return the unit of each column that has one."""
        kinds = {
            "latent": "posterior mean, in units of the prior",
            "label": "unit of the recording's label",
            "mask": "1 where the tracker saw the point",
        }
        units = {"frame_index": self.rows.index_unit, "time_s": SECONDS}
        for name in self.to_columns():
            kind = name.partition(": ")[0]
            if kind in kinds:
                units[name] = kinds[kind]
        return units

    def to_frame(self) -> "DataFrame":
        """Return the columns of `to_columns` as a table of pandas."""
        from pandas import DataFrame

        return DataFrame(self.to_columns())


def predict_sessions(
    model: Model, data: PreparedData, device: torch.device
) -> tuple[Predictions, ...]:
    """Encode every clip of every session without sampling.

    Side effects: puts the model into evaluation mode.
    """
    found = []
    names = name_sessions([item.session.header.path for item in data.sessions])
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
                rows=rows_of_session(item.session, names[index]),
                latent_names=model.partition.name_latents(header.label_names),
                label_names=() if labels_hat is None else header.label_names,
                latents=seen.latents,
                labels_hat=labels_hat,
                label_masks=None if labels_hat is None else item.session.label_masks,
                model=describe_settings(model),
            )
        )
    return tuple(found)


def predict_recording(
    saved: SavedModel,
    recording: Recording,
    session_index: int = 0,
    n_at_once: int = N_FRAMES_AT_ONCE,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Encode every frame of a recording.

    Parameters
    ----------
    saved
        The model.
    recording
        Frames, a session, or the path of an HDF5 file in the BehaveNet layout or of a video, which
        is one clip; its frames are cut and scaled as those that the model was fitted to.
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
    opened = open_recording(recording, views=saved.views(session_index))
    batches = opened.iter_batches(saved.model, session_index, n_at_once=n_at_once)
    if progress is not None:
        batches = _count(batches, lambda n_done: progress(n_done, opened.n_frames))
    seen = encode(saved.model, batches)
    labels_hat, label_masks = seen.labels_hat, None
    if labels_hat is not None:
        labels_hat = saved.label_scaler.inverse(labels_hat, session_index)
        if opened.session and opened.session.header.label_names == saved.label_names:
            label_masks = opened.session.label_masks
    return Predictions(
        rows=opened.rows,
        latent_names=saved.model.partition.name_latents(saved.label_names),
        label_names=() if labels_hat is None else saved.label_names,
        latents=seen.latents,
        labels_hat=labels_hat,
        label_masks=label_masks,
        model=describe_settings(saved.model),
    )


def _count(batches: Iterator[Batch], progress: Callable[[int], None]) -> Iterator[Batch]:
    """Yield batches, and tell after each has been used how many frames that makes."""
    n_done = 0
    for batch in batches:
        yield batch
        n_done += len(batch.frames)
        progress(n_done)


def describe_settings(model: Model) -> dict[str, Any]:
    """Return the settings of a model under their published names."""
    return {"settings": model.config.model_dump(mode="json", by_alias=True)}
