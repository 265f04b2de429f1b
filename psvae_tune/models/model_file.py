"""A fitted model as one file: its settings as JSON, its weights as tensors, and no code."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.config.settings import parse_settings
from psvae_tune.errors import ConfigError, StorageError
from psvae_tune.files import replace_when_whole
from psvae_tune.models.batch import DataShape
from psvae_tune.models.model import Model
from psvae_tune.models.registry import build_model

FORMAT = 1
MAX_SIZE = 10_000
"""Pixels of a side, channels, labels or sessions; more is damage."""
_MAX_UNITS = 1e30  # of a label's mean and std: what a model says must fit float32 in these units
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SavedModel:
    """What a model file holds."""

    model: Model
    """In evaluation mode."""
    label_scaler: dict[str, Any] | None
    """Plain lists ``mean`` and ``std``, (label,) or (session, label), in the user's units; None
    where labels are as recorded, or where there are none."""
    extra: dict[str, Any]
    """Whatever else was saved beside the model, as plain JSON."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels; `label 0` and so on where the file names other ones or none."""
        names = tuple(self.extra.get("label_names", ()))
        n_labels = self.model.shape.n_labels
        return names if len(names) == n_labels else tuple(f"label {i}" for i in range(n_labels))

    def in_units(self, labels: NDArray[np.floating], session_index: int = 0) -> Floats:
        """Return standardised labels, (frame, label), in the user's units."""
        mean, std = self._scale(session_index)
        return (labels * std + mean).astype(np.float32)

    def standardise(self, labels: NDArray[np.floating], session_index: int = 0) -> Floats:
        """Return labels in the user's units, (frame, label), as the model knows them."""
        mean, std = self._scale(session_index)
        return ((labels - mean) / std).astype(np.float32)

    def _scale(self, session_index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean and the std of the labels of a session, (label,) each."""
        if self.label_scaler is None:
            return np.zeros(()), np.ones(())
        mean, std = (
            np.atleast_2d(np.array(self.label_scaler[name], np.float64))
            for name in ("mean", "std")
        )
        row = session_index if len(mean) > 1 else 0
        return mean[row], std[row]


def save_model(
    path: Path | str,
    model: Model,
    label_scaler: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model to one file, which appears whole or not at all.

    Parameters
    ----------
    path
        Where; its folder must exist.
    model
        On any device.
    label_scaler
        ``mean`` and ``std`` of the labels, as `SavedModel.label_scaler` says.
    extra
        Anything else that JSON can hold.

    Side effects: writes beside ``path``, then renames.
    """
    description = {
        "format": FORMAT,
        "config": model.config.model_dump(mode="json", by_alias=True),
        "shape": asdict(model.shape),
        "label_scaler": None if label_scaler is None else dict(label_scaler),
        "extra": dict(extra or {}),
    }
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    with replace_when_whole(Path(path)) as beside:
        torch.save({"description": json.dumps(description), "state": state}, beside)


def load_model(path: Path | str, device: torch.device | str = "cpu") -> SavedModel:
    """Read what `save_model` wrote.

    Parameters
    ----------
    path
        The file.
    device
        Where the model is to be.

    Raises
    ------
    StorageError
        If the file is missing, cut short, a pickle, not a model, or a model of other settings
        than it claims.
    """
    where = str(path)
    content = _read(where, device)
    try:
        description = json.loads(content["description"])
        version, raw = description["format"], description["config"]
        if version != FORMAT:
            raise StorageError(where, f"must be of format {FORMAT}, got {version!r:.80}")
        shape = DataShape(**description["shape"])
        config_class = MODEL_CONFIGS[raw["model_class"]]
        scaler, extra = description["label_scaler"], dict(description["extra"])
        state = dict(content["state"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StorageError(where, "is no model of psvae_tune") from error
    problems: list[str] = []
    config = parse_settings(config_class, raw, "model", problems)
    problems += _problems(shape, scaler, extra)
    if config is None or problems:
        raise StorageError(where, problems)
    try:
        model = build_model(config, shape).to(device)
        model.load_state_dict(state)
    except (ConfigError, RuntimeError, AttributeError, TypeError) as error:
        raise StorageError(
            where, f"its weights are of another architecture than its settings: {error}"
        ) from error
    return SavedModel(model.eval(), scaler, extra)


def _problems(shape: DataShape, scaler: Any, extra: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with what a model file says beside its settings."""
    lowest = DataShape(1, 1, 1, 0, 1)
    for name, value in asdict(shape).items():
        least = getattr(lowest, name)
        if type(value) is not int or not least <= value <= MAX_SIZE:
            yield f"shape.{name} must be from {least} to {MAX_SIZE}, got {value!r:.80}"
            return
    if scaler is not None:
        try:
            rows = [np.atleast_2d(np.array(scaler[name], np.float64)) for name in ("mean", "std")]
            shapes = {(n_rows, shape.n_labels) for n_rows in (1, shape.n_sessions)}
            is_good = {row.shape for row in rows} <= shapes and bool(
                (np.abs(rows) < _MAX_UNITS).all() and (rows[1] > 0).all()
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            is_good = False
        if not is_good:
            wanted = f"a mean and a positive std, below {_MAX_UNITS:g}, of {shape.n_labels} labels"
            yield f"label_scaler must hold {wanted}, got {scaler!r:.80}"
    names = extra.get("label_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        yield f"label_names must be a list of names, got {names!r:.80}"


def _read(where: str, device: torch.device | str) -> dict[str, Any]:
    try:
        content = torch.load(where, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise StorageError(where, "does not exist") from error
    except Exception as error:  # torch raises many types for bytes it cannot read
        raise StorageError(
            where,
            "cannot be read as tensors: it is cut short, a pickle, or no model",
            hint="use a `model.pt` that psvae_tune wrote; pickles are never opened",
        ) from error
    if not isinstance(content, dict):
        raise StorageError(where, "is no model of psvae_tune")
    return content
