"""Read a session from an HDF5 file of the BehaveNet layout and check every value; write one."""

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.label_scaler import flat_label_problems
from psvae_tune.data.memory_limits import check_memory, room_for_recordings
from psvae_tune.data.session import Frames, Session, SessionHeader
from psvae_tune.data.session_header import inspect_session
from psvae_tune.data.session_values import value_problems
from psvae_tune.data.streamed_frames import StoredFrames, read_into
from psvae_tune.data.untrusted_hdf5 import fixed_length_text, open_hdf5
from psvae_tune.errors import DataError
from psvae_tune.files import replace_when_whole

# Groups that say where frames come from. No model sees them, so they are no part of the digest.
_ORIGIN_DTYPES = {"frame_index": np.dtype(np.int64), "time_s": np.dtype(np.float64)}


class ExtraGroup(NamedTuple):
    """A group that BehaveNet does not know: an array to be cut into clips, and attributes."""

    array: NDArray[Any]
    """(frame, …)."""
    attributes: Mapping[str, str] = {}


def read_session(
    path: str | Path,
    *,
    needs_labels: bool,
    progress: Callable[[int], None] | None = None,
    in_memory: bool | None = None,
) -> Session:
    """Read a whole session and check every value.

    Parameters
    ----------
    path
        An HDF5 file in the BehaveNet layout.
    needs_labels
        Whether a file without labels, or with a label that never varies, is refused.
    progress
        Called after each clip with the number of frames that have been read.
    in_memory
        Whether the frames are kept in memory, or read again clip by clip wherever they are
        needed. None keeps them if the free memory allows.

    Raises
    ------
    DataError
        If the layout or a value is wrong, or the arrays do not fit into memory.
    """
    with open_hdf5(path) as file:
        header = inspect_session(file, path, needs_labels=needs_labels)
        if in_memory is None:
            in_memory = header.n_frames * header.frame_bytes <= room_for_recordings()
        specs = _specify_arrays(header)
        arrays = _allocate(header, specs, in_memory)
        digest = _begin_digest(header, specs)
        checksums = _read_clips(file, header, specs, arrays, digest, progress)
    labels, label_masks = arrays.get("labels"), arrays.get("labels_masks")
    if needs_labels:
        assert labels is not None
        assert label_masks is not None
        if problems := flat_label_problems(header.label_names, labels, label_masks):
            raise DataError(header.path, problems, "leave the label out of the file")
    stored = {
        name: StoredFrames(header, name, specs[name].dtype, tuple(found))
        for name, found in checksums.items()
    }
    groups: dict[str, Frames] = {**arrays, **stored}
    for name in sorted(groups.keys() - {"images", *_ORIGIN_DTYPES}):
        for _, rows in _iterate_clips(header.clip_names, header.clip_lengths):
            digest.update(groups[name][rows])
    return Session(
        header=header,
        frames=groups["images"],
        labels=labels,
        label_masks=label_masks,
        labels_sc=arrays.get("labels_sc"),
        frame_masks=groups.get("masks"),
        digest=digest.hexdigest(),
        frame_index=arrays.get("frame_index"),
        time_s=arrays.get("time_s"),
    )


def write_session(
    path: str | Path,
    frames: NDArray[np.uint8] | NDArray[np.float32],
    clip_lengths: Sequence[int],
    *,
    label_names: Sequence[str] = (),
    labels: NDArray[np.floating] | None = None,
    label_masks: NDArray[np.bool_] | None = None,
    labels_sc: NDArray[np.floating] | None = None,
    frame_masks: NDArray[np.bool_] | None = None,
    extra_groups: Mapping[str, ExtraGroup] | None = None,
) -> None:
    """Write a session file in the BehaveNet layout.

    Parameters
    ----------
    path
        The file to write; one that exists is replaced.
    frames
        (frame, channel, height, width); uint8, or float in [0, 1].
    clip_lengths
        Frames in each clip; their sum is the number of frames.
    label_names
        One name for each label.
    labels, label_masks, labels_sc
        (frame, label); see `Session`. Masked values may be anything.
    frame_masks
        (frame, channel, height, width).
    extra_groups
        Groups that no model sees.

    Side effects
    ------------
    Writes beside ``path``, then renames: whoever looks finds a whole file or none.
    """
    assert sum(clip_lengths) == len(frames)
    groups = {
        "images": frames,
        "labels": labels,
        "labels_masks": None if label_masks is None else label_masks.astype(np.float32),
        "labels_sc": labels_sc,
        "masks": None if frame_masks is None else frame_masks.astype(np.uint8),
    }
    contents = {name: ExtraGroup(array) for name, array in groups.items() if array is not None}
    contents |= extra_groups or {}
    clip_names = [f"trial_{index:04d}" for index in range(len(clip_lengths))]
    with replace_when_whole(Path(path)) as unfinished, h5py.File(unfinished, "x") as file:
        if label_names:
            file.attrs["label_names"] = fixed_length_text(json.dumps(list(label_names)))
        for name, (array, attributes) in contents.items():
            group = file.create_group(name)
            group.attrs.update({key: fixed_length_text(text) for key, text in attributes.items()})
            for clip_name, rows in _iterate_clips(clip_names, clip_lengths):
                group.create_dataset(clip_name, data=array[rows], compression="gzip")


def _iterate_clips(
    clip_names: Sequence[str], clip_lengths: Sequence[int]
) -> Iterator[tuple[str, slice]]:
    """Yield every clip with its frames as a slice of the first axis."""
    start = 0
    for clip_name, length in zip(clip_names, clip_lengths, strict=True):
        yield clip_name, slice(start, start + length)
        start += length


class _ArraySpec(NamedTuple):
    """Shape and type of the array of one group."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _specify_arrays(header: SessionHeader) -> dict[str, _ArraySpec]:
    """Return shape and type of the array of each group, which holds all of its clips."""
    frames_dtype = np.dtype(np.float32 if header.has_float_frames else np.uint8)
    frames_shape = (header.n_frames, *header.frame_shape)
    specs = {"images": _ArraySpec(frames_shape, frames_dtype)}
    if header.has_frame_masks:
        specs["masks"] = _ArraySpec(frames_shape, np.dtype(bool))
    if header.n_labels:
        labels_shape = (header.n_frames, header.n_labels)
        specs["labels"] = _ArraySpec(labels_shape, np.dtype(np.float32))
        specs["labels_masks"] = _ArraySpec(labels_shape, np.dtype(bool))
        if header.has_labels_sc:
            specs["labels_sc"] = _ArraySpec(labels_shape, np.dtype(np.float32))
    are_there = {"frame_index": header.has_frame_index, "time_s": header.has_times}
    for name, dtype in _ORIGIN_DTYPES.items():
        if are_there[name]:
            specs[name] = _ArraySpec((header.n_frames,), dtype)
    return specs


def _allocate(
    header: SessionHeader, specs: Mapping[str, _ArraySpec], in_memory: bool
) -> dict[str, NDArray[Any]]:
    """Make one array for each group that is kept in memory."""
    kept = {
        name: spec for name, spec in specs.items() if in_memory or name not in ("images", "masks")
    }
    n_bytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in kept.values())
    longest = max(header.clip_lengths)
    if not in_memory:
        n_bytes += longest * header.frame_bytes
    if header.has_frame_masks:  # a clip of them is read as it is stored, 8 bytes at most a pixel
        n_bytes += 8 * longest * math.prod(header.frame_shape)
    check_memory(n_bytes, header.path)
    return {
        name: np.ones(shape, dtype) if name == "labels_masks" else np.empty(shape, dtype)
        for name, (shape, dtype) in kept.items()
    }


def _read_clips(
    file: h5py.File,
    header: SessionHeader,
    specs: Mapping[str, _ArraySpec],
    arrays: Mapping[str, NDArray[Any]],
    digest: Any,
    progress: Callable[[int], None] | None,
) -> dict[str, list[int]]:
    """Read every clip into its place in the arrays, and check its values.

    Returns
    -------
    dict
        Checksums of the clips of each group that is not kept in memory.

    Side effects: fills the arrays, and adds the frames to ``digest``.
    """
    problems: list[str] = []
    checksums: dict[str, list[int]] = {name: [] for name in specs.keys() - arrays.keys()}
    for clip_name, rows in _iterate_clips(header.clip_names, header.clip_lengths):
        clip = _read_clip(file, header, clip_name, rows, specs, arrays, problems)
        digest.update(clip["images"])  # the group whose name comes first
        for name, found in checksums.items():
            found.append(zlib.crc32(clip[name].data))
        if progress is not None:
            progress(rows.stop)
    if problems:
        raise DataError(header.path, problems)
    return checksums


def check_clips(
    file: h5py.File, header: SessionHeader
) -> Iterator[tuple[NDArray[Any], list[str]]]:
    """Yield the frames of each clip, and what is wrong with the values of its arrays.

    A recording with any of these problems is refused by `read_session`.
    """
    specs = _specify_arrays(header)
    arrays = _allocate(header, specs, in_memory=False)
    for clip_name, rows in _iterate_clips(header.clip_names, header.clip_lengths):
        problems: list[str] = []
        clip = _read_clip(file, header, clip_name, rows, specs, arrays, problems)
        yield clip["images"], problems


def _read_clip(
    file: h5py.File,
    header: SessionHeader,
    clip_name: str,
    rows: slice,
    specs: Mapping[str, _ArraySpec],
    arrays: Mapping[str, NDArray[Any]],
    problems: list[str],
) -> dict[str, NDArray[Any]]:
    """Return a clip of every group: views of the arrays in memory, and arrays of its own.

    Side effects: fills the arrays, and adds what is wrong with the values to ``problems``.
    """
    n_frames = rows.stop - rows.start
    clip = {
        name: arrays[name][rows] if name in arrays else np.empty((n_frames, *shape[1:]), dtype)
        for name, (shape, dtype) in specs.items()
    }
    for name, part in clip.items():
        if name != "labels_masks" or header.has_label_masks:
            problems += read_into(part, file, f"{name}/{clip_name}", header.path)
    problems += value_problems(clip_name, clip, header.label_names)
    for name in clip.keys() & {"labels", "labels_sc"}:
        clip[name][~clip["labels_masks"]] = 0
    return clip


def _begin_digest(header: SessionHeader, specs: Mapping[str, _ArraySpec]) -> Any:
    """Begin to hash the contents of a session, which do not depend on how the file stores them."""
    shapes = {
        name: [shape, dtype.str]
        for name, (shape, dtype) in specs.items()
        if name not in _ORIGIN_DTYPES
    }
    names = [header.clip_names, header.clip_lengths, header.label_names]
    return hashlib.sha256(json.dumps([names, shapes], sort_keys=True).encode())
