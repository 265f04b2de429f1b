"""A SQLite store finds its artifacts beside its file, wherever both were moved or copied to."""

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from urllib.parse import quote

from psvae_tune.errors import TrackingError
from psvae_tune.files import try_lock
from psvae_tune.tracking.mlflow_private import ARTIFACT_COLUMNS, local_folder


@cache
def follow_move(database: Path) -> None:
    """Let a store look for its artifacts where its file is now.

    MLflow keeps absolute places. If a folder of artifacts lies beside the file as it did before,
    and the place that is kept is another one, the folder beside counts.

    Side effects: changes the store, at the first call in a process only.

    Raises
    ------
    TrackingError
        If the store must be changed and cannot be, or a study is being run in its folder.
    """
    where = f"tracking URI sqlite:///{database}"
    try:
        moves = _find_moves(database)
    except sqlite3.Error:
        return  # there is no store yet, or MLflow says what is wrong with it
    if not moves:
        return
    for file in database.parent.glob("*/lock"):
        with file.open("a") as lock:
            if not try_lock(lock):
                raise TrackingError(
                    where,
                    f"is used under another path by the study {file.parent.name!r}, which is "
                    "being run",
                    hint="wait for it to end",
                )
    try:
        _apply(database, moves)
    except sqlite3.Error as error:
        raise TrackingError(
            where,
            f"was moved, and must note where its artifacts are now: {error}",
            hint="make it writable, or copy the whole folder",
        ) from error


def _find_moves(database: Path) -> dict[str, str]:
    """Return the places of artifacts that are no longer right, with those that are."""
    uri = f"file:{quote(str(database))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as store:
        rows = store.execute("SELECT DISTINCT artifact_location FROM experiments")
        kept = [str(row[0]) for row in rows]
    folder, moves = database.resolve().parent, {}
    for place in kept:
        before = local_folder(place)
        if before is None:
            continue
        # The folder of a store of this package, or MLflow's own of one experiment.
        is_ours = before.name == "artifacts"
        now = folder / before.name if is_ours else folder / before.parent.name / before.name
        if not now.is_dir() or (before.exists() and (not is_ours or now.samefile(before))):
            continue
        moves[place] = now.as_uri()
    return moves


def _apply(database: Path, moves: dict[str, str]) -> None:
    """Replace the beginnings of all places of artifacts. Side effects: changes the store."""
    with closing(sqlite3.connect(database)) as store, store:
        for before, now in moves.items():
            for table, column in ARTIFACT_COLUMNS:
                store.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
                )
