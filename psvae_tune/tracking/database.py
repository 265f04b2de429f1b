"""The SQLite file of a store that has no server."""

from pathlib import Path
from urllib.parse import unquote

from psvae_tune.errors import TrackingError

SQLITE_START = b"SQLite format 3\0"


def find_database(uri: str) -> Path | None:
    """Return the SQLite file that a URI names, which need not exist; None for other stores.

    Raises
    ------
    TrackingError
        If what is there is no database; MLflow would try again and again for minutes.
    """
    if not uri.startswith("sqlite:///"):
        return None
    path = Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0]))
    try:
        with path.open("rb") as file:
            start = file.read(len(SQLITE_START))
    except FileNotFoundError:
        return path
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise TrackingError(f"tracking URI {uri}", f"cannot be read: {why}") from error
    if start not in (b"", SQLITE_START):
        raise TrackingError(f"tracking URI {uri}", "is no SQLite database")
    return path
