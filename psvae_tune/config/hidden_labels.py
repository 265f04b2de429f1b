"""Labels that no model sees, and that tell what its unsupervised latents find."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from psvae_tune.config.wording import and_list
from psvae_tune.errors import ConfigError, nearest

HIDDEN = "hidden_labels"
"""Setting, or hyperparameter of a stage, that names these labels."""
EACH_PART = {"each": "part"}
"""Value of the setting that hides the labels of one part after another."""


def part_of(label_name: str) -> str:
    """Return the part that a coordinate belongs to, such as ``paw`` of ``paw_x``."""
    return re.sub(r"_[xy]$", "", label_name)


def list_parts(label_names: Sequence[str]) -> list[list[str]]:
    """Return the names of the labels of each part."""
    parts: dict[str, list[str]] = {}
    for name in label_names:
        parts.setdefault(part_of(name), []).append(name)
    return list(parts.values())


def find_labels(patterns: Any, label_names: Sequence[str], place: str) -> list[str]:
    """Return the labels that names and patterns stand for, in the order of the recording.

    Parameters
    ----------
    patterns
        A name, a pattern such as ``paw4*``, or a list of them. A name counts before a pattern.
    label_names
        Names of the labels of the recordings.
    place
        Place of the setting in an error.

    Raises
    ------
    ConfigError
        If a pattern is no text, or fits no label.
    """
    found: set[str] = set()
    for pattern in _list_patterns(patterns, place):
        matches = {pattern} & set(label_names)
        matches = matches or {name for name in label_names if fnmatchcase(name, pattern)}
        if not matches:
            near = nearest(pattern, label_names)
            names = and_list(label_names or ["none"])
            hint = f"did you mean `{near}`?" if near else f"there are {names}"
            raise ConfigError(place, f"fits no label of the recordings, got {pattern!r}", hint)
        found |= matches
    return [name for name in label_names if name in found]


def _list_patterns(patterns: Any, place: str) -> list[str]:
    wanted = [patterns] if isinstance(patterns, str) else patterns or []
    if not isinstance(wanted, list | tuple) or not all(isinstance(one, str) for one in wanted):
        raise ConfigError(place, f"must be names or patterns of labels, got {patterns!r}")
    return list(wanted)


def resolve_hidden_labels(
    raw: Mapping[str, Any], label_names: Sequence[str] | None
) -> dict[str, Any]:
    """Replace patterns of hidden labels in a search-space file by the names that they stand for.

    ``each: part`` becomes a dimension of every stage that does not give hidden labels itself, and
    whose trials begin with new weights.

    Parameters
    ----------
    raw
        Contents of the file.
    label_names
        Names of the labels of the recordings. With None, which is for recordings that are not
        read yet, patterns stay as they are, and ``each: part`` is a single part.

    Raises
    ------
    ConfigError
        If a pattern fits no label.
    """
    contents = dict(raw)
    data, search = contents.get("data"), contents.get("search")
    each = None
    if isinstance(data, Mapping) and HIDDEN in data:
        given = data[HIDDEN]
        each = EACH_PART if given == EACH_PART else None
        names = [] if each else _resolve(given, label_names, f"data.{HIDDEN}")
        contents["data"] = {**data, HIDDEN: names}
    if isinstance(search, Mapping):
        stages = search.get("stages")
        if isinstance(stages, list):
            found = [_resolve_stage(stage, label_names, each) for stage in stages]
            contents["search"] = {**search, "stages": found}
        else:
            contents["search"] = _resolve_stage(search, label_names, each)
    return contents


def _resolve(patterns: Any, label_names: Sequence[str] | None, place: str) -> list[str]:
    if label_names is None:
        return _list_patterns(patterns, place)
    return find_labels(patterns, label_names, place)


def _resolve_stage(stage: Any, label_names: Sequence[str] | None, each: Any) -> Any:
    """Return a stage with names in the place of patterns."""
    space = stage.get("space") if isinstance(stage, Mapping) else None
    if not isinstance(space, Mapping):
        return stage
    domain = space.get(HIDDEN, None if stage.get("start_from") else each)
    if domain is None:
        return stage
    changed = dict(stage)
    if domain == EACH_PART:
        kind = "grid_search" if stage.get("algorithm", "grid") == "grid" else "choice"
        domain = {kind: [[]] if label_names is None else list_parts(label_names)}
        if label_names is None and kind == "grid_search":
            changed.pop("num_trials", None)  # it may be the number of points, which is not known
    elif isinstance(domain, Mapping):
        name = stage.get("name")
        place = f"search{f'.stages.{name}' if name else ''}.space.{HIDDEN}"
        domain = {
            kind: [_resolve(value, label_names, place) for value in values]
            if isinstance(values, list)
            else values
            for kind, values in domain.items()
        }
    return {**changed, "space": {**space, HIDDEN: domain}}
