"""A study is found by its name or its folder, and a model by its file or its name."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from psvae_tune.errors import StorageError
from psvae_tune.results.logged_study import LoggedStudy, open_study
from psvae_tune.tracking.folders import OutputFolder, StudyFolder
from psvae_tune.tracking.model_registry import describe_model, download_model

if TYPE_CHECKING:
    import torch

    from psvae_tune.results.fitted_model import FittedModel


def find_study(study: str, output: Path, tracking_uri: str | None) -> LoggedStudy:
    """Return a study by its name or its folder.

    Parameters
    ----------
    study
        Name or folder of the study.
    output
        Folder of all studies, whose store is used if no other is named.
    tracking_uri
        Tracking store or server to look into instead.

    Raises
    ------
    StorageError
        If there is no store to look into.
    TrackingError
        If the store does not answer, or does not know the study.
    """
    return open_study(*find_store(study, output, tracking_uri))


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


def find_model(
    model: str, output: Path, tracking_uri: str | None, device: "torch.device | str" = "cpu"
) -> "FittedModel":
    """Return a fitted model by its file, its folder or its name in a model registry.

    Parameters
    ----------
    model
        A ``model.pt``, a folder that holds one, or ``models:/NAME@champion``.
    output, tracking_uri
        Where the registry is, as in `find_study`.
    device
        Device that the model is put on.

    Raises
    ------
    StorageError
        If there is no such file, or it holds no model.
    TrackingError
        If the registry does not answer, or does not know the model.
    """
    from psvae_tune.models.model_file import load_model
    from psvae_tune.results.fitted_model import FittedModel

    if model.startswith("models:/"):
        uri, _ = find_store("", output, tracking_uri)
        with TemporaryDirectory() as temporary:
            saved = load_model(download_model(uri, model, Path(temporary)), device)
        return FittedModel(saved, {"model": model, **describe_model(uri, model)})
    path = Path(model)
    path = path / "model.pt" if path.is_dir() else path
    saved = load_model(path, device)
    return FittedModel(saved, {"model": path.name, **_read_card(path.parent / "card.json")})


def _read_card(path: Path) -> dict[str, str]:
    """Return study, trial and run of a model that was exported; nothing of any other."""
    try:
        card = json.loads(path.read_text())
        return {key: str(card[key]) for key in ("study", "trial", "run_id")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
