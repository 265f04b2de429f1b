"""What is done before a file of unknown origin is read: the HDF5 library trusts its bytes.

On a file whose bytes contradict themselves that library can run for ever where texts of any
length are stored, and no time limit reaches it in its own process. So these are first read in
another process, which is ended when it takes too long.
"""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import h5py

from psvae_tune.errors import DataError

TIME_LIMIT_S = 20
MAX_PIECE = 2**30  # bytes of one chunk, as unpacked

_REHEARSAL = """
import sys
from psvae_tune.data.untrusted_hdf5 import read_texts
read_texts(sys.argv[1], everywhere=sys.argv[2] == "True")
"""


def rehearse_texts(file: h5py.File, *, everywhere: bool) -> None:
    """Read the texts of a file in another process, to find out whether that comes to an end.

    There is no other process if there is no text of no fixed length. An exception there is no
    trouble: it will be raised here too.

    Parameters
    ----------
    file
        An open one; what it holds is looked at, but no text is read.
    everywhere
        Whether those within the file matter, beside the attributes of the file itself.

    Raises
    ------
    DataError
        If the process was still reading after `TIME_LIMIT_S`, or died of it.
    """
    path = file.filename
    if not any(_texts(file, everywhere)):
        return
    hint = "the file is damaged: copy it again from where it came"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _REHEARSAL, path, str(everywhere)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        problem = f"its texts cannot be read within {TIME_LIMIT_S} s"
        raise DataError(path, problem, hint) from None
    if done.returncode < 0:
        raise DataError(path, f"reading its texts ends in signal {-done.returncode}", hint)


def read_texts(path: str, *, everywhere: bool) -> None:
    """Read the texts of an HDF5 file that have no fixed length, which may never end."""
    with h5py.File(path) as file:
        for read in _texts(file, everywhere):
            read()


def _texts(file: h5py.File, everywhere: bool) -> Iterator[Callable[[], object]]:
    """Yield what reads each text of no fixed length."""
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
    """Return the names of what is stored in another file, which reading it would open."""
    links: dict[bytes, int] = {}
    file.id.links.visit(lambda name, info: links.update({name: info.type}), info=True)
    foreign = [name for name, kind in links.items() if kind == h5py.h5l.TYPE_EXTERNAL]
    for name, kind in links.items():
        item = file[name] if kind == h5py.h5l.TYPE_HARD else None
        if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
            foreign.append(name)
    return [name.decode(errors="replace") for name in foreign]


def count_bytes(dataset: h5py.Dataset) -> int:
    """Return the memory that a whole dataset takes."""
    return int(dataset.size or 0) * int(dataset.dtype.itemsize)


def piece_problem(dataset: h5py.Dataset) -> str | None:
    """Say why a piece of a dataset cannot be unpacked; some bytes may stand for any number."""
    n_bytes = math.prod(dataset.chunks or ()) * int(dataset.dtype.itemsize)
    if n_bytes > MAX_PIECE:
        return (
            f"must be packed in pieces of up to {MAX_PIECE / 1e9:.1f} GB, got {n_bytes / 1e9:.1f}"
        )
    return None
