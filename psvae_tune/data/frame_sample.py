"""Take a few frames of many clips, for measures that need not see all of a recording."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.session import Session, SessionHeader
from psvae_tune.data.untrusted_hdf5 import HDF5_ERRORS, open_hdf5
from psvae_tune.errors import DataError

MAX_FRAMES = 1000
"""Number of frames of all recordings together."""
MAX_PIXELS = 2**25
"""Number of pixels of these frames."""
MAX_CLIPS = 100
"""Number of clips of all recordings together that are read."""

ReadClip = Callable[[int], Mapping[str, NDArray[Any]]]
"""Takes the number of a clip; returns its arrays by the names of the groups of a file."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameSample:
    """Frames of some clips, with their labels."""

    frames: NDArray[Any]
    """(frame, channel, height, width); uint8, or floats in [0, 1]."""
    clips: NDArray[np.intp]
    """(frame,), the clip of each; no two recordings share a number."""
    labels: NDArray[np.floating] | None
    """(frame, label), as the recordings hold them; masked ones mean nothing."""
    label_mask: NDArray[np.bool_] | None
    """(frame, label)."""
    frame_mask: NDArray[np.bool_] | None
    """As the frames; None where all pixels count."""
    session_index: NDArray[np.intp]
    """(frame,)."""


def sample_sessions(sessions: Sequence[Session], clips: Sequence[Sequence[int]]) -> FrameSample:
    """Take frames of recordings that have been read.

    Parameters
    ----------
    sessions
        The recordings.
    clips
        Clips of each recording to take frames from, evenly.

    Raises
    ------
    DataError
        If a recording that stays in its file cannot be read, or was changed.
    """
    parts = [
        _sample(session.header, numbers, len(sessions), partial(_take_clip, session))
        for session, numbers in zip(sessions, clips, strict=True)
    ]
    return _join(parts)


def sample_files(headers: Sequence[SessionHeader], clips: Sequence[Sequence[int]]) -> FrameSample:
    """Take frames of recordings straight from their files.

    Parameters
    ----------
    headers
        The recordings.
    clips
        Clips of each recording to take frames from, evenly.

    Raises
    ------
    DataError
        If a file cannot be read, or holds pixels that are no numbers.
    """
    parts = []
    for header, numbers in zip(headers, clips, strict=True):
        with open_hdf5(header.path) as file:
            read = partial(_read_clip, file, header)
            parts.append(_sample(header, numbers, len(headers), read))
    return _join(parts)


def _sample(
    header: SessionHeader, numbers: Sequence[int], n_sessions: int, read: ReadClip
) -> FrameSample:
    """Return evenly spaced frames of evenly spaced clips of one of several recordings."""
    n_frames = min(MAX_FRAMES, MAX_PIXELS // math.prod(header.frame_shape)) // n_sessions
    chosen = _space_evenly(len(numbers), max(2, min(MAX_CLIPS // n_sessions, n_frames)))
    n_each = max(1, n_frames // len(chosen))
    parts: dict[str, list[NDArray[Any]]] = {}
    clips = []
    for number in (numbers[i] for i in chosen):
        rows = _space_evenly(header.clip_lengths[number], n_each)
        for name, array in read(number).items():
            parts.setdefault(name, []).append(array[rows])
        clips += [number] * len(rows)
    arrays = {name: np.concatenate(found) for name, found in parts.items()}
    labels, mask = arrays.get("labels"), arrays.get("labels_masks")
    if labels is not None:
        mask = np.isfinite(labels) if mask is None else (mask > 0) & np.isfinite(labels)
    hidden = arrays.get("masks")
    return FrameSample(
        arrays["images"],
        np.array(clips, np.intp),
        labels,
        mask,
        None if hidden is None else hidden > 0,
        np.zeros(len(clips), np.intp),
    )


def _space_evenly(n: int, n_chosen: int) -> NDArray[np.intp]:
    """Return at most so many of the numbers below ``n``, at equal distances."""
    return np.unique(np.linspace(0, n - 1, min(n, n_chosen)).astype(np.intp))


def _take_clip(session: Session, number: int) -> dict[str, NDArray[Any]]:
    rows = session.clip(number)
    found = {
        "images": session.frames,
        "labels": session.labels,
        "labels_masks": session.label_masks,
        "masks": session.frame_masks,
    }
    return {name: array[rows] for name, array in found.items() if array is not None}


def _read_clip(file: h5py.File, header: SessionHeader, number: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a clip, which may hold anything.

    Raises
    ------
    DataError
        If the clip cannot be read, or holds pixels that are no numbers from 0 to 1.
    """
    has = {
        "images": True,
        "labels": header.n_labels > 0,
        "labels_masks": header.has_label_masks,
        "masks": header.has_frame_masks,
    }
    name = header.clip_names[number]
    try:
        found = {group: file[group][name][()] for group, is_there in has.items() if is_there}
    except HDF5_ERRORS as error:
        hint = "the file is damaged or incomplete: copy it again from where it came"
        raise DataError(header.path, f"`{name}` cannot be read, got {error}", hint) from error
    frames = found["images"]
    if frames.dtype != np.uint8 and not ((frames >= 0) & (frames <= 1)).all():
        raise DataError(header.path, f"clip `{name}` must have pixels in [0, 1] or be uint8")
    return found


def _join(parts: Sequence[FrameSample]) -> FrameSample:
    """Return the samples of several recordings as one; a recording without masks hides nothing."""
    if len(parts) == 1:
        return parts[0]
    has_masks = any(part.frame_mask is not None for part in parts)
    masks = [
        np.ones(part.frames.shape, bool) if part.frame_mask is None else part.frame_mask
        for part in parts
        if has_masks
    ]
    kinds = {part.frames.dtype for part in parts}
    frames = [
        part.frames if len(kinds) == 1 or part.frames.dtype != np.uint8 else part.frames / 255
        for part in parts
    ]
    n_clips = 1 + max(int(part.clips.max()) for part in parts)
    labels = [part.labels for part in parts if part.labels is not None]
    label_masks = [part.label_mask for part in parts if part.label_mask is not None]
    return FrameSample(
        np.concatenate(frames),
        np.concatenate([part.clips + i * n_clips for i, part in enumerate(parts)]),
        np.concatenate(labels) if len(labels) == len(parts) else None,
        np.concatenate(label_masks) if len(labels) == len(parts) else None,
        np.concatenate(masks) if has_masks else None,
        np.concatenate([part.session_index + i for i, part in enumerate(parts)]),
    )
