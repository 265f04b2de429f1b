"""Find out which frame each row of a table belongs to, and put the rows in the frames' order.

The index of a table, a column named ``frame``, or the names of labelled images may say it. Rows
are dropped, sorted and cut into sections between a tracker and an import; only the number that
stands beside a row still says which frame it is.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.memory_limits import check_memory
from psvae_tune.errors import DataError

# Names of columns that number the frames, in small letters without signs.
_NAMES = {
    *("frame", "frames", "frameidx", "frameindex", "framenumber", "framenum", "frameno"),
    *("frameid", "fnum"),
}
_INDEX_NAMES = {"", "index", "unnamed0"}
_NUMBER = re.compile(r"\+?(\d{1,15})(?:[.,]0*)?")
_IMAGE = re.compile(r"(?:.*\D)?(\d{1,15})\D*\.(?:png|jpe?g|tiff?|bmp)", re.IGNORECASE)
# Copies of the values in memory while they are sorted into tracks and keypoints.
_N_COPIES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The values of a table by frame, as far as the table says which frame a row is."""

    values: NDArray[np.float64]
    """(row, …); NaN where the table has no row of a frame."""
    are_numbered: bool = False
    """Whether row i is frame i because the table says so, and not only by its order."""
    is_first_unsure: bool = False
    """Whether the numbers begin at 1, so that they may count the first frame as 1."""


def find_frame_column(names: Sequence[str], cells: Sequence[str]) -> int | None:
    """Return the column that says which frame a row is, or None.

    Parameters
    ----------
    names
        Names of the columns.
    cells
        The first row below them, where names of images are recognised.
    """
    plain = [_to_plain(name) for name in names]
    candidates = [
        *(i for i, name in enumerate(plain) if name in _NAMES),
        *(i for i, cell in enumerate(cells[: len(names)]) if _IMAGE.fullmatch(_name_of(cell))),
        *(i for i, name in enumerate(plain) if name in _INDEX_NAMES),
    ]
    return candidates[0] if candidates else None


def numbers_frames(name: str) -> bool:
    """Return whether the name of a column says that it numbers the frames."""
    return _to_plain(name) in _NAMES | _INDEX_NAMES


def holds_no_number(cell: str) -> bool:
    """Return whether the first cell of a row can be no frame, such as the name of an index."""
    return _parse(cell) is None


def order_rows(
    path: Path,
    cells: Iterable[Any] | None,
    values: NDArray[np.float64],
    video: Path | None = None,
) -> Rows:
    """Put the rows of a table in the order of the frames that they belong to.

    A table whose rows are numbered 0, 1, 2 … is left as it is, because every program numbers rows
    like that, whichever frames they are of.

    Parameters
    ----------
    path
        The table, for messages.
    cells
        The number of each row, or the image that it is of: texts or numbers, empty where unknown.
        None if the table does not number its rows.
    values
        (row, …).
    video
        The video that is wanted, where the images lie in folders of several.

    Raises
    ------
    DataError
        If a row has no number, two rows have one, a number is none, or the images are of several
        videos.
    """
    texts = [] if cells is None else [_to_text(cell) for cell in cells]
    if not any(texts):
        return Rows(values)
    kept = np.flatnonzero(_choose_folder(path, texts, video))
    numbers = {int(row): _read_number(path, texts[row]) for row in kept if texts[row]}
    if len(kept) == len(texts) and all(row == number for row, number in numbers.items()):
        return Rows(values)
    for row in kept:
        if row not in numbers and np.isfinite(values[row]).any():
            raise DataError(str(path), f"must number every row, got none in row {row + 1}")
    return spread_rows(path, list(numbers.values()), values[list(numbers)])


def spread_rows(path: Path, numbers: Sequence[int], values: NDArray[np.floating]) -> Rows:
    """Return rows, each at the place of its frame number.

    Raises
    ------
    DataError
        If two rows have one number, a number is negative, or no memory holds so many frames.
    """
    if min(numbers) < 0:
        raise DataError(str(path), f"must number its frames from 0 on, got {min(numbers)}")
    frame, count = Counter(numbers).most_common(1)[0]
    if count > 1:
        raise DataError(
            str(path),
            f"must have one row for each frame, got {count} of frame {frame}",
            "give the file of one animal, or one that names its tracks",
        )
    n_rows = max(numbers) + 1
    check_memory(_N_COPIES * 8 * n_rows * int(np.prod(values.shape[1:])), path)
    full = np.full((n_rows, *values.shape[1:]), np.nan)
    full[np.array(numbers)] = values
    return Rows(full, are_numbered=True, is_first_unsure=min(numbers) == 1)


def count_rows(are_there: NDArray[np.bool_], n_frames: int) -> int:
    """Return the number of rows without the blank ones behind the last frame.

    Parameters
    ----------
    are_there
        (row, …), whether there is a value.
    n_frames
        Number of frames of the video.
    """
    filled = np.flatnonzero(are_there.reshape(len(are_there), -1).any(1))
    return max(min(len(are_there), n_frames), int(filled.max(initial=-1)) + 1)


def first_frame(path: Path, n_rows: int, n_frames: int) -> int:
    """Return the number of the first frame in a table whose numbers begin at 1: 0 or 1.

    Parameters
    ----------
    path
        The table, for messages.
    n_rows
        The last number, plus one.
    n_frames
        Number of frames of the video.

    Raises
    ------
    DataError
        If the numbers begin at 1 and do not say which.
    """
    if n_rows - 1 == n_frames:
        return 1
    raise DataError(
        str(path),
        f"numbers its rows from 1 to {n_rows - 1}: whether the first of the {n_frames} frames is "
        "number 0 or 1 cannot be known",
        "add a row 0, or state it with --label-offset: 0 if the first frame is number 0, -1 if 1",
    )


def _choose_folder(path: Path, texts: Sequence[str], video: Path | None) -> NDArray[np.bool_]:
    """Return which rows are of images of the wanted video, by the folder that they lie in."""
    folders = [str(PureWindowsPath(text).parent.name) if text else "" for text in texts]
    names = sorted({folder for folder, text in zip(folders, texts, strict=True) if text})
    if len(names) == 1:
        return np.ones(len(texts), bool)
    if video is None or video.stem not in names:
        listed = ", ".join(names[:10])
        wanted = "" if video is None else f", not of {video.stem}"
        problem = f"holds labels of images in {len(names)} folders: {listed}{wanted}"
        raise DataError(str(path), problem, "give the labels of one video")
    return np.array([folder == video.stem for folder in folders])


def _read_number(path: Path, text: str) -> int:
    number = _parse(text)
    if number is None:
        raise DataError(
            str(path),
            f"must number its frames by whole numbers from 0 on, or by images, got {text!r:.80}",
            "number the rows by their frames, or leave the column out",
        )
    return number


def _parse(text: str) -> int | None:
    match = _NUMBER.fullmatch(text) or _IMAGE.fullmatch(_name_of(text))
    return int(match[1]) if match else None


def _name_of(text: str) -> str:
    return PureWindowsPath(text).name  # which accepts both separators


def _to_text(cell: Any) -> str:
    text = cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)
    text = text.strip()
    return "" if text.lower() == "nan" else text


def _to_plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())
