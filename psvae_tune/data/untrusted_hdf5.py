"""Guards against HDF5 files whose bytes contradict themselves, which the HDF5 library trusts.

Where a file stores texts of variable length, wrong bytes can keep that library reading for ever,
and no time limit reaches it within its own process. Such texts are therefore read in another
process first, which is ended when it takes too long. The recordings that this project writes
hold texts of fixed length and need no other process.
"""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from psvae_tune.errors import DataError, RecordingNotFoundError, StorageError
from psvae_tune.files import is_url, open_url

HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)
"""Exceptions that h5py raises where the bytes of a file contradict themselves."""
TIME_LIMIT_S = 20
"""Seconds after which texts count as impossible to read."""
MAX_PIECE = 2**30
"""Largest chunk of a dataset, in bytes as unpacked, that is read."""
MAX_FIXED_LENGTH = 60_000
"""Longest text, in bytes, that an attribute stores at a fixed length; HDF5 has room for 64 kB."""

# Filters of HDF5 that come with no library, but with the package hdf5plugin.
_FILTERS = {
    307: "bzip2",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32026: "blosc2",
}

EVERYWHERE, AT_THE_TOP = "everywhere", "at-the-top"


def open_hdf5(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading, here or behind a URL.

    Raises
    ------
    DataError
        If it is missing, unreadable, no HDF5 file, or cut short.
    """
    where = os.fspath(path)
    if os.path.isdir(path):
        raise DataError(where, "must be an HDF5 file, got a folder")
    if os.path.exists(path) and not os.path.isfile(path):
        # To open one could wait for ever.
        raise DataError(where, "must be an HDF5 file, got a pipe or a device")
    try:
        return h5py.File(open_url(where) if is_url(where) else where, "r")
    except StorageError as error:
        raise DataError(where, error.problems, error.hint) from error
    except FileNotFoundError:
        raise RecordingNotFoundError(where, "no such file") from None
    except ValueError as error:  # a NUL, or half a character
        raise DataError(where, f"must be a path: {error}") from error
    except PermissionError:
        raise DataError(where, "no permission to read this file") from None
    except OSError as error:
        if "signature not found" in str(error):
            raise DataError(where, "must be an HDF5 file, got something else") from None
        if "truncated" in str(error):
            hint = "copy it again from where it came"
            raise DataError(where, "the file is cut short", hint) from None
        raise DataError(where, f"cannot be opened, got {error}") from error


def fixed_length_text(text: str) -> np.bytes_ | str:
    """Return a text in the form in which an attribute stores it at a fixed length.

    A text that is too long for that is returned as it is, and stored at a variable length.
    """
    return np.bytes_(text.encode()) if len(text.encode()) <= MAX_FIXED_LENGTH else text


def rehearse_texts(file: h5py.File, path: str, *, everywhere: bool) -> None:
    """Read the texts of a file in another process, to find out whether that comes to an end.

    A file without texts of variable length starts no process. A text that HDF5 refuses to read
    is no trouble here, because the reader gets the same exception.

    Parameters
    ----------
    file
        An open file. Its parts are listed, but no text is read.
    path
        Path or URL of the file; the other process opens it again.
    everywhere
        Whether the texts of groups and datasets are read too, beside the attributes of the file
        itself.

    Raises
    ------
    DataError
        If the process was still reading after `TIME_LIMIT_S`, died of it, or could not be run.
    """
    if not any(_texts(file, everywhere)):
        return
    hint = "the file is damaged: copy it again from where it came"
    scope = EVERYWHERE if everywhere else AT_THE_TOP
    try:
        done = subprocess.run(
            # By the name of this module, so that no other place needs to know it.
            [sys.executable, "-P", "-m", __name__, path, scope],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        problem = f"its texts cannot be read within {TIME_LIMIT_S} s"
        raise DataError(path, problem, hint) from None
    if done.returncode < 0:
        raise DataError(path, f"reading its texts ends in signal {-done.returncode}", hint)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise DataError(path, f"its texts cannot be read in another process: {reason:.200}")


def read_texts(path: str, *, everywhere: bool) -> None:
    """Read the texts of variable length of an HDF5 file, which may never end."""
    with open_hdf5(path) as file:
        for read in _texts(file, everywhere):
            read()


def _texts(file: h5py.File, everywhere: bool) -> Iterator[Callable[[], object]]:
    """Yield a function for each text of variable length that reads it."""
    items: list[Any] = [file]
    if everywhere:
        file.visititems(lambda name, item: items.append(item))
    for item in items:
        for name in item.attrs:
            if item.attrs.get_id(name).dtype.hasobject:
                yield partial(item.attrs.get, name)
        if isinstance(item, h5py.Dataset) and item.dtype.hasobject:
            yield partial(item.__getitem__, ())


def find_foreign_parts(file: h5py.File) -> list[str]:
    """Return the names of the parts that lie in another file, which reading them would open."""
    links: dict[bytes, int] = {}
    file.id.links.visit(lambda name, info: links.update({name: info.type}), info=True)
    foreign = [name for name, kind in links.items() if kind == h5py.h5l.TYPE_EXTERNAL]
    for name, kind in links.items():
        item = file[name] if kind == h5py.h5l.TYPE_HARD else None
        if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
            foreign.append(name)
    return [name.decode(errors="replace") for name in foreign]


def count_bytes(dataset: h5py.Dataset) -> int:
    """Return the bytes of memory that a whole dataset takes."""
    return int(dataset.size or 0) * int(dataset.dtype.itemsize)


def piece_problem(dataset: h5py.Dataset) -> str | None:
    """Return why a chunk of a dataset cannot be unpacked, or None.

    A few packed bytes may stand for any number of unpacked ones, or need a filter of its own.
    """
    layout = dataset.id.get_create_plist()
    for number, _, _, name in (layout.get_filter(i) for i in range(layout.get_nfilters())):
        if not h5py.h5z.filter_avail(number):
            word = _FILTERS.get(number) or name.decode(errors="replace") or "unnamed"
            return (
                f"is packed by the filter {word} ({number}), which is not installed: install the "
                "package hdf5plugin and set HDF5_PLUGIN_PATH to its folder `plugins`, or pack the "
                "file by gzip"
            )
    n_bytes = math.prod(dataset.chunks or ()) * int(dataset.dtype.itemsize)
    if n_bytes > MAX_PIECE:
        return (
            f"must be packed in pieces of up to {MAX_PIECE / 1e9:.1f} GB, got {n_bytes / 1e9:.1f}"
        )
    return None


if __name__ == "__main__":
    # Whatever the HDF5 library raises here it raises in the reader as well, who says it better.
    with suppress(*HDF5_ERRORS):
        read_texts(sys.argv[1], everywhere=sys.argv[2] == EVERYWHERE)
