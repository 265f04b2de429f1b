"""Write the recording that an import plan describes, clip by clip.

All but the frames is written first, with room kept for every clip of frames. What is written
after that changes no structure of the HDF5 file, which HDF5 could not finish on a full disk. So
an import that is killed, or fills the disk, loses a few clips at most, and the same import later
continues where it stopped.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.importers.plan import ImportPlan
from psvae_tune.data.untrusted_hdf5 import HDF5_ERRORS, fixed_length_text
from psvae_tune.data.video_frames import iterate_frames
from psvae_tune.errors import DataError, StorageError

FORMAT = 5
"""Version of what an import writes; an unfinished import of another version is not continued."""
SAVE_EVERY_S = 2.0
"""Seconds between two notes of how many clips are written."""

# Attributes of an unfinished file: what it is an import of, and how far that is.
_IDENTITY, _N_DONE = "unfinished_import", "n_clips_written"
# Attribute of a clip of frames: its rows that could not be decoded.
_DAMAGED = "damaged"


def import_session(
    plan: ImportPlan,
    path: Path,
    *,
    replaces: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[str, ...]:
    """Write the session that a plan describes.

    Parameters
    ----------
    plan
        From `plan_import`.
    path
        The session file.
    replaces
        Whether a file there may be replaced.
    progress
        Called after each clip with the number of frames that are written.

    Returns
    -------
    tuple of str
        Notes on damaged frames: each repeats the frame before, and its labels are masked.

    Raises
    ------
    DataError
        If a video breaks off, or too many of its frames are damaged.
    StorageError
        If the file exists, or cannot be written.

    Side effects
    ------------
    Writes a file beside ``path``, which takes its name when it is whole. An import that was
    interrupted continues after the last clip that is known to be written.
    """
    check_output(path, replaces)
    unfinished = path.with_name(f"{path.name}.unfinished")
    identity = _identify(plan)
    try:
        n_done = _count_done(unfinished, identity)
        _check_room(plan, n_done, path.parent)
        if not n_done:
            _lay_out(unfinished, plan, identity)
        notes = _fill(unfinished, plan, n_done, progress or (lambda n_frames: None))
        unfinished.replace(path)
    except OSError as error:
        words = os.strerror(error.errno).lower() if error.errno else str(error)
        hint = "what is done is kept: make room and run the same command again"
        raise StorageError(str(path), f"cannot be written: {words}", hint) from error
    except DataError:
        unfinished.unlink()  # the same request would end at the same place
        raise
    return notes


def check_output(path: Path, replaces: bool) -> None:
    """Make sure that a session may be written.

    Raises
    ------
    StorageError
        If there is something at ``path`` that may not be replaced, or no folder for it.
    """
    if path.is_dir():
        raise StorageError(str(path), "must be a file to write, got a folder")
    if path.exists() and not replaces:
        hint = "choose another with --output, or add --overwrite"
        raise StorageError(str(path), "exists", hint)
    if not path.parent.is_dir():
        raise StorageError(str(path), f"there is no folder {path.parent}")


def _check_room(plan: ImportPlan, first: int, folder: Path) -> None:
    n_bytes = sum(plan.clip_lengths[first:]) * math.prod(plan.frame_shape)
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        problem = f"needs {n_bytes / 1e9:.1f} GB of disk, got {free / 1e9:.1f}"
        raise StorageError(str(folder), problem, "store smaller frames with --size, or fewer")


def _identify(plan: ImportPlan) -> str:
    """Return a hash of everything that determines the contents of the session."""
    parts: list[Any] = [FORMAT, [item["sha256"] for item in plan.sources], plan.clip_lengths]
    parts += [str(plan.frames), [asdict(view) for view in plan.views]]
    parts += [plan.attributes["label_names"], [_hash(plan.arrays[n]) for n in sorted(plan.arrays)]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _hash(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _count_done(unfinished: Path, identity: str) -> int:
    """Return the number of clips that an earlier import of the same plan has written."""
    try:
        with h5py.File(unfinished) as file:
            is_same = file.attrs.get(_IDENTITY) == identity.encode()
            return int(file.attrs[_N_DONE]) if is_same else 0
    except HDF5_ERRORS:  # there is none, or it was cut off while it was laid out
        return 0


def _lay_out(unfinished: Path, plan: ImportPlan, identity: str) -> None:
    """Write everything but the frames, and keep room for every clip of them."""
    # Frames are not packed: pixel noise packs by a third, for twice the time.
    storage = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    storage.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    storage.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(unfinished, "w") as file:
        for name, value in plan.attributes.items():
            file.attrs[name] = fixed_length_text(value) if isinstance(value, str) else value
        start = 0
        for index, length in enumerate(plan.clip_lengths):
            shape = length, *plan.frame_shape
            file.create_dataset(_clip_path("images", index), shape, np.uint8, dcpl=storage)
            for group, array in plan.arrays.items():
                file[_clip_path(group, index)] = array[start : start + length]
            start += length
        file.attrs[_N_DONE] = 0
        file.attrs[_IDENTITY] = np.bytes_(identity)


def _clip_path(group: str, index: int) -> str:
    return f"{group}/trial_{index:04d}"


def _fill(
    unfinished: Path, plan: ImportPlan, n_done: int, progress: Callable[[int], None]
) -> tuple[str, ...]:
    """Decode and write the frames from clip ``n_done`` on; return notes on damaged ones."""
    n_frames = sum(plan.clip_lengths[:n_done])
    progress(n_frames)
    with h5py.File(unfinished, "r+") as file:
        saved = time.monotonic()
        try:
            for clip, damaged in _iterate_clips(plan, n_done):
                file[_clip_path("images", n_done)].write_direct(clip)
                _mask(file, n_done, [plan.frames.index(i) - n_frames for i in damaged])
                n_done, n_frames = n_done + 1, n_frames + len(clip)
                progress(n_frames)
                if time.monotonic() - saved > SAVE_EVERY_S:
                    _save(file, n_done)
                    saved = time.monotonic()
        finally:
            _save(file, n_done)
        notes = _note_damage(file, plan)
        del file.attrs[_N_DONE], file.attrs[_IDENTITY]
    return notes


def _mask(file: h5py.File, clip: int, rows: list[int]) -> None:
    """Note which frames of a clip are damaged, and mask their labels."""
    if not rows:
        return
    file[_clip_path("images", clip)].attrs[_DAMAGED] = rows
    for group in {"labels_masks", "labels_sc"} & file.keys():
        for row in rows:
            file[_clip_path(group, clip)][row] = 0


def _note_damage(file: h5py.File, plan: ImportPlan) -> tuple[str, ...]:
    """Add a note on damaged frames, also on those that an interrupted import came upon."""
    starts = np.cumsum([0, *plan.clip_lengths[:-1]])
    damaged = [
        plan.frames[int(start + row)]
        for clip, start in enumerate(starts)
        for row in file[_clip_path("images", clip)].attrs.get(_DAMAGED, [])
    ]
    if not damaged:
        return ()
    listed = ", ".join(map(str, damaged[:10]))
    listed += f" and {len(damaged) - 10} more" if len(damaged) > 10 else ""
    note = (
        f"damaged frames repeat the one before, and their labels are masked: {listed}; those "
        "behind them may be smeared up to the next key frame"
    )
    file.attrs["notes"] = fixed_length_text(json.dumps([*plan.notes, note]))
    return (note,)


def _save(file: h5py.File, n_done: int) -> None:
    """Note how many clips are written, once they are sure to be on the disk."""
    os.fsync(file.id.get_vfd_handle())
    file.attrs.modify(_N_DONE, n_done)
    file.flush()


def _iterate_clips(plan: ImportPlan, first: int) -> Iterator[tuple[NDArray[np.uint8], list[int]]]:
    """Yield the clips from ``first`` on, and the numbers of their damaged frames.

    Each clip is (frame, channel, height, width).
    """
    frames = plan.frames[sum(plan.clip_lengths[:first]) :]
    damaged: list[int] = []
    views = [
        iterate_frames(info, view, frames, damaged)
        for info, view in zip(plan.videos, plan.views, strict=True)
    ]
    for length in plan.clip_lengths[first:]:
        clip = np.empty((length, *plan.frame_shape), np.uint8)
        for frame in clip:
            np.concatenate([next(view) for view in views], out=frame)
        yield clip, sorted(set(damaged))
        damaged.clear()
