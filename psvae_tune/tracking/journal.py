"""The journal of a study: events that are appended and never changed.

On this machine a journal is a file with one JSON object a line. Behind a URL nothing can be
appended to, so every event is a numbered object of its own. A number can be taken only once.
If two processes run one study, the one that began earlier finds its next number taken and stops.
"""

import json
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from upath import UPath

from psvae_tune.errors import StorageError
from psvae_tune.files import Location, as_storage_error, make_folder

Event = dict[str, Any]


class Journal(Protocol):
    """A sequence of events."""

    def append(self, event: Event) -> None:
        """Add an event. It is stored when this returns. Side effects: writes."""

    def events(self) -> Iterator[Event]:
        """Yield every event that was written whole, in order."""


def open_journal(folder: Location) -> Journal:
    """Return the journal of a study, which need not exist."""
    if isinstance(folder, Path):
        return FileJournal(folder / "journal.jsonl")
    return ObjectJournal(folder / "journal")


class FileJournal:
    """A journal in a file. It remembers the events that it has read, and reads on from there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._events: list[Event] = []
        self._n_bytes_read = 0

    def append(self, event: Event) -> None:
        """Add an event. It is on disk when this returns. Side effects: writes the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            # A line that a crash cut short would swallow the next one.
            is_torn = file.tell() > 0 and not self._ends_with_newline()
            file.write((b"\n" if is_torn else b"") + json.dumps(event).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _ends_with_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def events(self) -> Iterator[Event]:
        """Yield every event that was written whole, in order."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._n_bytes_read)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._n_bytes_read += len(line)
                    self._events += _parse(line)
        return iter(tuple(self._events))


class ObjectJournal:
    """A journal behind a URL, with one object an event. It reads every event once."""

    def __init__(self, folder: UPath) -> None:
        self.folder = folder
        self._events: list[Event] = []
        self._number: int | None = None
        """Number of the next event; None before anything was read."""

    def __reduce__(self) -> Any:
        # All copies that reach a process must number events together, so they become one journal.
        return _receive, (self.folder,)

    def append(self, event: Event) -> None:
        """Add an event. Side effects: writes an object.

        Raises
        ------
        StorageError
            If another process has added an event since, because it has taken over the study.
        """
        if self._number is None:
            self._read_on()
            make_folder(self.folder)
        assert self._number is not None
        path = self._path(self._number)
        with as_storage_error(str(path)):
            try:
                path.fs.pipe_file(path.path, json.dumps(event).encode(), mode="create")
            except FileExistsError as error:
                raise StorageError(
                    f"study {self.folder.parent.name!r}",
                    "is being run by another process, which began later",
                    hint="let that one end; this one has stopped, and nothing is lost",
                ) from error
        self._events.append(event)
        self._number += 1

    def events(self) -> Iterator[Event]:
        """Yield every event, in order."""
        self._read_on()
        return iter(tuple(self._events))

    def _path(self, number: int) -> UPath:
        return self.folder / f"{number:08}.json"

    def _read_on(self) -> None:
        with as_storage_error(str(self.folder)):
            if self._number is None:
                self._read_all()
            assert self._number is not None
            # A request for the next object takes less time than a list of all of them.
            while (content := _read(self._path(self._number))) is not None:
                self._events += _parse(content)
                self._number += 1

    def _read_all(self) -> None:
        file_system = self.folder.fs
        try:
            names = sorted(file_system.ls(self.folder.path, detail=False))
        except FileNotFoundError:
            names = []
        contents = file_system.cat(names) if names else {}
        self._events = [event for name in names for event in _parse(contents[name])]
        self._number = int(Path(names[-1]).stem) + 1 if names else 0


@lru_cache
def _receive(folder: UPath) -> ObjectJournal:
    """Return the journal of a folder, one for all copies that this process receives."""
    return ObjectJournal(folder)


def _parse(line: bytes) -> list[Event]:
    """Return the event of a line, or no event if the line was not written whole."""
    try:
        event = json.loads(line)
    except ValueError:
        return []
    return [event] if isinstance(event, dict) else []


def _read(path: UPath) -> bytes | None:
    try:
        content: bytes = path.fs.cat_file(path.path)
    except FileNotFoundError:
        return None
    return content
