"""Read pose files that are tables: CSV of DeepLabCut, Lightning Pose and others, NumPy arrays."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.importers.poses import Poses, make_poses
from psvae_tune.errors import DataError

# The words at the start of the header rows of DeepLabCut, in any order; coords is always there.
LEVELS = ("scorer", "individuals", "bodyparts", "coords")
_COORDS = {"x": 0, "y": 1, "likelihood": 2}
_KNOWN = (
    "header rows scorer, (individuals,) bodyparts, coords of DeepLabCut and Lightning Pose, "
    "or one row of names ending in _x, _y and perhaps _likelihood"
)
_PLAIN = re.compile(r"(?P<name>.+)[_.](?P<coord>x|y|likelihood|confidence|score)")


class Column(NamedTuple):
    """Animal, keypoint and coordinate that one column of a table holds."""

    individual: str
    bodypart: str
    coord: str


def read_csv(path: Path) -> Poses:
    """Read positions from a CSV file of DeepLabCut or Lightning Pose, or with named columns.

    Raises
    ------
    DataError
        If its header is not known, or a cell is not a number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head = [row for _, row in zip(range(5), csv.reader(file), strict=False)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(path), f"must be a CSV file, got {error}") from error
    levels = [row for row in head if row and row[0].strip() in LEVELS]
    if levels and levels == head[: len(levels)]:
        return _read_deeplabcut(path, levels)
    return _read_plain(path, head[0] if head else [])


def read_numbers(path: Path, n_header: int, columns: Sequence[int]) -> NDArray[np.float64]:
    """Read some columns of a CSV file as numbers, shape (row, column); empty cells are NaN."""
    import pandas as pd

    try:
        table = pd.read_csv(
            path,
            header=None,
            skiprows=n_header,
            usecols=list(columns),
            encoding="utf-8-sig",
            skipinitialspace=True,
        )
        # pandas returns columns in the order of the file.
        return table[list(columns)].to_numpy(dtype=np.float64)
    except pd.errors.EmptyDataError:
        raise DataError(str(path), "holds a header but no row") from None
    except (KeyError, ValueError, pd.errors.ParserError) as error:
        raise DataError(str(path), f"must hold numbers below its header, got {error}") from error


def _read_deeplabcut(path: Path, levels: Sequence[Sequence[str]]) -> Poses:
    words = [row[0].strip() for row in levels]
    if sorted(words) not in (sorted(LEVELS), sorted(set(LEVELS) - {"individuals"})):
        raise DataError(str(path), f"must have {_KNOWN}, got the rows {', '.join(words)}")
    if len({len(row) for row in levels}) > 1:
        counts = ", ".join(f"{len(row)} in {row[0].strip()}" for row in levels)
        raise DataError(str(path), f"must have header rows of the same length, got {counts}")
    rows = dict(zip(words, levels, strict=True))
    coords = [cell.strip() for cell in rows["coords"]]
    columns = [i for i, coord in enumerate(coords) if coord in _COORDS]
    names = [
        Column(rows["individuals"][i] if "individuals" in rows else "", rows["bodyparts"][i], c)
        for i, c in enumerate(coords)
        if c in _COORDS
    ]
    values = read_numbers(path, len(levels), columns)
    return assemble(path, "DeepLabCut or Lightning Pose CSV", names, values)


def _read_plain(path: Path, header: Sequence[str]) -> Poses:
    found = [(i, match) for i, cell in enumerate(header) if (match := parse_column(cell))]
    if not found:
        raise DataError(str(path), f"must have {_KNOWN}, got {', '.join(header)[:80]!r}")
    values = read_numbers(path, 1, [i for i, _ in found])
    return assemble(path, "CSV with named columns", [column for _, column in found], values)


def parse_column(cell: str) -> Column | None:
    """Parse the name of a column, such as ``paw_x``; return None if it names no coordinate."""
    match = _PLAIN.fullmatch(cell.strip())
    if match is None:
        return None
    coord = match["coord"] if match["coord"] in "xy" else "likelihood"
    return Column("", match["name"], coord)


def read_npy(path: Path) -> Poses:
    """Read a NumPy array: named columns ``paw_x``, or (frame, keypoint, x y and likelihood).

    Raises
    ------
    DataError
        If it has another form; an array of Python objects could run code and is not read.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # NumPy reads the header as Python does, and raises what that does
        raise DataError(str(path), f"cannot be read as an array: {error}") from error
    if array.dtype.names:
        found = [(name, c) for name in array.dtype.names if (c := parse_column(name))]
        if not found or array.ndim != 1:
            names = ", ".join(array.dtype.names)
            raise DataError(str(path), f"must have fields like paw_x and paw_y, got {names[:80]}")
        values = np.stack([array[name].astype(np.float64) for name, _ in found], axis=1)
        return assemble(path, "NPY with named columns", [column for _, column in found], values)
    if array.ndim != 3 or array.shape[2] not in (2, 3) or array.dtype.kind not in "fiu":
        problem = f"must be named columns or (frame, keypoint, 2 or 3), got {array.shape}"
        raise DataError(str(path), f"{problem} of {array.dtype}")
    keypoints = [f"keypoint_{i}" for i in range(array.shape[1])]
    likelihoods = array[:, None, :, 2] if array.shape[2] == 3 else None
    return make_poses(path, "NPY", [""], keypoints, array[:, None, :, :2], likelihoods)


def assemble(
    path: Path, kind: str, columns: Sequence[Column], values: NDArray[np.float64]
) -> Poses:
    """Sort the columns of a table, of shape (row, column), into tracks and keypoints.

    Raises
    ------
    DataError
        If a keypoint has only one of x and y, or a column is repeated.
    """
    tracks = list(dict.fromkeys(column.individual for column in columns))
    keypoints = list(dict.fromkeys(column.bodypart for column in columns))
    full = np.full((len(values), len(tracks), len(keypoints), 3), np.nan)
    seen = set()
    for column, value in zip(columns, values.T, strict=True):
        if column in seen:
            name = " ".join(part for part in column if part)
            raise DataError(str(path), f"must not repeat a column, got `{name}` twice")
        seen.add(column)
        place = tracks.index(column.individual), keypoints.index(column.bodypart)
        full[:, *place, _COORDS[column.coord]] = value
    pairs = {(c.individual, c.bodypart) for c in columns}
    if problems := [
        f"`{bodypart}` must have x and y, got only one"
        for individual, bodypart in sorted(pairs)
        if not {Column(individual, bodypart, "x"), Column(individual, bodypart, "y")} <= seen
    ]:
        raise DataError(str(path), problems)
    has_likelihood = any(column.coord == "likelihood" for column in columns)
    likelihoods = full[..., 2] if has_likelihood else None
    return make_poses(path, kind, tracks, keypoints, full[..., :2], likelihoods)
