"""The frames of a recording of any kind, in batches that a fitted model takes."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from psvae_tune.data.frame_rows import (
    FrameRows,
    name_sessions,
    rows_of_frames,
    rows_of_session,
    rows_of_video,
)
from psvae_tune.data.read_ahead import read_ahead
from psvae_tune.data.recorded_view import RecordedView
from psvae_tune.data.session import Session
from psvae_tune.data.session_file import read_session
from psvae_tune.data.video import Crop, VideoInfo, View, probe_video
from psvae_tune.data.video_frames import iterate_frames
from psvae_tune.errors import DataError
from psvae_tune.models.batch import Batch
from psvae_tune.models.encoding import N_FRAMES_AT_ONCE, iter_batches, split_frames
from psvae_tune.models.model import Model

logger = logging.getLogger(__name__)

# Difference in the ratio of the sides from which a picture is stretched.
_MAX_STRETCH = 0.02
_IMPORT = "make a recording of it with `psvae-tune data import`, cut and sized as that of the fit"
Recording = ArrayLike | Session | Path
"""Frames, (frame, channel, height, width), uint8 or floats in [0, 1]; a session; or the path of an
HDF5 file in the BehaveNet layout or of a video."""


@dataclass(frozen=True, slots=True)
class RecordingFrames:
    """A recording whose frames can be read in chunks; `open_recording` makes one."""

    source: NDArray[Any] | Session | VideoInfo
    labels_sc: NDArray[np.floating] | None = None
    """(frame, label) in pixels, all x, then all y."""
    views: tuple[RecordedView, ...] = ()
    """Which part of a video a model takes; empty if unknown."""

    @property
    def session(self) -> Session | None:
        """The recording as a session; None for frames alone and for videos."""
        return self.source if isinstance(self.source, Session) else None

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        if isinstance(self.source, VideoInfo):
            return self.source.n_frames
        return len(self.source.frames if isinstance(self.source, Session) else self.source)

    @property
    def rows(self) -> FrameRows:
        """Session, clip, index and time of every frame, as far as they are known."""
        if isinstance(self.source, VideoInfo):
            return rows_of_video(self.source)
        if isinstance(self.source, Session):
            return rows_of_session(self.source, *name_sessions([self.source.header.path]))
        return rows_of_frames(self.n_frames)

    @property
    def labels(self) -> NDArray[np.float32] | None:
        """(frame, label) in the user's units, NaN where the tracker lost the point."""
        if self.session is None or self.session.labels is None:
            return None
        masks = self.session.label_masks
        labels = self.session.labels
        return labels if masks is None else np.where(masks, labels, np.float32(np.nan))

    def iter_batches(
        self,
        model: Model,
        session_index: int = 0,
        labels: NDArray[np.floating] | None = None,
        n_at_once: int = N_FRAMES_AT_ONCE,
    ) -> Iterator[Batch]:
        """Yield all frames as batches on the device of a model.

        The frames of a video are cut and scaled as those that the model was fitted to. A thread
        reads the next batch while a batch is used.

        Parameters
        ----------
        model
            The model that takes the batches.
        session_index
            The session of the fit whose layers are used.
        labels
            (frame, label), standardised; only a conditional model needs them.
        n_at_once
            Largest number of frames in a batch.

        Raises
        ------
        DataError
            If the recording cannot be read, or does not fit the model.
        """
        chunks = self._read(model, n_at_once)
        return read_ahead(iter_batches(model, chunks, session_index, labels, self.labels_sc))

    def _read(self, model: Model, n_at_once: int) -> Iterator[NDArray[Any]]:
        if isinstance(self.source, VideoInfo):
            return _read_video(self.source, model, self.views, n_at_once)
        if isinstance(self.source, Session):
            return split_frames(self.source.frames, n_at_once)
        return split_frames(self.source, n_at_once)


def _read_video(
    info: VideoInfo, model: Model, views: Sequence[RecordedView], n_at_once: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield chunks of a video as (frame, channel, height, width)."""
    damaged: list[int] = []
    view = _choose_view(info, model, views)
    frames = iterate_frames(info, view, range(info.n_frames), damaged)
    while chunk := list(islice(frames, n_at_once)):
        yield np.stack(chunk)
    if damaged:
        listed = ", ".join(map(str, damaged[:10])) + (", …" if len(damaged) > 10 else "")
        logger.warning("%s: damaged frames repeat the one before: %s", info.path, listed)


def _choose_view(info: VideoInfo, model: Model, views: Sequence[RecordedView]) -> View:
    """Return the part of a video that stands for what a model was fitted on.

    Raises
    ------
    DataError
        If the model was fitted on several cameras, or on a part that this video does not have.
    """
    shape = model.shape
    is_colour = len(views) == 1 and views[0].is_colour
    n_channels = 3 if is_colour else 1
    if shape.n_channels != n_channels:
        problem = f"a video has {n_channels} channel, the model was fitted on {shape.n_channels}"
        raise DataError(str(info.path), problem, _IMPORT)
    view = View(info.whole, shape.width, shape.height, is_colour)
    if not views:
        if abs(shape.width * info.height / (shape.height * info.width) - 1) > _MAX_STRETCH:
            logger.warning(
                "%s: frames of %dx%d are stretched to %dx%d, because the model does not say which "
                "part of a video it was fitted on",
                *(info.path, info.width, info.height, shape.width, shape.height),
            )
        return view
    (recorded,) = views
    width, height = recorded.video_size
    if (info.width, info.height) == (width, height):
        return replace(view, crop=Crop(*recorded.crop))
    is_alike = abs(width * info.height / (height * info.width) - 1) <= _MAX_STRETCH
    if recorded.is_whole and is_alike:
        return view
    part = "{}x{}+{}+{}".format(*recorded.crop)
    problem = f"must have frames of {width}x{height}, of which the model was fitted on {part}"
    raise DataError(str(info.path), f"{problem}, got {info.width}x{info.height}", _IMPORT)


def open_recording(
    recording: Recording,
    labels_sc: ArrayLike | None = None,
    views: tuple[RecordedView, ...] = (),
) -> RecordingFrames:
    """Open a recording; an HDF5 file is read and checked as a whole.

    Parameters
    ----------
    recording
        Frames, a session, or a path.
    labels_sc
        (frame, label) in pixels, all x, then all y; by default those of the session.
    views
        Which part of a video the model takes.

    Raises
    ------
    DataError
        If it is no recording, or its file cannot be read.
    """
    try:
        points = None if labels_sc is None else np.asarray(labels_sc, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError("labels_sc", f"must be numbers, got {labels_sc!r:.80}") from error
    if isinstance(recording, str | Path):
        path = Path(recording)
        if not h5py.is_hdf5(path):
            return RecordingFrames(probe_video(path), points, views)
        recording = read_session(path, needs_labels=False)
    if isinstance(recording, Session):
        return RecordingFrames(recording, recording.labels_sc if points is None else points)
    try:
        frames = np.asarray(recording)
    except ValueError as error:  # frames of unequal shapes
        raise DataError("frames", f"are no array: {error}") from error
    if not frames.ndim:
        kind = type(recording).__name__
        raise DataError("recording", f"must be frames, a session or a path, got {kind}")
    return RecordingFrames(frames, points)
