"""From videos and pose files to a session: what is to be done, then done clip by clip."""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.importers.plan import ImportPlan
from psvae_tune.data.session_header import clip_number
from psvae_tune.data.untrusted_hdf5 import fixed_length_text
from psvae_tune.data.video import iterate_frames
from psvae_tune.errors import DataError, StorageError

FORMAT = 3
"""Raised when the same request would write other contents: unfinished imports are not resumed."""
_SAVE_EVERY_S = 2.0


def import_session(
    plan: ImportPlan,
    path: Path,
    *,
    replaces: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
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
        Told after each clip how many frames are done.

    Raises
    ------
    DataError
        If a video breaks off.
    StorageError
        If the file exists, or cannot be written.

    Side effects
    ------------
    Fills a file beside ``path`` that gets its name when it is whole. An import that was
    interrupted goes on after its last clip.
    """
    check_output(path, replaces)
    unfinished = _Unfinished(path.with_name(f"{path.name}.unfinished"))
    identity = _identify(plan)
    try:
        first = unfinished.count_done(identity)
        _check_room(plan, first, path.parent)
        if not first:
            unfinished.lay_out(plan)
        unfinished.fill(plan, first, identity, progress or (lambda n_done: None))
        unfinished.finish(path)
    except OSError as error:
        words = os.strerror(error.errno).lower() if error.errno else str(error)
        hint = "what is done is kept: make room and run the same command again"
        raise StorageError(str(path), f"cannot be written: {words}", hint) from error
    except DataError:
        unfinished.remove()  # the same request would end at the same place
        raise


def check_output(path: Path, replaces: bool) -> None:
    """Refuse an output that is in the way.

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
    """Return a text that differs wherever the contents would."""
    parts: list[Any] = [FORMAT, [item["sha256"] for item in plan.sources], plan.clip_lengths]
    parts += [str(plan.frames), [asdict(view) for view in plan.views]]
    parts += [plan.attributes["label_names"], [_hash(plan.arrays[n]) for n in sorted(plan.arrays)]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _hash(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


@dataclass(frozen=True, slots=True)
class _Unfinished:
    """A session file under way, and beside it a note of what it is and how far it is.

    All but the frames is written first, and the file is closed. The frames then go into the
    room kept for them as plain bytes, so that no interruption leaves HDF5 half-way.
    """

    path: Path

    @property
    def note(self) -> Path:
        """Where it is kept how far the import is."""
        return self.path.with_name(f"{self.path.name}.json")

    def count_done(self, identity: str) -> int:
        """Return the clips that an earlier import of the same has filled."""
        if not self.path.exists():
            return 0
        try:
            note = json.loads(self.note.read_bytes())
            return int(note["n_done"]) if note["identity"] == identity else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def lay_out(self, plan: ImportPlan) -> None:
        """Write everything but the frames."""
        self.note.unlink(missing_ok=True)
        # Frames are stored as they are: pixel noise packs by a third, for twice the time.
        storage = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        storage.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        storage.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        # The same import makes the same file, whenever it is made.
        storage.set_obj_track_times(False)
        with h5py.File(self.path, "w") as file:
            for key, value in plan.attributes.items():
                file.attrs[key] = fixed_length_text(value) if isinstance(value, str) else value
            images = file.create_group("images")
            groups = {name: file.create_group(name) for name in plan.arrays}
            start = 0
            for index, length in enumerate(plan.clip_lengths):
                name = f"trial_{index:04d}"
                space = h5py.h5s.create_simple((length, *plan.frame_shape))
                h5py.h5d.create(images.id, name.encode(), h5py.h5t.STD_U8LE, space, dcpl=storage)
                for group, array in plan.arrays.items():
                    groups[group][name] = array[start : start + length]
                start += length

    def fill(
        self, plan: ImportPlan, first: int, identity: str, progress: Callable[[int], None]
    ) -> None:
        """Decode the frames from clip ``first`` on."""
        with h5py.File(self.path) as file:
            names = sorted(file["images"], key=clip_number)
            offsets = [file["images"][name].id.get_offset() for name in names]
        n_done, n_frames = first, sum(plan.clip_lengths[:first])
        progress(n_frames)
        saved = time.monotonic()
        with self.path.open("r+b") as file:
            try:
                for clip in _iterate_clips(plan, first):
                    file.seek(offsets[n_done])
                    file.write(clip.data)
                    n_done, n_frames = n_done + 1, n_frames + len(clip)
                    progress(n_frames)
                    if time.monotonic() - saved > _SAVE_EVERY_S:
                        self._save(file, identity, n_done)
                        saved = time.monotonic()
                file.flush()
            except BaseException:
                self._save(file, identity, n_done)
                raise
            os.fsync(file.fileno())

    def _save(self, file: BinaryIO, identity: str, n_done: int) -> None:
        """Note how far the import is, once it is sure to be on the disk."""
        file.flush()
        os.fsync(file.fileno())
        beside = self.note.with_name(f"{self.note.name}.{os.getpid()}")
        beside.write_text(json.dumps({"identity": identity, "n_done": n_done}))
        beside.replace(self.note)

    def finish(self, path: Path) -> None:
        """Give the file its name."""
        self.path.replace(path)
        self.note.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the file and the note."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _iterate_clips(plan: ImportPlan, first: int) -> Iterator[NDArray[np.uint8]]:
    """Yield clips of shape (frame, channel, height, width) from one on."""
    frames = plan.frames[sum(plan.clip_lengths[:first]) :]
    views = [
        iterate_frames(info, view, frames)
        for info, view in zip(plan.videos, plan.views, strict=True)
    ]
    for length in plan.clip_lengths[first:]:
        clip = np.empty((length, *plan.frame_shape), np.uint8)
        for frame in clip:
            np.concatenate([next(view) for view in views], out=frame)
        yield clip
