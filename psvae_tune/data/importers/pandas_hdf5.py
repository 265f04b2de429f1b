"""Read tables that pandas stored in HDF5, as DeepLabCut has it write them.

`pandas.read_hdf` is not used, because it opens pickles that can run code.
"""

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.importers.frame_numbers import order_rows
from psvae_tune.data.importers.pose_tables import LEVELS, Column, assemble
from psvae_tune.data.importers.poses import Poses
from psvae_tune.errors import DataError

_TABLES = ("frame", "frame_table")
# The pickle of None, which is how pandas stores the name of what has none.
_NO_NAME = "N."

Levels = list[tuple[str, list[str]]]
"""Name and words of each header row."""


def find_tables(file: h5py.File) -> list[h5py.Group]:
    """Return the tables of a file, wherever they lie."""
    found: list[h5py.Group] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and _decode(item.attrs.get("pandas_type")) in _TABLES:
            found.append(item)

    file.visititems(note)
    return found


def read_tables(path: Path, groups: Sequence[h5py.Group], video: Path | None) -> Poses:
    """Read the only table of poses among several tables, in either layout of pandas.

    Raises
    ------
    DataError
        If none or several are of poses, or its rows are of unknown frames.
    """
    read = [(group, _read_levels(path, group)) for group in groups]
    poses = [(group, levels) for group, levels in read if _are_of_poses(levels)]
    if not poses:
        found = ", ".join(name for name, _ in read[0][1]) or "nothing"
        raise DataError(str(path), f"must have columns by {', '.join(LEVELS)}, got {found}")
    if len(poses) > 1:
        names = ", ".join(str(group.name).strip("/") for group, _ in poses)
        problem = f"must hold one table of poses, got {len(poses)}: {names}"
        raise DataError(str(path), problem, "save the table of this video alone")
    group, levels = poses[0]
    columns, values = _read_values(path, group, levels)
    chosen = [i for i, c in enumerate(columns) if c.coord in _COORDS or c.coord.startswith("z")]
    rows = order_rows(path, _read_index(group), values[:, chosen], video)
    return assemble(path, "DeepLabCut HDF5", [columns[i] for i in chosen], rows)


_COORDS = ("x", "y", "likelihood")


def _are_of_poses(levels: Levels) -> bool:
    return {"bodyparts", "coords"} <= {name for name, _ in levels} <= set(LEVELS)


def _read_levels(path: Path, group: h5py.Group) -> Levels:
    """Return the header rows of a table."""
    if "table" in group:
        (_, tuples), *_ = _unpickle_plain(path, group.attrs["non_index_axes"])
        names = list(_unpickle_plain(path, group.attrs["info"])[1].get("names", [None]))
        words = [[str(t[i]) for t in tuples] for i in range(len(names))]
    elif "axis0_nlevels" in group.attrs:
        names, words = _read_multi_index(group, "axis0")
    else:
        return [("columns", [])]
    names = [None if name == _NO_NAME else name for name in names]
    if not any(names) and len(names) in (3, 4):  # the names were lost, not their order
        names = [name for name in LEVELS if name != "individuals" or len(names) == 4]
    return [(str(name), row) for name, row in zip(names, words, strict=True)]


def _read_multi_index(group: h5py.Group, prefix: str) -> tuple[list[Any], list[list[str]]]:
    """Return the names and the words of the levels of an index in the fixed layout."""
    names, words = [], []
    for level in range(int(group.attrs[f"{prefix}_nlevels"])):
        stored = group[f"{prefix}_level{level}"]
        texts = [_decode(text) for text in stored[()]]
        names.append(_decode(stored.attrs["name"]))
        words.append([texts[code] for code in group[f"{prefix}_label{level}"][()]])
    return names, words


def _read_values(
    path: Path, group: h5py.Group, levels: Levels
) -> tuple[list[Column], NDArray[np.float64]]:
    """Return the columns and their numbers, (row, column), of all blocks of one type each."""
    if "table" in group:
        table = group["table"]
        blocks = [field for field in table.dtype.names if field.startswith("values_block_")]
        stored = [table[field] for field in blocks]
        tuples = [_unpickle_plain(path, table.attrs[f"{field}_kind"]) for field in blocks]
        names = [name for name, _ in levels]
        parts = [
            [(name, [str(t[i]) for t in found]) for i, name in enumerate(names)]
            for found in tuples
        ]
    else:
        blocks = [f"block{i}" for i in range(int(group.attrs["nblocks"]))]
        stored = [group[f"{block}_values"][()] for block in blocks]
        names = [name for name, _ in levels]
        parts = [
            list(zip(names, _read_multi_index(group, f"{block}_items")[1], strict=True))
            for block in blocks
        ]
    if any(part.dtype.kind not in "fiu" or part.ndim != 2 for part in stored):
        kinds = ", ".join(f"{part.dtype} {part.shape}" for part in stored)
        raise DataError(str(path), f"must hold columns of numbers, got {kinds}")
    columns = [column for part in parts for column in _to_columns(part)]
    return columns, np.concatenate(stored, axis=1, dtype=np.float64)


def _to_columns(levels: Levels) -> list[Column]:
    rows = dict(levels)
    coords = [coord.lower() for coord in rows["coords"]]
    individuals = rows.get("individuals", [""] * len(coords))
    return [Column(*names) for names in zip(individuals, rows["bodyparts"], coords, strict=True)]


def _read_index(group: h5py.Group) -> list[Any]:
    """Return the number of each row, or the image that it is of."""
    if "table" in group:
        return list(group["table"]["index"])
    if "axis1_nlevels" in group.attrs:  # of labelled images: folders, then the image
        return [
            "/".join(parts) for parts in zip(*_read_multi_index(group, "axis1")[1], strict=True)
        ]
    return list(group["axis1"][()])


class _PlainUnpickler(pickle.Unpickler):
    """Reads pickles of lists, tuples and texts; refuses a pickle that could run code.

    PyTables stores the names of columns in no other way than as pickles.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not plain data")


def _unpickle_plain(path: Path, stored: Any) -> Any:
    try:
        return _PlainUnpickler(io.BytesIO(bytes(stored))).load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(str(path), f"names of columns cannot be read: {error}") from error


def _decode(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
