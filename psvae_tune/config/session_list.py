"""List the recordings of a study, which may be files, URLs, the demo, or rows of a CSV file.

A sessions CSV has a row for each session. Its column ``path`` is relative to the CSV. Instead it
may have the published columns ``lab,expt,animal,session``; a session is then the file
``lab/expt/animal/session/data.hdf5`` below a data folder.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from psvae_tune.errors import DataError
from psvae_tune.files import check_public, is_url

DEMO = re.compile(r"demo(?::([a-z]+))?(?::(\d{1,9}))?")
"""Pattern of the names of generated recordings: ``demo``, ``demo:SEED``, ``demo:WORLD:SEED``."""
FIELDS = ("lab", "expt", "animal", "session")
"""Published columns of a sessions CSV."""
FILE_NAME = "data.hdf5"
"""Published name of the file of a session."""


def list_sessions(
    names: Sequence[str], folder: Path, data_folder: Path | None = None
) -> list[str]:
    """Return the recordings that names stand for, as absolute paths, URLs or demo names.

    Parameters
    ----------
    names
        Paths or URLs of HDF5 files, ``demo``, ``demo:WORLD:SEED``, or paths that end in ``.csv``.
    folder
        Folder that relative paths start from.
    data_folder
        Folder that holds ``lab/expt/animal/session``; None for the folder of the CSV.

    Raises
    ------
    DataError
        If a CSV is invalid; the message names every problem.
    StorageError
        If a URL holds a password.
    """
    return [item for name in names for item in _expand(name, folder, data_folder)]


def _expand(name: str, folder: Path, data_folder: Path | None) -> list[str]:
    if DEMO.fullmatch(name):
        return [name]
    place = _locate(name, folder, "data.sessions")
    is_list = not is_url(place) and place.lower().endswith(".csv")
    return read_sessions_csv(Path(place), data_folder) if is_list else [place]


def _locate(name: str, folder: Path, where: str) -> str:
    """Return an absolute path, or a URL unchanged if it holds no password."""
    if is_url(name):
        check_public(name)
        return name
    return str(absolute_path(name, folder, where))


def absolute_path(name: str, folder: Path, where: str) -> Path:
    """Return the absolute path that a user's name of a file stands for.

    Parameters
    ----------
    name
        Name of a file; it may begin with ``~``.
    folder
        Folder that a relative name starts from.
    where
        Name of the setting in an error.

    Raises
    ------
    DataError
        If no file can have that name.
    """
    try:
        return (folder / Path(name).expanduser()).resolve()
    except (ValueError, RuntimeError) as error:  # a NUL, or the home of an unknown user
        raise DataError(where, f"must be a path: {error}, got {name!r}") from error


def read_sessions_csv(path: Path, data_folder: Path | None = None) -> list[str]:
    """Return the absolute paths or URLs of the recordings in a sessions CSV.

    Parameters
    ----------
    path
        CSV file, as the docstring of this module describes it.
    data_folder
        Folder that holds ``lab/expt/animal/session``; None for the folder of the CSV.

    Raises
    ------
    DataError
        If the CSV is invalid; the message names every problem.
    StorageError
        If a URL holds a password.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True, strict=True)
            columns = [column.strip() for column in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = list(reader)
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(path), f"is not a CSV file: {error}") from error
    by_path = "path" in columns
    if missing := [name for name in FIELDS if name not in columns and not by_path]:
        raise DataError(
            str(path),
            f"must have a column `path`, or the columns {', '.join(FIELDS)}; "
            f"there is no {', '.join(missing)}, got {', '.join(columns) or 'an empty file'}",
        )
    needed = ("path",) if by_path else FIELDS
    if not rows:
        raise DataError(str(path), "must list at least one session, got none")
    if problems := list(_row_problems(rows, needed)):
        raise DataError(str(path), problems)
    if by_path:
        return [_locate(str(row["path"]).strip(), path.parent, str(path)) for row in rows]
    root = (data_folder or path.parent).resolve()
    return [str(root.joinpath(*(row[name].strip() for name in FIELDS), FILE_NAME)) for row in rows]


def _row_problems(
    rows: Sequence[Mapping[str, str | None]], needed: Sequence[str]
) -> Iterator[str]:
    for number, row in enumerate(rows, start=2):
        for name in needed:
            if not (row[name] or "").strip():
                yield f"line {number}: `{name}` must not be empty"
