"""A fitted model as one file: its settings as JSON, its weights as tensors, and no code."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.config.settings import parse_settings
from psvae_tune.data.label_scaler import MAX_UNITS, LabelScaler
from psvae_tune.data.recorded_view import RecordedView, from_plain
from psvae_tune.errors import ConfigError, StorageError
from psvae_tune.files import replace_when_whole
from psvae_tune.models.batch import DataShape
from psvae_tune.models.model import Model
from psvae_tune.models.registry import build_model

FORMAT = 1
MAX_SIZE = 10_000
"""Largest height, width, and number of channels, labels or sessions; more is damage."""


@dataclass(frozen=True, slots=True)
class SavedModel:
    """Contents of a model file."""

    model: Model
    """The model in evaluation mode."""
    label_scaler: LabelScaler
    """The units of the labels, session by session."""
    extra: dict[str, Any]
    """Further values that were saved with the model, as plain JSON."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels; `label 0` and so on where the file names other ones or none."""
        names = tuple(self.extra.get("label_names", ()))
        n_labels = self.model.shape.n_labels
        return names if len(names) == n_labels else tuple(f"label {i}" for i in range(n_labels))

    def views(self, session_index: int) -> tuple[RecordedView, ...]:
        """Return which part of a video the frames of a session showed; empty if unknown."""
        views = self.extra.get("views", [])
        return from_plain(views[session_index]) if 0 <= session_index < len(views) else ()


def save_model(
    path: Path | str,
    model: Model,
    label_scaler: LabelScaler | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a model to one file, which appears whole or not at all.

    Parameters
    ----------
    path
        Path of the file, in a folder that exists.
    model
        Model on any device.
    label_scaler
        The units of the labels; None where labels are as recorded, or where there are none.
    extra
        Further values that JSON can hold.

    Side effects: writes beside ``path``, then renames.
    """
    description = {
        "format": FORMAT,
        "config": model.config.model_dump(mode="json", by_alias=True),
        "shape": asdict(model.shape),
        "label_scaler": None if label_scaler is None else label_scaler.to_dict(),
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
        Path of the file.
    device
        Device that the model is put on.

    Raises
    ------
    StorageError
        If the file is missing, cut short, a pickle or no model, or if its weights do not fit its
        settings.
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
        raw_scaler, extra = description["label_scaler"], dict(description["extra"])
        state = dict(content["state"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StorageError(where, "is no model of psvae_tune") from error
    problems: list[str] = []
    config = parse_settings(config_class, raw, "model", problems)
    problems += _problems(shape, extra)
    scaler = None if problems else _read_scaler(raw_scaler, shape, problems)
    if config is None or scaler is None or problems:
        raise StorageError(where, problems)
    try:
        model = build_model(config, shape).to(device)
        model.load_state_dict(state)
    except (ConfigError, RuntimeError, AttributeError, TypeError) as error:
        raise StorageError(
            where, f"its weights are of another architecture than its settings: {error}"
        ) from error
    return SavedModel(model.eval(), scaler, extra)


def _problems(shape: DataShape, extra: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems of a model file apart from those of its settings."""
    lowest = DataShape(1, 1, 1, 0, 1)
    for name, value in asdict(shape).items():
        least = getattr(lowest, name)
        if type(value) is not int or not least <= value <= MAX_SIZE:
            yield f"shape.{name} must be from {least} to {MAX_SIZE}, got {value!r:.80}"
            return
    names = extra.get("label_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        yield f"label_names must be a list of names, got {names!r:.80}"
    views = extra.get("views", [])
    try:
        for item in views if isinstance(views, list) else [views]:
            from_plain(item)
    except ValueError as error:
        yield f"views {error}"


def _read_scaler(raw: Any, shape: DataShape, problems: list[str]) -> LabelScaler | None:
    """Return the units of the labels, or add to ``problems`` what is wrong with them."""
    if raw is None:
        return LabelScaler.identity(shape.n_labels)
    try:
        scaler = LabelScaler.from_dict(raw)
        if scaler.mean.shape in {(n, shape.n_labels) for n in (1, shape.n_sessions)}:
            return scaler
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    wanted = f"a mean and a positive std, below {MAX_UNITS:g}, of {shape.n_labels} labels"
    problems.append(f"label_scaler must hold {wanted}, got {raw!r:.80}")
    return None


def _read(where: str, device: torch.device | str) -> dict[str, Any]:
    try:
        content = torch.load(where, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise StorageError(where, "does not exist") from error
    except Exception as error:  # torch raises many types for bytes it cannot read
        raise StorageError(
            where,
            "cannot be read as tensors: it is cut short, a pickle, or no model",
            hint="use a `model.pt` that psvae_tune wrote; no pickle that could run code is opened",
        ) from error
    if not isinstance(content, dict):
        raise StorageError(where, "is no model of psvae_tune")
    return content
