"""What was asked of a study, so that one which goes on can be held against what began."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from psvae_tune.config.stage import BUDGETS
from psvae_tune.data.session import Session
from psvae_tune.errors import StorageError
from psvae_tune.tracking.folders import StudyFolder

# What may change from one start to the next: none of it changes the numbers of a trial.
CHANGEABLE_ON_RESUME = {*BUDGETS, "checkpoint_every"}
CHANGEABLE_SECTIONS = {"resources"}


def note_what_was_asked(
    folder: StudyFolder, raw: Mapping[str, Any], sessions: Sequence[Session]
) -> None:
    """Keep what a study was started with. Side effects: writes to the study's folder."""
    folder.save_study_file(dict(raw))
    folder.journal.append({"event": "request", "stage": None, **_describe(raw, sessions)})


def check_unchanged(
    folder: StudyFolder, raw: Mapping[str, Any], sessions: Sequence[Session]
) -> None:
    """Make sure that a study goes on with what it began with.

    Budgets and resources may change.

    Parameters
    ----------
    folder
        Of the study; one that has not been started allows everything.
    raw
        The search-space file as it is to be run.
    sessions
        The recordings as they are now.

    Raises
    ------
    StorageError
        With everything that has changed.
    """
    earlier = [event for event in folder.journal.events() if event["event"] == "request"]
    if not earlier:
        return
    now = _describe(raw, sessions)
    changes = [
        f"{path} was {_shorten(before)}, is {_shorten(after)}"
        for path, before, after in _differences(earlier[-1]["study"], now["study"])
        if path.rpartition(".")[2] not in CHANGEABLE_ON_RESUME
        and path.partition(".")[0] not in CHANGEABLE_SECTIONS
    ]
    changes += [
        f"the contents of {name} have changed"
        for name, digest in now["sessions"].items()
        if earlier[-1]["sessions"].get(name, digest) != digest
    ]
    if changes:
        raise StorageError(
            f"study {folder.name}",
            [f"is not what it began as: {changes[0]}", *changes[1:]],
            hint="undo this, or give --accept-changes: trials that it concerns are then trained "
            "anew, the others are kept",
        )


def _describe(raw: Mapping[str, Any], sessions: Sequence[Session]) -> dict[str, Any]:
    digests = {session.header.path: session.digest for session in sessions}
    # Through JSON, so that what was kept and what is new have the same types.
    return {"study": json.loads(json.dumps(raw, default=str)), "sessions": digests}


def _differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield every place where two files differ, the stages of both being told by their names."""
    before, after = _by_name(before), _by_name(after)
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            place = f"{path}.{name}" if path else str(name)
            yield from _differences(before.get(name), after.get(name), place)
    elif before != after:
        yield path, before, after


def _by_name(node: Any) -> Any:
    if isinstance(node, list) and all(isinstance(item, dict) and "name" in item for item in node):
        return {item["name"]: item for item in node}
    return node


def _shorten(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
