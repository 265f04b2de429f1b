"""Where results lie on disk, and how they are written: beside, then renamed.

::

    DIR/                          the output folder
      mlflow.db  artifacts/       the default tracking store
      STUDY/
        study.yaml                the search-space file as it was run, with absolute paths
        journal.jsonl             what is decided: how trials ended, what they had at each rung
        selection.json            the choice of every stage, with its reasons
        tracking.json             where its runs are
        lock                      held by the process that runs it
        checkpoints/TRIAL.pt      where an unfinished trial goes on
        unlogged                  is there if the tracking server does not know of the choice
        spool/TRIAL/              what the tracking server has not taken yet
        ray/                      what Ray Tune writes for itself
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from psvae_tune.errors import StorageError
from psvae_tune.study_file import parse_yaml

MIN_FREE_BYTES = 200 * 2**20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees a part of it under its name.

    Side effects: creates the folder of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """The folder of all studies and of the default tracking store."""

    root: Path

    @property
    def artifacts(self) -> Path:
        """Where the default tracking store keeps files."""
        return self.root / "artifacts"

    @property
    def database(self) -> Path:
        """The default tracking store."""
        return self.root / "mlflow.db"

    @property
    def default_tracking_uri(self) -> str:
        """The default tracking store, as MLflow names it."""
        # In a URI these two are no part of a path.
        return f"sqlite:///{self.database}".replace("%", "%25").replace("?", "%3F")

    def study(self, name: str) -> "StudyFolder":
        """Return the folder of a study, which need not exist.

        Raises
        ------
        StorageError
            If ``name`` could not be the name of a folder here.
        """
        if not NAME.fullmatch(name):
            raise StorageError(
                f"study {name!r:.130}",
                "must consist of up to 100 letters, digits, `_`, `.` and `-`",
            )
        return StudyFolder(self.root / name)

    def studies(self) -> list[str]:
        """Return the names of the studies here, the latest first."""
        files = sorted(
            self.root.glob("*/study.yaml"), key=lambda file: file.stat().st_mtime, reverse=True
        )
        return [file.parent.name for file in files]

    def prepare(self) -> None:
        """Make sure that results can be written here.

        Side effects: creates the folder.

        Raises
        ------
        StorageError
            If the folder cannot be written, or its disk is full.
        """
        try:
            self.artifacts.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".writable.{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StorageError(
                str(self.root),
                f"cannot be written: {error.strerror}",
                hint="choose another folder with --output",
            ) from error
        free = shutil.disk_usage(self.root).free
        if free < MIN_FREE_BYTES:
            raise StorageError(
                str(self.root),
                f"needs {MIN_FREE_BYTES // 2**20} MB of free disk, got {free // 2**20} MB",
                hint="choose another folder with --output",
            )


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """The folder of one study."""

    root: Path

    @property
    def name(self) -> str:
        """The name of the study."""
        return self.root.name

    @property
    def study_file(self) -> Path:
        """The search-space file as it was run."""
        return self.root / "study.yaml"

    @property
    def ray(self) -> Path:
        """What Ray Tune writes for itself."""
        return self.root / "ray"

    @property
    def spool(self) -> Path:
        """What the tracking server has not taken yet, a folder a trial."""
        return self.root / "spool"

    @property
    def unlogged(self) -> Path:
        """Is there if the study has ended, and the tracking server does not know of it."""
        return self.root / "unlogged"

    @property
    def selection(self) -> Path:
        """The choice of every stage."""
        return self.root / "selection.json"

    @property
    def journal(self) -> "Journal":
        """What has been decided."""
        return Journal(self.root / "journal.jsonl")

    def checkpoint(self, trial_id: str) -> Path:
        """Return where an unfinished trial goes on."""
        return self.root / "checkpoints" / f"{trial_id}.pt"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from running the study; the end of this one, however, frees it.

        Side effects: creates the folder.

        Raises
        ------
        StorageError
            If another process runs it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StorageError(
                    f"study {self.name!r}",
                    "is being run by another process",
                    hint="wait for it to end, or stop it with Ctrl-C",
                ) from error
            yield

    def save_study_file(self, raw: dict[str, Any]) -> None:
        """Keep the search-space file as it is run. Side effects: writes ``study.yaml``."""
        text = yaml.safe_dump(raw, sort_keys=False, allow_unicode=True)
        write_bytes(self.study_file, text.encode())

    def read_study_file(self) -> dict[str, Any]:
        """Return what `save_study_file` kept.

        Raises
        ------
        StorageError
            If there is no such study.
        """
        try:
            raw = parse_yaml(self.study_file.read_text(encoding="utf-8"), str(self.study_file))
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

    def save_tracking(self, target: dict[str, str]) -> None:
        """Keep where the runs are. Side effects: writes ``tracking.json``."""
        write_bytes(self.root / "tracking.json", json.dumps(target).encode())

    def read_tracking(self) -> dict[str, str]:
        """Return what `save_tracking` kept.

        Raises
        ------
        StorageError
            If nothing was kept.
        """
        path = self.root / "tracking.json"
        try:
            kept = json.loads(path.read_bytes())
            return {name: str(kept[name]) for name in ("uri", "experiment_id")}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(f"study {self.name!r}", f"no readable {path}") from error

    def save_selection(self, selection: dict[str, Any]) -> None:
        """Keep the choice of every stage. Side effects: writes ``selection.json``."""
        write_bytes(self.selection, json.dumps(selection, indent=2).encode())


@dataclass(frozen=True, slots=True)
class Journal:
    """Events of a study, one JSON object a line, appended and never changed."""

    path: Path

    def append(self, event: dict[str, Any]) -> None:
        """Add an event; when this returns it is on disk. Side effects: writes the file."""
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

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield every event that was written whole, in order."""
        if not self.path.exists():
            return
        for line in self.path.read_bytes().splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event
