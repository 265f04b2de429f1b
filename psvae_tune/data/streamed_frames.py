"""Read the frames of recordings that are larger than memory from their files, clip by clip."""

import atexit
import operator
import zlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.session import SessionHeader
from psvae_tune.data.untrusted_hdf5 import HDF5_ERRORS, open_hdf5
from psvae_tune.errors import DataError


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """One group of a session file, which is indexed by rows like an array of all its clips."""

    header: SessionHeader
    group: str
    dtype: np.dtype[Any]
    checksums: tuple[int, ...]
    """CRC-32 of every clip, which shows whether the file has been changed since."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(frame, channel, height, width)."""
        return (self.header.n_frames, *self.header.frame_shape)

    @property
    def nbytes(self) -> int:
        """Bytes that are held in memory: none."""
        return 0

    def __len__(self) -> int:
        return self.header.n_frames

    def __getitem__(self, rows: int | slice) -> NDArray[Any]:
        if not isinstance(rows, slice):
            row = operator.index(rows)
            return self[row : row + 1][0]
        start, stop, step = rows.indices(len(self))
        assert start < stop
        assert step == 1
        parts = []
        ends = accumulate(self.header.clip_lengths)
        for clip, (end, length) in enumerate(zip(ends, self.header.clip_lengths, strict=True)):
            first = end - length
            if start < end and first < stop:
                parts.append(self._read(clip)[max(0, start - first) : stop - first])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _read(self, clip: int) -> NDArray[Any]:
        header = self.header
        shape = (header.clip_lengths[clip], *header.frame_shape)
        name = f"{self.group}/{header.clip_names[clip]}"
        return _read_clip(header.path, name, shape, self.dtype, self.checksums[clip])


# One clip of frames and one of masks, because readers ask for the parts of a clip in order.
@lru_cache(maxsize=2)
def _read_clip(
    path: str, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], checksum: int
) -> NDArray[Any]:
    clip = np.empty(shape, dtype)
    read_into(clip, _open(path), name, path)
    if zlib.crc32(clip.data) != checksum:
        raise DataError(
            path,
            f"`{name}` is not what it was when the recording was checked",
            hint="put the file back as it was, or begin a new study",
        )
    clip.flags.writeable = False
    return clip


@lru_cache
def _open(path: str) -> h5py.File:
    """Open a file once in a process, because over a network HDF5 needs many requests for that."""
    file = open_hdf5(path)
    # Python reads a file behind a URL, and HDF5 would still call it while Python shuts down.
    atexit.register(file.close)
    return file


def read_into(part: NDArray[Any], file: h5py.File, name: str, where: str) -> list[str]:
    """Read one dataset into an array, and return the problems with its values.

    Parameters
    ----------
    part
        The array; if it is boolean, values other than 0 and 1 are a problem.
    file, name, where
        An open file, the dataset, and the path of the file for messages.

    Raises
    ------
    DataError
        If the dataset cannot be read.
    """
    try:
        if part.dtype != bool:
            file[name].read_direct(part)
            return []
        values = file[name][()]
    except HDF5_ERRORS as error:
        hint = "the file is damaged or incomplete: copy it again from where it came"
        raise DataError(where, f"`{name}` cannot be read, got {error}", hint) from error
    part[:] = values
    wrong = values[values != part]
    return [f"`{name}` must be 0 or 1, got {wrong[0]:g}"] if wrong.size else []
