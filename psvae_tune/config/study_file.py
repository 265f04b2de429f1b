"""Read a search-space file, and change settings in its contents."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from psvae_tune.config.json_text import parse_json
from psvae_tune.config.session_list import absolute_path, list_sessions
from psvae_tune.config.study import SECTIONS
from psvae_tune.config.yaml_text import MAX_BYTES, MAX_DEPTH, check_size, parse_yaml
from psvae_tune.errors import ConfigError

LEAF_SECTIONS = frozenset(SECTIONS) - {"search"} | {"space", "objectives"}
"""Sections below which the rest of a dotted place is one name: published names hold dots."""


def read_study_file(
    path: Path, settings: Mapping[str, Any] | None = None, sessions: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the contents of a search-space file after a user's changes.

    Paths of sessions and of an architecture are made absolute: those of the file are relative
    to the file, those of the command line to the working folder. A sessions CSV is replaced by
    the recordings that it lists; ``data.folder``, if there is one, holds them.

    Parameters
    ----------
    path
        YAML file.
    settings
        Values by their dotted places, as `apply_settings` takes them.
    sessions
        Recordings or sessions CSVs that replace those of the file.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not YAML, or a setting names no place in it.
    DataError
        If a sessions CSV cannot be used.
    """
    raw = _read_yaml(path)
    apply_settings(raw, settings or {})
    data = raw.setdefault("data", {})
    if isinstance(data, dict):
        _resolve_sessions(data, path, sessions)
    model = raw.get("model")
    if isinstance(model, dict) and isinstance(model.get("ae_arch_json"), str):
        model["ae_arch_json"] = _read_architecture(path.parent / model["ae_arch_json"])
    return raw


def parse_set_options(texts: Sequence[str]) -> dict[str, Any]:
    """Return the values that ``section.name=value`` texts give, by their dotted places.

    Raises
    ------
    ConfigError
        If a text has no such form, or its value is not YAML.
    """
    settings = {}
    for text in texts:
        place, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"setting {text}", "must read section.name=value")
        settings[place] = parse_yaml(value, f"setting {place}")
    return settings


def apply_settings(raw: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Change values in the contents of a file.

    Parameters
    ----------
    raw
        Contents of a search-space file. Side effects: are modified in place.
    settings
        Plain values by their dotted places, for example ``training.max_n_epochs``. The last part
        may be a published name with dots of its own.

    Raises
    ------
    ConfigError
        If a setting names no place in the contents, or its value is not plain data.
    """
    for place, value in settings.items():
        where = f"setting {place}"
        if not all(place.split(".")):
            raise ConfigError(where, "must name a section, a dot and a name")
        if place.count(".") > MAX_DEPTH:
            raise ConfigError(where, f"names a place below {place.count('.')} others")
        _set(raw, place, _to_plain(value, where), where)


def _to_plain(value: Any, where: str) -> Any:
    """Return a value as YAML can hold it, tuples as lists."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as error:
        kinds = "numbers, texts, lists and mappings"
        raise ConfigError(where, f"must be made of {kinds}, got {value!r:.80}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # bytes that are no text; a NUL in the path
        raise ConfigError(str(path), f"is not text: {error}") from error
    raw = parse_yaml(text, str(path))
    if not isinstance(raw, dict):
        raise ConfigError(str(path), f"must hold sections, got {type(raw).__name__}")
    return raw


def _resolve_sessions(data: dict[str, Any], path: Path, sessions: Sequence[str]) -> None:
    """Make ``data.sessions`` a list of recordings. Side effects: modifies ``data`` in place."""
    folder = data.pop("folder", None)
    if folder is not None and not isinstance(folder, str):
        raise ConfigError(str(path), f"data.folder: must be a path, got {folder!r}")
    data_folder = None if folder is None else absolute_path(folder, path.parent, "data.folder")
    named = data.get("sessions")
    if isinstance(named, str):
        named = [named]
    if sessions:
        data["sessions"] = list_sessions(sessions, Path.cwd(), data_folder)
    elif isinstance(named, list) and all(isinstance(item, str) for item in named):
        data["sessions"] = list_sessions(named, path.parent, data_folder)


def _read_architecture(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it must be shorter than {MAX_BYTES // 2**20} MB")
        raw = parse_json(content.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(str(path), f"is not a readable architecture file: {error}") from error
    check_size(raw, str(path))
    return raw


def _set(node: Any, path: str, value: Any, where: str, is_leaf: bool = False) -> None:
    """Set the value at a dotted place, and make the sections on the way to it."""
    head, dot, rest = path.partition(".")
    if isinstance(node, list):
        named = [item for item in node if isinstance(item, dict)]
        stages = {item["name"]: item for item in named if isinstance(item.get("name"), str)}
        if head not in stages or not rest:
            names = ", ".join(stages)
            raise ConfigError(where, f"names no stage, got {head!r}; there are {names}")
        _set(stages[head], rest, value, where)
    elif not isinstance(node, dict):
        raise ConfigError(where, f"`{path}` is below {node!r}, which holds no settings")
    elif is_leaf or not dot:
        node[path] = value
    else:
        if node.get(head) is None:
            node[head] = {}
        _set(node[head], rest, value, where, is_leaf=head in LEAF_SECTIONS)
