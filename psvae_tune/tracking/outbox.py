"""Everything that a trial logs waits in the folder of its study until the tracking server has it.

A trial has a folder of numbered entries. Whatever it logs is written there as an entry first and
sent afterwards. Entries are written whole, they are sent in order, and each is removed once the
server has taken it. Sending one again changes nothing, because metrics are known by their epochs
and files by their names. So an entry counts once, whatever dies between two of these steps.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from psvae_tune.errors import StudyInterrupted, TrackingError
from psvae_tune.files import Location, copy_folder, folder_of, write_bytes
from psvae_tune.tracking import trial_run
from psvae_tune.tracking.client import RunStatus, TrackingTarget, reason_of
from psvae_tune.tracking.folders import StudyFolder, remove_folder
from psvae_tune.tracking.reachability import check_answers
from psvae_tune.tracking.trial_run import EpochMetrics, TrialRun, TrialRunSpec

logger = logging.getLogger(__name__)

RETRY_S = 5.0
"""Seconds between two attempts to reach a server that is away. Each attempt delays an epoch."""
PATIENCE_S = 180.0
"""Seconds that a study waits for a server without which it cannot go on."""


@dataclass(slots=True)
class Outbox:
    """The run of one trial, seen through the entries that wait for the tracking server.

    A server that is away costs whoever logs here next to nothing.
    """

    root: Location
    trial_id: str
    target: TrackingTarget
    _waiting: dict[Location, dict[str, Any]] = field(default_factory=dict, repr=False)
    """Entries by their files, the oldest first."""
    _run: TrialRun | None = field(default=None, repr=False)
    _next_try_s: float = 0.0

    @classmethod
    def of(cls, folder: StudyFolder, target: TrackingTarget, trial_id: str) -> Self:
        """Return the outbox of a trial, with the entries that wait there."""
        outbox = cls(folder.outboxes / trial_id, trial_id, target)
        outbox._waiting = {path: json.loads(path.read_bytes()) for path in outbox._list_entries()}
        return outbox

    def _list_entries(self) -> list[Location]:
        return sorted(self.root.glob("*.json"), key=lambda path: path.name)

    @property
    def _spec_file(self) -> Location:
        return self.root / "opening"

    def open(self, spec: TrialRunSpec) -> None:
        """Go on with the run of the trial, or create it; see `TrialRun.open`.

        Side effects: sends the entries of before. The run is RUNNING if the server is there.
        """
        write_bytes(self._spec_file, json.dumps(asdict(spec)).encode())
        self._log("open")

    def log(self, epochs: Sequence[EpochMetrics]) -> None:
        """Log the metrics of epochs, each once, in one request."""
        if epochs:
            self._log("metrics", epochs=[_write_epoch(epoch) for epoch in epochs])

    def log_final(self, epoch: EpochMetrics) -> None:
        """Log numbers that a trial has once, unless they are there, at the step of an epoch."""
        self._log("final", **_write_epoch(epoch))

    def log_text(self, text: str, name: str) -> None:
        """Keep a text as an artifact of the run."""
        with folder_of(name, text) as folder:
            self.log_folder(folder)

    def log_folder(self, folder: Path) -> None:
        """Keep every file of a folder, under its path there, as an artifact of the run."""
        self._log("files", folder)

    def _log(self, kind: str, files: Path | None = None, **content: Any) -> None:
        """Add an entry, and send it unless the server was away a moment ago."""
        self._add(kind, files, **content)
        if time.monotonic() >= self._next_try_s and not self._send():
            self._next_try_s = time.monotonic() + RETRY_S

    def add_close(self, status: RunStatus, reason: str) -> None:
        """Keep that the trial has ended. Side effects: writes an entry, and sends none."""
        self._add("close", status=status, reason=reason)

    def close(self, status: RunStatus, reason: str) -> None:
        """End the run with the reason why the trial ended."""
        self.add_close(status, reason)
        self.deliver()

    def log_late(self, metrics: Mapping[str, float]) -> None:
        """Log numbers that are known after the trial has ended."""
        self._add("late", metrics=dict(metrics))
        self.deliver()

    def deliver(self) -> bool:
        """Send the entries of a trial that nobody trains now; return whether none is left.

        Side effects: changes the run, and removes the outbox once it is empty.
        """
        if not self._send():
            return False
        remove_folder(self.root)
        return True

    def _add(self, kind: str, files: Path | None = None, **content: Any) -> None:
        """Write an entry, and copy the files of a folder that belong to it."""
        # Whoever closes a trial, which its worker may not have noticed, adds an entry as well.
        last = max((int(path.stem) for path in self._list_entries()), default=0)
        path, entry = self.root / f"{last + 1:08d}.json", {"kind": kind, **content}
        if files is not None:
            # An entry exists once its own file does. Files that a crash left alone do not count.
            copy_folder(files, path.with_suffix(""))
        write_bytes(path, json.dumps(entry).encode())
        self._waiting[path] = entry

    def _send(self) -> bool:
        """Send entries until the server refuses one; return whether none is left."""
        for path, entry in [*self._waiting.items()]:
            files = path.with_suffix("")
            try:
                self._send_entry(entry, files)
            except Exception as error:  # whatever it is, a fit must not end because of it
                self._run, why = None, reason_of(error)
                logger.warning("trial %s waits for the tracking server: %s", self.trial_id, why)
                return False
            path.unlink(missing_ok=True)
            if entry["kind"] == "files":
                remove_folder(files)
            del self._waiting[path]
        return True

    def _send_entry(self, entry: Mapping[str, Any], files: Location) -> None:
        """Send an entry, or as much of it as the run lacks."""
        kind = entry["kind"]
        if kind == "close":
            trial_run.close_trial(self.target, self.trial_id, entry["status"], entry["reason"])
            self._run = None  # an entry that follows opens it again
            return
        if kind == "late":
            trial_run.log_metrics(self.target, self.trial_id, entry["metrics"])
            return
        if self._run is None:
            spec = TrialRunSpec(**json.loads(self._spec_file.read_bytes()))
            self._run = TrialRun.open(self.target, spec)
        if kind == "metrics":
            self._run.log(_read_epochs(entry))
        elif kind == "final":
            self._run.log_final(_read_epoch(entry))
        elif kind == "files":
            _send_files(self._run, files)

    def history(self) -> dict[str, list[tuple[int, float]]]:
        """Return the (epoch, value) pairs of every metric of epochs, sent or waiting."""
        sent: dict[str, list[tuple[int, float]]] = {}
        try:
            sent = {} if self._run is None else self._run.history()
        except Exception as error:  # stores raise what their database or HTTP library raises
            logger.warning("the tracking server does not answer: %s", reason_of(error))
        values = {key: dict(points) for key, points in sent.items()}
        entries = [entry for entry in self._waiting.values() if entry["kind"] == "metrics"]
        for epoch in (epoch for entry in entries for epoch in _read_epochs(entry)):
            for key, value in epoch.metrics.items():
                if key.startswith(("train/", "val/")):
                    values.setdefault(key, {})[epoch.number] = value
        return {key: sorted(points.items()) for key, points in values.items()}

    def fetch_file(self, name: str, to: Path) -> Path:
        """Copy a file of the trial, sent or waiting, into its own part of a folder.

        Side effects: writes the copy; waits up to `PATIENCE_S` for a server that is away.

        Returns
        -------
        Path
            The copy.

        Raises
        ------
        StudyInterrupted
            If the server stays away.
        """
        waiting = (path.with_suffix("") / name for path in reversed(self._waiting))
        if (found := next((path for path in waiting if path.exists()), None)) is not None:
            copy = to / self.trial_id / name
            write_bytes(copy, found.read_bytes())
            return copy
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return trial_run.fetch_file(self.target, self.trial_id, name, to)
            except Exception as error:  # stores raise what their database or HTTP library raises
                if _answers(self.target):
                    raise
                if time.monotonic() > deadline:
                    study = self.root.parent.parent
                    raise StudyInterrupted(
                        f"study {study.name}",
                        f"needs {name} of its trials, and the tracking server does not answer",
                        hint=f"psvae-tune resume {study}",
                    ) from error
                time.sleep(RETRY_S)


def deliver_all(folder: StudyFolder, target: TrackingTarget) -> int:
    """Send the entries of all trials; return how many trials still have entries.

    Side effects: changes the runs, and removes the outboxes that are empty.
    """
    trial_ids = [path.name for path in folder.outboxes.glob("*")]
    return sum(not Outbox.of(folder, target, trial_id).deliver() for trial_id in trial_ids)


def _send_files(run: TrialRun, files: Location) -> None:
    if isinstance(files, Path):
        run.log_folder(files)
        return
    with TemporaryDirectory() as folder:
        copy_folder(files, Path(folder))
        run.log_folder(Path(folder))


def _write_epoch(epoch: EpochMetrics) -> dict[str, Any]:
    return {"metrics": dict(epoch.metrics), "epoch": epoch.number, "time": epoch.time_ms}


def _read_epoch(item: Mapping[str, Any]) -> EpochMetrics:
    return EpochMetrics(item["epoch"], item["metrics"], item["time"])


def _read_epochs(entry: Mapping[str, Any]) -> list[EpochMetrics]:
    """Return the epochs of an entry. In entries of earlier versions the epoch is the entry."""
    return [_read_epoch(item) for item in entry.get("epochs", [entry])]


def _answers(target: TrackingTarget) -> bool:
    try:
        check_answers(target)
    except TrackingError:
        return False
    return True
