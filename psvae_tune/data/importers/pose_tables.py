"""Read pose files that are tables: CSV of DeepLabCut, Lightning Pose and others, NumPy arrays."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from psvae_tune.data.importers.csv_table import CsvTable, open_csv
from psvae_tune.data.importers.frame_numbers import (
    Rows,
    find_frame_column,
    holds_no_number,
    order_rows,
)
from psvae_tune.data.importers.poses import Poses, make_poses
from psvae_tune.errors import DataError

# The words at the start of the header rows of DeepLabCut, in any order; coords is always there.
LEVELS = ("scorer", "individuals", "bodyparts", "coords")
_COORDS = {"x": 0, "y": 1, "likelihood": 2}
_KNOWN = (
    "header rows scorer, (individuals,) bodyparts, coords of DeepLabCut and Lightning Pose, "
    "or one row of names ending in _x, _y and perhaps _likelihood"
)
_PLAIN = re.compile(r"(?P<name>.+)[_.](?P<coord>x|y|z|likelihood|confidence|score)", re.IGNORECASE)
_TRACK = ("track", "individual", "animal")


class Column(NamedTuple):
    """Animal, keypoint and coordinate that one column of a table holds."""

    individual: str
    bodypart: str
    coord: str


def read_csv(path: Path, video: Path | None = None) -> Poses:
    """Read positions from a CSV file of DeepLabCut, Lightning Pose or SLEAP, or of named columns.

    Parameters
    ----------
    path
        The file.
    video
        The video that is wanted, where the rows are of images from several.

    Raises
    ------
    DataError
        If its header is not known, a cell is not a number, or its rows are of unknown frames.
    """
    table = open_csv(path)
    levels = [row for row in table.head if row and row[0] in LEVELS]
    if levels and levels == list(table.head[: len(levels)]):
        return _read_deeplabcut(table, levels, video)
    return _read_plain(table, video)


def _read_deeplabcut(
    table: CsvTable, levels: Sequence[Sequence[str]], video: Path | None
) -> Poses:
    path, words = table.path, [row[0] for row in levels]
    if sorted(words) not in (sorted(LEVELS), sorted(set(LEVELS) - {"individuals"})):
        raise DataError(str(path), f"must have {_KNOWN}, got the rows {', '.join(words)}")
    if len({len(row) for row in levels}) > 1:
        counts = ", ".join(f"{len(row)} in {row[0]}" for row in levels)
        raise DataError(str(path), f"must have header rows of the same length, got {counts}")
    rows = dict(zip(words, levels, strict=True))
    coords = [cell.lower() for cell in rows["coords"]]
    columns = [i for i, coord in enumerate(coords) if coord in _COORDS or coord.startswith("z")]
    if not columns:
        raise DataError(str(path), f"must have coords x and y, got {', '.join(coords)[:80]}")
    names = [
        Column(
            rows["individuals"][i] if "individuals" in rows else "",
            rows["bodyparts"][i],
            coords[i],
        )
        for i in columns
    ]
    # Labelled images have an index of several columns: folders, then the image.
    index = [i for i in range(1, columns[0]) if not coords[i]]
    below = table.head[len(levels)] if len(table.head) > len(levels) else ()
    is_named = any(below[:1]) and not any(below[1:]) and holds_no_number(below[0])
    values, cells = table.read(len(levels) + is_named, columns, [0, *index])
    numbers = ["/".join(part for part in row if part) for row in cells]
    found = order_rows(path, numbers, values, video)
    return assemble(path, "DeepLabCut or Lightning Pose CSV", names, found)


def _read_plain(table: CsvTable, video: Path | None) -> Poses:
    header, below = (*table.head, (), ())[:2]
    path, names = table.path, [name.lower() for name in header]
    found = [(i, column) for i, cell in enumerate(header) if (column := parse_column(cell))]
    places = {column.bodypart for _, column in found if column.coord in "xyz"}
    # A score of a whole animal is of no keypoint.
    found = [(i, column) for i, column in found if column.bodypart in places]
    if not found:
        raise DataError(str(path), f"must have {_KNOWN}, got {', '.join(header)[:80]!r}")
    frame = find_frame_column(header, below)
    track = next((names.index(name) for name in _TRACK if name in names), None)
    texts = [i for i in (frame, track) if i is not None]
    values, cells = table.read(1, [i for i, _ in found], texts)
    numbers = None if frame is None else [row[0] for row in cells]
    columns = [column for _, column in found]
    animals = [row[-1] for row in cells if track is not None]
    tracks = list(dict.fromkeys(row[-1] for row in cells if track is not None and any(row)))
    if len(tracks) < 2:
        rows = order_rows(path, numbers, values, video)
    elif numbers is None:
        raise DataError(str(path), "must say in a column `frame` which frame each row is")
    else:
        columns = [Column(name, c.bodypart, c.coord) for name in tracks for c in columns]
        parts = []
        for name in tracks:
            chosen = [i for i, animal in enumerate(animals) if animal == name]
            parts.append(order_rows(path, [numbers[i] for i in chosen], values[chosen], video))
        rows = _put_beside(parts)
    if "frame_idx" in names and any(name.endswith(".score") for name in names):
        # It counts frames from 0 and leaves empty ones out. Its scores are no probabilities.
        rows = Rows(rows.values, are_numbered=True)
        return assemble(path, "SLEAP CSV", columns, rows, 0)
    return assemble(path, "CSV with named columns", columns, rows)


def _put_beside(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several animals beside each other, frame by frame."""
    full = np.full(
        (max(len(part.values) for part in parts), sum(part.values.shape[1] for part in parts)),
        np.nan,
    )
    start = 0
    for part in parts:
        stop = start + part.values.shape[1]
        full[: len(part.values), start:stop] = part.values
        start = stop
    numbered = [part for part in parts if part.are_numbered]
    is_unsure = len(numbered) == len(parts) and any(part.is_first_unsure for part in parts)
    return Rows(full, bool(numbered), is_unsure)


def parse_column(cell: str) -> Column | None:
    """Parse the name of a column, such as ``paw_x``; return None if it names no coordinate."""
    match = _PLAIN.fullmatch(cell.strip())
    if match is None:
        return None
    coord = match["coord"].lower()
    return Column("", match["name"], coord if coord in "xyz" else "likelihood")


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
        frame = find_frame_column(array.dtype.names, ())
        numbers = None if frame is None else array[array.dtype.names[frame]]
        rows = order_rows(path, numbers, values)
        return assemble(path, "NPY with named columns", [column for _, column in found], rows)
    if array.ndim != 3 or array.shape[2] not in (2, 3) or array.dtype.kind not in "fiu":
        problem = f"must be named columns or (frame, keypoint, 2 or 3), got {array.shape}"
        raise DataError(str(path), f"{problem} of {array.dtype}")
    keypoints = [f"keypoint_{i}" for i in range(array.shape[1])]
    likelihoods = array[:, None, :, 2] if array.shape[2] == 3 else None
    return make_poses(path, "NPY", [""], keypoints, array[:, None, :, :2], likelihoods)


def assemble(
    path: Path, kind: str, columns: Sequence[Column], rows: Rows, min_likelihood: float = 0.9
) -> Poses:
    """Sort the columns of a table, of shape (row, column), into tracks and keypoints.

    Raises
    ------
    DataError
        If a keypoint has only one of x and y, or also z, or a column is repeated.
    """
    if deep := [column.bodypart for column in columns if column.coord.startswith("z")]:
        raise DataError(
            str(path),
            f"must hold positions in the pixels of one camera, got three dimensions of {deep[0]}",
            "give the 2-D table of this video",
        )
    tracks = list(dict.fromkeys(column.individual for column in columns))
    keypoints = list(dict.fromkeys(column.bodypart for column in columns))
    full = np.full((len(rows.values), len(tracks), len(keypoints), 3), np.nan)
    seen = set()
    for column, value in zip(columns, rows.values.T, strict=True):
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
    return make_poses(
        path,
        kind,
        tracks,
        keypoints,
        full[..., :2],
        full[..., 2] if has_likelihood else None,
        min_likelihood=min_likelihood,
        are_rows_numbered=rows.are_numbered,
        is_first_unsure=rows.is_first_unsure,
    )
