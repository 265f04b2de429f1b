"""Faults at the edge of a process: where it asks its operating system to change a file or to send.

Every such call below a folder is an event, and so is every statement for a database. At the event
with a given number, a fault is done to the process.
"""

import errno
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy

from tests.support import simulated_ray

REMOVALS = {"os.remove", "os.rmdir"}
CHANGES = {"os.rename", "os.mkdir", "os.link", "os.truncate", *REMOVALS}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_REAL = {name: getattr(time, name) for name in ("time", "time_ns", "monotonic", "sleep")}
_fsync = os.fsync


@dataclass(frozen=True)
class Fault:
    """A fault that is done to one process at one of its events."""

    start: int
    """Number of the start of the study, from 0."""
    process: str
    """``driver``, ``server``, or ``worker 1`` for the first worker of the start."""
    event: int
    """Number of the event of that process, from 1."""
    kind: str
    amount: float = 0.0
    """Bytes of a file that are written before a kill; days that a clock is put forward."""


class Edge:
    """The edge of this process, and the faults that wait there."""

    def __init__(self, root: Path, note: Callable[[Fault], None]) -> None:
        """Watch the files below ``root``; ``note`` is told of each fault that is done."""
        self.root, self.note = str(root), note
        self.faults: dict[int, list[Fault]] = {}
        self.n_events = 0
        self.refusal: int | None = None
        """Number of the error with which the disk refuses everything."""
        self.shift_s = 0.0
        self.slept_s = 0.0
        self._is_busy = False
        sys.addaudithook(self._hear)
        os.fsync = self._sync  # type: ignore[assignment]
        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", self._execute)
        sqlalchemy.event.listen(sqlalchemy.Engine, "commit", lambda _: self._count())
        time.time = lambda: _REAL["time"]() + self.shift_s + self.slept_s
        time.time_ns = lambda: _REAL["time_ns"]() + int(1e9 * (self.shift_s + self.slept_s))
        time.monotonic = lambda: _REAL["monotonic"]() + self.slept_s
        time.sleep = self._sleep

    def begin(self, faults: list[Fault]) -> None:
        """Count events anew, in this process."""
        self.n_events, self.refusal, self.shift_s = 0, None, 0.0
        self.faults = {}
        for fault in faults:
            self.faults.setdefault(fault.event, []).append(fault)

    def _sleep(self, seconds: float) -> None:
        """Let time pass without waiting for it."""
        self.slept_s += seconds
        _REAL["sleep"](min(seconds, 0.001))

    def _sync(self, file: Any) -> None:
        self._count()
        self._refuse("file")
        _fsync(file)

    def _execute(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("SELECT", "PRAGMA")):
            self._count()

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "http.client.send":
            self._count()
        elif event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITES and self._is_below(path):
                self._count()
                self._refuse(path)
        elif event in CHANGES and self._is_below(arguments[0]):
            self._count()
            if event not in REMOVALS or self.refusal != errno.ENOSPC:
                self._refuse(arguments[0])

    def _is_below(self, path: Any) -> bool:
        try:
            return os.fsdecode(path).startswith(self.root)
        except TypeError:  # an open file
            return False

    def _refuse(self, path: Any) -> None:
        if self.refusal is not None:
            raise OSError(self.refusal, os.strerror(self.refusal), path)

    def _count(self) -> None:
        if self._is_busy:
            return
        self.n_events += 1
        for fault in self.faults.pop(self.n_events, ()):
            self._is_busy = True
            self.note(fault)
            self._is_busy = False
            FAULTS[fault.kind](self, fault)


def _kill(edge: Edge, fault: Fault) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_amid_write(edge: Edge, fault: Fault) -> None:
    """Let the system end the process in the first write that goes beyond some bytes of a file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(fault.amount), resource.RLIM_INFINITY))


def _lose_node(edge: Edge, fault: Fault) -> None:
    simulated_ray.kill_workers()


def _hang(edge: Edge, fault: Fault) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _tell_to_stop(edge: Edge, fault: Fault) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _refuse_with(number: int) -> Callable[[Edge, Fault], None]:
    def refuse(edge: Edge, fault: Fault) -> None:
        edge.refusal = number

    return refuse


def _shift(edge: Edge, fault: Fault) -> None:
    edge.shift_s += 86400 * fault.amount


FAULTS: dict[str, Callable[[Edge, Fault], None]] = {
    "kill": _kill,
    "node lost": _lose_node,
    "kill amid a write": _kill_amid_write,
    "hang": _hang,
    "SIGTERM": _tell_to_stop,
    "disk full": _refuse_with(errno.ENOSPC),
    "disk read-only": _refuse_with(errno.EROFS),
    "disk broken": _refuse_with(errno.EIO),
    "clock": _shift,
}
