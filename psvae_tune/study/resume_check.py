"""A study that is resumed must be the one that began: its settings and recordings are compared."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from psvae_tune.config.stage import BUDGETS
from psvae_tune.config.study import resolve_counts
from psvae_tune.data.session import Session
from psvae_tune.errors import StorageError
from psvae_tune.tracking.folders import StudyFolder

CHANGEABLE_ON_RESUME = {*BUDGETS, "checkpoint_every"}
"""Settings that may change between two starts, because they do not change what a trial is."""
CHANGEABLE_SECTIONS = {"resources"}
"""Sections of the file that may change for the same reason."""
_MAX_LENGTH = 60


def note_request(
    folder: StudyFolder, contents: Mapping[str, Any], sessions: Sequence[Session]
) -> None:
    """Keep the settings and recordings that a study is started with.

    Side effects: writes ``study.yaml``; appends to the journal.
    """
    folder.save_study_file(dict(contents))
    request = {"study": _to_json(contents), "sessions": _digests(sessions)}
    folder.journal.append({"event": "request", "stage": None, **request})


def check_unchanged(
    folder: StudyFolder, contents: Mapping[str, Any], sessions: Sequence[Session]
) -> None:
    """Make sure that a study goes on with the settings and recordings that it began with.

    Budgets and resources may change.

    Parameters
    ----------
    folder
        Folder of the study; a study that has not begun may be anything.
    contents
        Contents of the search-space file, from `StudyPlan`.
    sessions
        The recordings as they are now.

    Raises
    ------
    StorageError
        If anything else has changed; the message names every change.
    """
    requests = [event for event in folder.journal.events() if event["event"] == "request"]
    if not requests:
        return
    # Earlier versions kept `n_labels + k` as it stood in the file.
    began = resolve_counts(requests[-1]["study"], sessions[0].header.n_labels)
    changes = [
        f"{path} was {_shorten(before)}, is {_shorten(after)}"
        for path, before, after in _differences(began, _to_json(contents))
        if path.rpartition(".")[2] not in CHANGEABLE_ON_RESUME
        and path.partition(".")[0] not in CHANGEABLE_SECTIONS
    ]
    digests = requests[-1]["sessions"]
    changes += [
        f"the contents of {name} have changed"
        for name, digest in _digests(sessions).items()
        if digests.get(name, digest) != digest
    ]
    if changes:
        raise StorageError(
            f"study {folder.name}",
            [f"is not what it began as: {changes[0]}", *changes[1:]],
            hint="undo this, or give --accept-changes: trials that it concerns are then trained "
            "anew, the others are kept",
        )


def _to_json(contents: Mapping[str, Any]) -> Any:
    """Return contents with the types that they have after they were kept in a journal."""
    return json.loads(json.dumps(contents, default=str))


def _digests(sessions: Sequence[Session]) -> dict[str, str]:
    return {session.header.path: session.digest for session in sessions}


def _differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the path and both values of every difference; a stage is known by its name."""
    before, after = _by_stage(before), _by_stage(after)
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            child = f"{path}.{name}" if path else str(name)
            yield from _differences(before.get(name), after.get(name), child)
    elif before != after:
        yield path, before, after


def _by_stage(node: Any) -> Any:
    """Return a list of stages as a dict by their names; anything else as it is."""
    if isinstance(node, list) and all(isinstance(item, dict) and "name" in item for item in node):
        return {item["name"]: item for item in node}
    return node


def _shorten(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 3]}..."
