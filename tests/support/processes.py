"""Processes below a driver."""

from pathlib import Path


def workers(driver: int, doing: str = "") -> set[int]:
    """Return the processes below a driver that train trials, or that do one thing of it."""
    parents, titles = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text().rpartition(")")[2].split()
                titles[int(folder.name)] = (folder / "cmdline").read_text()
            except OSError:
                continue
            parents[int(folder.name)] = int(status[1])
    below = {driver}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return {pid for pid in below if titles.get(pid, "").startswith(f"ray::ImplicitFunc{doing}")}
