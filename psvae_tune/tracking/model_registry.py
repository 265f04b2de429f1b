"""Fitted models in MLflow's model format and in its registry."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psvae_tune.errors import TrackingError
from psvae_tune.tracking.client import TrackingTarget, import_mlflow, open_client, reason_of
from psvae_tune.tracking.tags import TRIAL

CHAMPION = "champion"
_NAME = "model"
"""Name of a logged model."""


def log_model(
    target: TrackingTarget,
    trial_id: str,
    example: NDArray[Any],
    n_latents: int,
    n_labels: int,
) -> str:
    """Log the model of a finished trial in MLflow's model format, unless its run has one.

    ``mlflow.pyfunc.load_model(uri).predict(frames)`` then gives latents and, where the model
    predicts them, labels in the user's units.

    Parameters
    ----------
    target, trial_id
        The study, and one of its trials whose run holds ``model.pt``.
    example
        A few frames as they are recorded, (frame, channel, height, width).
    n_latents
        Number of latents.
    n_labels
        Number of labels that the model predicts; 0 if it predicts none.

    Side effects: deletes a model that was logged in part; writes to the store.

    Returns
    -------
    str
        The URI of the model.
    """
    from psvae_tune import __version__

    mlflow = import_mlflow()
    from mlflow.models import Model

    client, run_id = target.client(), target.find_run(TRIAL, trial_id)
    assert run_id is not None
    if (known := find_model(target, run_id)) is not None:
        return known
    mlflow.set_tracking_uri(target.uri)
    with TemporaryDirectory() as folder:
        path = client.download_artifacts(run_id, "model.pt", folder)
        for begun in _list_models(target, run_id):
            client.delete_logged_model(begun.model_id)
        model = client.create_logged_model(
            target.experiment_id,
            _NAME,
            source_run_id=run_id,
            params=client.get_run(run_id).data.params,
        )
        # MLflow's shorter way makes the run the active one, and leaves it RUNNING or FAILED if it
        # is cut off. A trial that was trained to its end would count as one that was not.
        logged = Model.log(
            None,
            mlflow.pyfunc,
            name=_NAME,
            run_id=run_id,
            model_id=model.model_id,
            loader_module="psvae_tune.models.pyfunc",
            data_path=path,
            signature=_describe_arrays(example, n_latents, n_labels),
            input_example=example,
            pip_requirements=[f"psvae-tune=={__version__}"],
        )
    return str(logged.model_uri)


def _describe_arrays(example: NDArray[Any], n_latents: int, n_labels: int) -> Any:
    """Return the shapes and types of what a model takes and gives."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    frames = TensorSpec(example.dtype, (-1, *example.shape[1:]))
    outputs = [TensorSpec(np.dtype(np.float32), (-1, n_latents), "latents")]
    if n_labels:
        outputs.append(TensorSpec(np.dtype(np.float32), (-1, n_labels), "labels"))
    return ModelSignature(Schema([frames]), Schema(outputs))


def find_model(target: TrackingTarget, run_id: str) -> str | None:
    """Return the URI of the model that a run has logged to the end, or None."""
    whole = [model for model in _list_models(target, run_id) if model.status == "READY"]
    return str(whole[0].model_uri) if whole else None


def _list_models(target: TrackingTarget, run_id: str) -> list[Any]:
    """Return the models that a run has logged, or has begun to log."""
    return list(
        target.client().search_logged_models(
            [target.experiment_id], filter_string=f"source_run_id = '{run_id}'"
        )
    )


def register_model(
    target: TrackingTarget, run_id: str, model_uri: str, name: str, tags: Mapping[str, str]
) -> str:
    """Register a logged model as the next version of a name, with the alias `champion`.

    Side effects: writes to the registry of the store.

    Returns
    -------
    str
        The version.

    Raises
    ------
    TrackingError
        If the registry refuses.
    """
    client = target.client()
    # The registry looks up a logged model in the store that this process used last.
    import_mlflow().set_tracking_uri(target.uri)
    try:
        if not any(
            item.name == name for item in client.search_registered_models(f"name='{name}'")
        ):
            client.create_registered_model(name)
        version = client.create_model_version(
            name,
            model_uri,
            run_id=run_id,
            tags=dict(tags),
            model_id=model_uri.rpartition("/")[2],
        ).version
        client.set_registered_model_alias(name, CHAMPION, version)
    except Exception as error:  # registries raise what their database or HTTP library raises
        raise TrackingError(
            f"model {name!r}", f"cannot be registered: {reason_of(error)}"
        ) from error
    return str(version)


def describe_model(uri: str, model_uri: str) -> dict[str, str]:
    """Return version, run, study and trial of a registered model, as far as they are known."""
    name, _, version = model_uri.removeprefix("models:/").replace("@", "/@").partition("/")
    client = open_client(uri)
    try:
        found = (
            client.get_model_version_by_alias(name, version[1:])
            if version.startswith("@")
            else client.get_model_version(name, version)
        )
    except Exception:  # a logged model, `models:/m-…`, or a stage of older registries
        return {}
    tags = {key: found.tags.get(f"psvae_tune.{key}", "") for key in ("study", "trial")}
    known = {"version": str(found.version), "run_id": found.run_id or "", **tags}
    return {key: value for key, value in known.items() if value}


def download_model(uri: str, model_uri: str, folder: Path) -> Path:
    """Copy the weights of a registered or logged model, ``models:/…``, into a folder.

    Raises
    ------
    TrackingError
        If there is no such model.
    """
    mlflow = import_mlflow()
    try:
        open_client(uri)
        mlflow.set_tracking_uri(uri)
        path = mlflow.artifacts.download_artifacts(model_uri, dst_path=str(folder))
        return next(Path(path).rglob("model.pt"))
    except Exception as error:  # stores raise what their database or HTTP library raises
        what = reason_of(error) if str(error) else "it holds no model.pt"
        raise TrackingError(f"model {model_uri}", f"cannot be read: {what}") from error
