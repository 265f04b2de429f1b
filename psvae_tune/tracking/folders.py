"""The output folder and the folder of each study in it.

A file on disk is written beside its name and then renamed, so it is whole or absent. This file is
long because it alone knows the names of all others.

::

    DIR/                          the output folder, or a URL that fsspec knows
      mlflow.db  artifacts/       the default tracking store
      STUDY/
        study.yaml                the search-space file as it was run, with absolute paths
        journal.jsonl             events: how trials ended, and their metrics at each rung;
                                  behind a URL a folder `journal` with an object an event
        selection.json            the choice of every stage, with its reasons
        tracking.json             tracking URI and experiment of its runs
        lock                      locked by the process that runs it; on disk only
        checkpoints/TRIAL.pt      the last checkpoint of an unfinished trial
        last_states/TRIAL.pt      the end of a trial that others go on from, until the study ends
        unlogged                  exists while the tracking server has not taken the choice
        spool/TRIAL/              the outbox: entries that the tracking server has not taken
"""

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psvae_tune.config.yaml_text import dump_yaml, parse_yaml
from psvae_tune.errors import StorageError
from psvae_tune.files import Location, as_storage_error, remove_remains, try_lock, write_bytes
from psvae_tune.redaction import hide_passwords
from psvae_tune.tracking.client import find_database, sqlite_uri
from psvae_tune.tracking.journal import Journal, open_journal

MIN_FREE_BYTES = 200 * 2**20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def read_bytes(path: Location) -> bytes:
    """Return the contents of a file.

    Raises
    ------
    StorageError
        If a URL cannot be reached, or no file lies there.
    """
    if isinstance(path, Path):
        return path.read_bytes()
    with as_storage_error(str(path)):
        return bytes(path.read_bytes())


def remove_folder(folder: Location) -> None:
    """Remove a folder, if it is there. Side effects: removes its files."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        folder.fs.rm(folder.path, recursive=True)


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """The folder of all studies and of the default tracking store."""

    root: Location

    @property
    def is_here(self) -> bool:
        """Whether the folder is a path. Only a path can hold the default tracking store."""
        return isinstance(self.root, Path)

    @property
    def artifacts(self) -> Path:
        """Folder of the artifacts of the default tracking store."""
        return self._path / "artifacts"

    @property
    def database(self) -> Path:
        """SQLite file of the default tracking store."""
        return self._path / "mlflow.db"

    @property
    def _path(self) -> Path:
        assert isinstance(self.root, Path)
        return self.root

    @property
    def default_tracking_uri(self) -> str:
        """Tracking URI of the default tracking store."""
        return sqlite_uri(self.database)

    def study(self, name: str) -> "StudyFolder":
        """Return the folder of a study, which need not exist.

        Raises
        ------
        StorageError
            If ``name`` cannot be the name of a folder here.
        """
        if not NAME.fullmatch(name):
            raise StorageError(
                f"study {name!r:.130}",
                "must consist of up to 100 letters, digits, `_`, `.` and `-`",
            )
        return StudyFolder(self.root / name)

    def has_study(self, name: str) -> bool:
        """Return whether a study of this name was ever started in the folder.

        Raises
        ------
        StorageError
            If a URL cannot be reached.
        """
        file = self.study(name).study_file
        if isinstance(file, Path):
            return file.exists()
        with as_storage_error(str(file)):
            return file.exists()

    def studies(self) -> list[str]:
        """Return the names of the studies in the folder, the latest first."""
        files: list[Any] = sorted(
            self.root.glob("*/study.yaml"), key=lambda file: file.stat().st_mtime, reverse=True
        )
        return [file.parent.name for file in files]

    def prepare(self) -> None:
        """Check that results can be written to the folder.

        Side effects: creates the folder.

        Raises
        ------
        StorageError
            If the folder cannot be written, or its disk is full.
        """
        probe = self.root / f".writable.{socket.gethostname()}.{os.getpid()}"
        if not self.is_here:
            with as_storage_error(str(self.root)):
                write_bytes(probe, b"")
                probe.unlink()
            return
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink(missing_ok=True)  # another thread may have done it
        except OSError as error:
            raise StorageError(
                str(self.root),
                f"cannot be written: {error.strerror}",
                hint="choose another folder with --output",
            ) from error
        free = shutil.disk_usage(self._path).free
        if free < MIN_FREE_BYTES:
            raise StorageError(
                str(self.root),
                f"needs {MIN_FREE_BYTES // 2**20} MB of free disk, got {free // 2**20} MB",
                hint="choose another folder with --output",
            )


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """The folder of one study."""

    root: Location

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.root.name

    @property
    def study_file(self) -> Location:
        """The search-space file as it was run."""
        return self.root / "study.yaml"

    @property
    def outboxes(self) -> Location:
        """The folder of the outboxes, a folder a trial."""
        return self.root / "spool"

    @property
    def unlogged(self) -> Location:
        """File that exists while the tracking server does not know the final choice."""
        return self.root / "unlogged"

    @property
    def selection(self) -> Location:
        """File with the choice of every stage."""
        return self.root / "selection.json"

    @property
    def journal(self) -> Journal:
        """The events of the study."""
        return open_journal(self.root)

    def checkpoint(self, trial_id: str) -> Location:
        """Return the file with the last checkpoint of an unfinished trial."""
        return self.checkpoints / f"{trial_id}.pt"

    @property
    def checkpoints(self) -> Location:
        """Folder with the last checkpoints of unfinished trials."""
        return self.root / "checkpoints"

    def last_state(self, trial_id: str) -> Location:
        """Return the file with the state of a trial after its last epoch."""
        return self.last_states / f"{trial_id}.pt"

    @property
    def last_states(self) -> Location:
        """Folder with the last states of trials that others may go on from."""
        return self.root / "last_states"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from running the study until this one leaves the block or ends.

        Behind a URL there are no locks. There, `ObjectJournal` notices a second process.

        Side effects: creates the folder, and removes half-written files of killed processes.

        Raises
        ------
        StorageError
            If another process runs it.
        """
        if not isinstance(self.root, Path):
            yield
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as file:
            if not try_lock(file):
                raise StorageError(
                    f"study {self.name!r}",
                    "is being run by another process",
                    hint="wait for it to end, or stop it with Ctrl-C",
                )
            remove_remains(self.root)
            yield

    def save_study_file(self, raw: dict[str, Any]) -> None:
        """Write the search-space file as it is run. Side effects: writes ``study.yaml``."""
        text = dump_yaml(raw)
        write_bytes(self.study_file, text.encode())

    def read_study_file(self) -> dict[str, Any]:
        """Return what `save_study_file` kept.

        Raises
        ------
        StorageError
            If there is no such study.
        """
        try:
            text = read_bytes(self.study_file).decode()
            raw = parse_yaml(text, str(self.study_file))
        except (OSError, ValueError) as error:
            others = OutputFolder(self.root.parent).studies()
            raise StorageError(
                f"study {self.name!r}",
                f"no readable study.yaml in {self.root}",
                hint=f"there are {', '.join(others[:10])}" if others else None,
            ) from error
        if not isinstance(raw, dict):
            raise StorageError(
                str(self.study_file), f"must hold sections, got {type(raw).__name__}"
            )
        return raw

    def save_tracking(self, uri: str, experiment_id: str) -> None:
        """Write where the runs are logged, of a SQLite file relative to the output folder as well.

        Side effects: writes ``tracking.json``.
        """
        kept = {"uri": hide_passwords(uri), "experiment_id": experiment_id}
        database = find_database(uri)
        if database is not None and isinstance(self.root, Path):
            kept["database"] = os.path.relpath(database.resolve(), (self.root / "..").resolve())
        write_bytes(self.root / "tracking.json", json.dumps(kept).encode())

    def read_tracking(self) -> dict[str, str]:
        """Return the tracking URI and the experiment that `save_tracking` wrote.

        A SQLite file counts that lies relative to the output folder as it did then.

        Raises
        ------
        StorageError
            If nothing readable was written.
        """
        path = self.root / "tracking.json"
        try:
            kept = json.loads(read_bytes(path))
            tracking = {name: str(kept[name]) for name in ("uri", "experiment_id")}
            beside = (Path(str(self.root)) / ".." / kept.get("database", "")).resolve()
            return tracking | ({"uri": sqlite_uri(beside)} if beside.is_file() else {})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(f"study {self.name!r}", f"no readable {path}") from error

    def save_selection(self, selection: dict[str, Any]) -> None:
        """Write the choice of every stage. Side effects: writes ``selection.json``."""
        write_bytes(self.selection, json.dumps(selection, indent=2).encode())
