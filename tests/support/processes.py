"""Processes, and those below them."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return a process and all below it, the deepest last."""
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.exists():
        return []
    children = [
        int(child) for task in tasks.iterdir() for child in _read(task / "children").split()
    ]
    return [pid, *(found for child in children for found in descendants(child))]


def command_line(pid: int) -> str:
    """Return the command line of a process, or the title that it has given itself."""
    return _read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ")


def cpu_seconds(pid: int) -> float:
    """Return the seconds of CPU that a process has used; 0 if it has ended."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def workers(driver: int, doing: str = "") -> set[int]:
    """Return the processes below a driver that train trials, or that do one thing of it."""
    title = f"ray::ImplicitFunc{doing}"
    return {pid for pid in descendants(driver) if command_line(pid).startswith(title)}


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to processes; some may have ended since they were listed."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _read(file: Path) -> str:
    """Return the contents of a file of a process; nothing if the process has ended."""
    try:
        return file.read_text()
    except OSError:
        return ""
