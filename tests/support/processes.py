"""Processes below a driver."""

from pathlib import Path


def descendants(driver: int) -> dict[int, tuple[str, int]]:
    """Return the command line and the clock ticks of CPU of a process and of all below it."""
    parents, found = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text().rpartition(")")[2].split()
                title = (folder / "cmdline").read_text()
            except OSError:
                continue
            pid = int(folder.name)
            parents[pid] = int(status[1])
            found[pid] = title, int(status[11]) + int(status[12])
    below = {driver}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return {pid: found[pid] for pid in below & found.keys()}


def workers(driver: int, doing: str = "") -> set[int]:
    """Return the processes below a driver that train trials, or that do one thing of it."""
    title = f"ray::ImplicitFunc{doing}"
    return {pid for pid, (name, _) in descendants(driver).items() if name.startswith(title)}
