"""What a tracking server has not taken yet, kept in the folder of the study until it has.

A trial has a folder of numbered entries. Each is written whole, they are sent in order, and each
is removed when it has been taken. Sending one again changes nothing: metrics are known by their
epochs, files by their names. So an entry counts once, whatever dies between two of these steps.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
"""From one attempt to reach a server that is away to the next: each costs an epoch some time."""
PATIENCE_S = 180.0
"""For a server without which a study cannot go on."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """What waits of one trial."""

    root: Location
    trial_id: str

    @classmethod
    def of(cls, folder: StudyFolder, trial_id: str) -> Self:
        """Return the spool of a trial, which need not exist."""
        return cls(folder.spool / trial_id, trial_id)

    @property
    def _opening(self) -> Location:
        return self.root / "opening"

    def _read_opening(self) -> TrialRunSpec:
        return TrialRunSpec(**json.loads(self._opening.read_bytes()))

    def entries(self) -> list[Location]:
        """Return what waits, the oldest first."""
        return sorted(self.root.glob("*.json"), key=lambda path: path.name)

    def add(
        self,
        entry: Mapping[str, Any],
        opening: TrialRunSpec | None = None,
        files: Path | None = None,
    ) -> None:
        """Keep an entry.

        Parameters
        ----------
        entry
            What `_apply` knows.
        opening
            What makes the run of the trial, where it may not exist yet.
        files
            A folder that belongs to the entry; it is copied.

        Side effects: writes to the spool.
        """
        if opening is not None and not self._opening.exists():
            write_bytes(self._opening, json.dumps(asdict(opening)).encode())
        last = max((int(path.stem) for path in self.entries()), default=0)
        path = self.root / f"{last + 1:08d}.json"
        if files is not None:
            # The entry is there once its own file is; what a crash left of others does not count.
            copy_folder(files, path.with_suffix(""))
        write_bytes(path, json.dumps(entry).encode())

    def add_close(self, status: RunStatus, reason: str) -> None:
        """Keep that the trial has ended. Side effects: writes to the spool."""
        self.add({"kind": "close", "status": status, "reason": reason})

    def metrics(self) -> Iterator[dict[str, Any]]:
        """Yield the entries that hold the metrics of an epoch."""
        for path in self.entries():
            entry = json.loads(path.read_bytes())
            if entry["kind"] == "metrics":
                yield entry

    def find_file(self, name: str) -> Location | None:
        """Return a file that waits, or None."""
        found = [path.with_suffix("") / name for path in self.entries()]
        return next((path for path in reversed(found) if path.exists()), None)

    def deliver(self, target: TrackingTarget) -> bool:
        """Send what waits; return whether nothing is left. Side effects: removes what was sent."""
        run = None
        for path in self.entries():
            entry = json.loads(path.read_bytes())
            try:
                if entry["kind"] == "close":
                    trial_run.close_trial(target, self.trial_id, entry["status"], entry["reason"])
                    run = None  # what follows opens it again
                elif entry["kind"] == "late":
                    trial_run.log_metrics(target, self.trial_id, entry["metrics"])
                else:
                    run = run or TrialRun.open(target, self._read_opening())
                    _apply(run, entry, path.with_suffix(""))
            except Exception as error:  # whatever it is, a fit must not end because of it
                why = reason_of(error)
                logger.warning("trial %s waits for the tracking server: %s", self.trial_id, why)
                return False
            path.unlink()
            remove_folder(path.with_suffix(""))
        remove_folder(self.root)
        return True


def _apply(run: TrialRun, entry: Mapping[str, Any], files: Location) -> None:
    """Send one entry, or what the run does not have of it. Side effects: changes the run."""
    if entry["kind"] == "metrics":
        run.log([_read_epoch(entry)])
    elif entry["kind"] == "final":
        run.log_final(_read_epoch(entry))
    elif isinstance(files, Path):
        run.log_folder(files)
    else:
        with TemporaryDirectory() as folder:
            copy_folder(files, Path(folder))
            run.log_folder(Path(folder))


@dataclass(slots=True)
class BufferedTrialRun:
    """The run of one trial, as its worker sees it: a server that is away costs nothing."""

    target: TrackingTarget
    spool: Outbox
    opening: TrialRunSpec
    last_step: int
    """Epochs up to this one are logged, or wait."""
    _run: TrialRun | None = field(default=None, repr=False)
    _next_try: float = 0.0

    @classmethod
    def open(cls, folder: StudyFolder, target: TrackingTarget, opening: TrialRunSpec) -> Self:
        """Go on with the run of a trial, or create it; see `TrialRun.open`.

        Side effects: sends what waits from before. The run is RUNNING if the server is there.
        """
        spool = Outbox.of(folder, opening.trial_id)
        last_step = max((entry["epoch"] for entry in spool.metrics()), default=0)
        run = cls(target, spool, opening, last_step)
        if run.spool.deliver(target):
            run._reach()
        return run

    def _reach(self) -> TrialRun | None:
        """Return the run on the server, or None where that is away."""
        if self._run is None and time.monotonic() >= self._next_try:
            try:
                self._run = TrialRun.open(self.target, self.opening)
                self.last_step = max(self.last_step, self._run.last_step)
            except Exception as error:  # stores raise what their database or HTTP library raises
                self._note_away(error)
        return self._run

    def _note_away(self, error: Exception) -> None:
        why = reason_of(error)
        logger.warning("the tracking server does not answer: %s", why)
        self._run, self._next_try = None, time.monotonic() + RETRY_S

    def _send(self, send: Callable[[TrialRun], None]) -> bool:
        """Send something after all that waits; return whether it was taken."""
        if not self.spool.entries() and (run := self._reach()) is not None:
            try:
                send(run)
                return True
            except Exception as error:  # as above
                self._note_away(error)
        return False

    def _keep(self, *entries: Mapping[str, Any], files: Path | None = None) -> None:
        """Let entries wait with the others. Side effects: writes to the spool."""
        for entry in entries:
            self.spool.add(entry, self.opening, files)
        self.deliver()

    def deliver(self) -> bool:
        """Send what waits, but for a while after a failure; return whether nothing is left."""
        if self.spool.entries() and time.monotonic() >= self._next_try:
            self._run, self._next_try = None, time.monotonic() + RETRY_S
            if self.spool.deliver(self.target):
                self._next_try = 0.0
        return not self.spool.entries()

    def log(self, epochs: Sequence[EpochMetrics]) -> None:
        """Log the metrics of epochs, each once."""
        new = [epoch for epoch in epochs if epoch.number > self.last_step]
        if new:
            self.last_step = new[-1].number
            if not self._send(lambda run: run.log(new)):
                self._keep(*({"kind": "metrics", **_write_epoch(epoch)} for epoch in new))

    def log_final(self, epoch: EpochMetrics) -> None:
        """Log numbers that a trial has once, unless they are there, at the step of an epoch."""
        if not self._send(lambda run: run.log_final(epoch)):
            self._keep({"kind": "final", **_write_epoch(epoch)})

    def log_text(self, text: str, name: str) -> None:
        """Keep a text as an artifact of the run."""
        with folder_of(name, text) as folder:
            self.log_folder(folder)

    def log_folder(self, folder: Path) -> None:
        """Keep every file of a folder, under its path there, as an artifact of the run."""
        if not self._send(lambda run: run.log_folder(folder)):
            self._keep({"kind": "files"}, files=folder)

    def history(self) -> dict[str, list[tuple[int, float]]]:
        """Return the (epoch, value) pairs of every metric that was logged more than once."""
        found: dict[str, list[tuple[int, float]]] = {}
        try:
            if (run := self._reach()) is not None:
                found = run.history()
        except Exception as error:  # as above
            self._note_away(error)
        for entry in self.spool.metrics():
            for key, value in entry["metrics"].items():
                if key.startswith(("train/", "val/")):
                    found.setdefault(key, []).append((entry["epoch"], value))
        return {key: points for key, points in found.items() if len(points) > 1}


def _write_epoch(epoch: EpochMetrics) -> dict[str, Any]:
    return {"metrics": dict(epoch.metrics), "epoch": epoch.number, "time": epoch.time_ms}


def _read_epoch(entry: Mapping[str, Any]) -> EpochMetrics:
    return EpochMetrics(entry["epoch"], entry["metrics"], entry["time"])


def close_trial(
    folder: StudyFolder, target: TrackingTarget, trial_id: str, status: RunStatus, reason: str
) -> None:
    """End the run of a trial with its reason. Side effects: changes the run, or lets it wait."""
    spool = Outbox.of(folder, trial_id)
    spool.add_close(status, reason)
    spool.deliver(target)


def log_metrics(
    folder: StudyFolder, target: TrackingTarget, trial_id: str, metrics: Mapping[str, float]
) -> None:
    """Log numbers known after a trial. Side effects: changes its run, or lets them wait."""
    spool = Outbox.of(folder, trial_id)
    spool.add({"kind": "late", "metrics": dict(metrics)})
    spool.deliver(target)


def fetch_file(
    folder: StudyFolder, target: TrackingTarget, trial_id: str, name: str, to: Path
) -> Path:
    """Return an artifact of a trial, taken there or still waiting.

    Side effects: copies it; waits a while for a server that is away.

    Raises
    ------
    StudyInterrupted
        If the server stays away.
    """
    waiting = Outbox.of(folder, trial_id).find_file(name)
    deadline = time.monotonic() + PATIENCE_S
    while waiting is None:
        try:
            return trial_run.fetch_file(target, trial_id, name, to)
        except Exception as error:  # stores raise what their database or HTTP library raises
            if _answers(target):
                raise
            if time.monotonic() > deadline:
                raise StudyInterrupted(
                    f"study {folder.name}",
                    f"needs {name} of its trials, and the tracking server does not answer",
                    hint=f"psvae-tune resume {folder.root}",
                ) from error
            time.sleep(RETRY_S)
    copy = to / trial_id / name
    write_bytes(copy, waiting.read_bytes())
    return copy


def _answers(target: TrackingTarget) -> bool:
    try:
        check_answers(target)
    except TrackingError:
        return False
    return True


def deliver_all(folder: StudyFolder, target: TrackingTarget) -> int:
    """Send what waits of every trial; return how many trials still have something.

    Side effects: changes the runs, and removes what was sent.
    """
    spools = [Outbox(path, path.name) for path in folder.spool.glob("*")]
    return sum(not spool.deliver(target) for spool in spools)
