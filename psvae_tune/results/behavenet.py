"""Imports a version folder of BehaveNet as an MLflow run that compares with those of trials.

Two files of the folder are read: ``best_val_model.pt``, which holds tensors without any code, and
``meta_tags.csv``. The pickles beside them are never opened.
"""

import ast
import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.config.settings import setting_names
from psvae_tune.config.training import DataConfig, TrainingConfig
from psvae_tune.config.trial import TrialConfig, parse_trial_config
from psvae_tune.config.wording import name_trial
from psvae_tune.config.yaml_text import dump_yaml
from psvae_tune.data.demo import session_path
from psvae_tune.data.session import Session
from psvae_tune.data.session_file import read_session
from psvae_tune.errors import DataError, StorageError
from psvae_tune.files import sha256
from psvae_tune.models.behavenet import model_from_reference
from psvae_tune.models.model import Model
from psvae_tune.results.keep_model import describe_session, keep_model, scaled_weights
from psvae_tune.tracking.client import TrackingTarget, open_target
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.trial_run import TrialRun, TrialRunSpec, close_trial
from psvae_tune.training.batches import prepare_data

WEIGHTS_FILE = "best_val_model.pt"
META_FILE = "meta_tags.csv"
STAGE = "imported"


@dataclass(frozen=True, slots=True)
class Version:
    """A fitted model of BehaveNet."""

    path: Path
    meta: dict[str, Any]
    """Settings by their published names, including the keys of the architecture."""
    state: dict[str, NDArray[Any]]
    """Parameters by their names in BehaveNet."""
    digest: str
    """SHA-256 of the weights file."""


def read_version(path: Path) -> Version:
    """Read a version folder.

    Raises
    ------
    StorageError
        If a file is missing or has other contents. A pickle is refused unopened.
    """
    meta = _read_meta(path / META_FILE)
    weights = path / WEIGHTS_FILE
    try:
        digest = sha256(weights)
        loaded = torch.load(weights, map_location="cpu", weights_only=True)
    except OSError as error:
        raise StorageError(str(weights), f"cannot be read: {error.strerror}") from error
    except Exception as error:  # torch raises many types for bytes it cannot read
        raise StorageError(
            str(weights),
            "cannot be read as tensors: it is cut short, a pickle, or no model",
            hint="in BehaveNet's environment: torch.save(model.state_dict(), path)",
        ) from error
    if not (
        isinstance(loaded, Mapping)
        and loaded
        and all(isinstance(value, torch.Tensor) for value in loaded.values())
    ):
        raise StorageError(str(weights), "must hold the parameters of a model, by name")
    state = {name: value.numpy() for name, value in loaded.items()}
    return Version(path, meta, state, digest)


def _read_meta(path: Path) -> dict[str, Any]:
    """Return the settings of a ``meta_tags.csv``: rows of a name and a Python literal or text."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except OSError as error:
        raise StorageError(str(path), f"cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise StorageError(str(path), f"is not a CSV file: {error}") from error
    if not rows or rows[0] != ["key", "value"] or any(len(row) != 2 for row in rows):
        raise StorageError(str(path), "must have the columns key,value")
    return {key: _read_value(text) for key, text in rows[1:]}


def _read_value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text or None


def import_folder(
    path: Path, sessions: Sequence[str], output: Path, tracking_uri: str | None, study: str
) -> dict[str, float]:
    """Import the version folder of a fit, as `import_version` does.

    Parameters
    ----------
    path
        Version folder.
    sessions
        Paths or URLs of the recordings to score the model on, in the order of its fit.
    output
        Output folder, which holds the MLflow store if there is no ``tracking_uri``.
    tracking_uri
        MLflow server or store; None for that of the output folder.
    study
        Name of the study of the run.

    Returns
    -------
    dict
        Metrics of the run.
    """
    version = read_version(path)
    read = [
        read_session(session_path(name), needs_labels=needs_labels(version)) for name in sessions
    ]
    folder = OutputFolder(output.resolve())
    folder.prepare()
    target = open_target(
        tracking_uri or folder.default_tracking_uri,
        str(version.meta.get("experiment_name") or study),
        study,
        folder.artifacts if tracking_uri is None else None,
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return import_version(version, read, target, device)


def import_version(
    version: Version, sessions: Sequence[Session], target: TrackingTarget, device: torch.device
) -> dict[str, float]:
    """Score a fitted model on recordings and keep it as a run like those of trials.

    Labels are not scaled, because BehaveNet fits models to recorded labels; for a model without
    a bias they are centred. Clips are split by the rule of this project, so the model may be
    scored on clips that it was trained on. A version that is imported again keeps its run.

    Parameters
    ----------
    version
        The model.
    sessions
        Recordings to score it on, in the order of its fit.
    target
        Store and experiment of the run.
    device
        Device that scores the model.

    Side effects: creates one run in MLflow, and ends it.

    Returns
    -------
    dict
        Metrics of the run, with the keys of a finished trial.

    Raises
    ------
    ConfigError, StorageError, DataError
        If the model cannot be rebuilt, or does not fit the recordings.
    """
    model = _build(version, sessions).to(device)
    config = _read_config(version.meta, model, sessions)
    data = prepare_data(sessions, config)
    trial_id = hashlib.sha256(
        f"{version.digest} {config.trial_id([item.digest for item in sessions])}".encode()
    ).hexdigest()[:16]
    spec = TrialRunSpec(
        STAGE,
        trial_id,
        _name_run(config),
        config.params | scaled_weights(config, data),
        [describe_session(session) for session in sessions],
    )
    run = TrialRun.open(target, spec)
    try:
        run.log_text(dump_yaml(config.sections), "config.yaml")
        metrics = keep_model(model, 0, data, device, run)
    except BaseException:
        close_trial(target, trial_id, "FAILED", "could not be scored")
        raise
    close_trial(target, trial_id, "FINISHED", f"imported from {version.path}")
    return metrics


def _name_run(config: TrialConfig) -> str:
    """Return the name of a run: the settings that studies usually vary."""
    shown = {
        name: value
        for name, value in config.params.items()
        if "." in name or name in ("n_ae_latents", "rng_seed_model")
    }
    return f"behavenet {name_trial(shown)}"


def _build(version: Version, sessions: Sequence[Session]) -> Model:
    header = sessions[0].header
    meta = version.meta
    model = model_from_reference(
        {
            **meta,
            "n_labels": header.n_labels if needs_labels(version) else 0,
            "architecture": meta,
            "n_input_channels": header.n_channels,
            "y_pixels": header.height,
            "x_pixels": header.width,
        },
        version.state,
    )
    if not model.net.accepts(header.frame_shape) or (
        model.config.fit_sess_io_layers and model.shape.n_sessions != len(sessions)
    ):
        raise DataError(
            header.path,
            f"frames of {header.frame_shape} (channel, height, width) in {len(sessions)} "
            f"session(s) do not fit the model of {version.path}",
            hint="give the recordings it was fitted to, in their order",
        )
    return model


def needs_labels(version: Version) -> bool:
    """Return whether a model was fitted to labels."""
    config = MODEL_CONFIGS.get(str(version.meta.get("model_class")))
    return config is not None and config.needs_labels


def _read_config(
    meta: Mapping[str, Any], model: Model, sessions: Sequence[Session]
) -> TrialConfig:
    """Return those settings of the fit that this project knows."""
    scaling = "center" if model.config.needs_centred_labels else "none"
    data = {"sessions": [item.header.path for item in sessions], "label_scaling": scaling}
    sections = {"training": dict(_known(meta, TrainingConfig)), "data": data}
    sections["data"] |= dict(_known(meta, DataConfig))
    raw = {"model": model.config.model_dump(mode="json", by_alias=True), **sections}
    return parse_trial_config(raw, str(META_FILE))


def _known(meta: Mapping[str, Any], settings: type[Any]) -> Iterator[tuple[str, Any]]:
    for name in setting_names(settings):
        if meta.get(name) is not None and name != "sessions":
            yield name, meta[name]
