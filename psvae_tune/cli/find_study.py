"""How commands that look at a study find it."""

from pathlib import Path
from typing import TYPE_CHECKING

from psvae_tune.errors import StorageError
from psvae_tune.tracking.folders import OutputFolder, StudyFolder

if TYPE_CHECKING:
    from psvae_tune.results.logged_study import LoggedStudy


def find_study(study: str, output: Path, tracking_uri: str | None) -> "LoggedStudy":
    """Return a study by its name or its folder.

    Raises
    ------
    StorageError
        If there is no store to look into.
    """
    from psvae_tune.results.logged_study import open_study

    uri, name = find_store(study, output, tracking_uri)
    return open_study(uri, name)


def find_store(study: str, output: Path, tracking_uri: str | None) -> tuple[str, str]:
    """Return the tracking URI to look into for a study, and the study's name."""
    name = Path(study).name
    for folder in (Path(study), output / study):
        if tracking_uri is None and (folder / "tracking.json").exists():
            return kept_uri(StudyFolder(folder)), name
    if tracking_uri is not None:
        return tracking_uri, name
    store = OutputFolder(output.resolve())
    if not store.database.exists():
        raise StorageError(
            str(output),
            "holds no studies",
            hint="name the folder with --output, or a server with --tracking-uri",
        )
    return store.default_tracking_uri, name


def kept_uri(folder: StudyFolder) -> str:
    """Return the tracking URI that a study was logged to.

    Raises
    ------
    StorageError
        If none was kept, or it holds a password, which is not kept.
    """
    uri = folder.read_tracking()["uri"]
    if "***@" in uri:
        raise StorageError(
            str(folder.root),
            "is logged to a store with a password, which is not kept",
            hint="give it with --tracking-uri or MLFLOW_TRACKING_URI",
        )
    return uri
