"""Measure the memory that is left to this process, and refuse what does not fit into it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from psvae_tune.errors import DataError

RECORDINGS_SHARE = 1 / 3
"""Share of the free memory that recordings may take.

Ray holds a second copy of every recording, and trials need memory as well.
"""


def check_memory(n_bytes: int, path: str | os.PathLike[str]) -> None:
    """Make sure that a number of bytes fits into the memory that is left.

    Raises
    ------
    DataError
        If it does not; ``path`` is named as the file that needs the memory.
    """
    left = free_memory()
    if n_bytes > left:
        problem = f"needs {n_bytes / 1e9:.1f} GB of memory, got a machine with {left / 1e9:.1f}"
        hint = "store smaller frames, or split the recording"
        raise DataError(os.fspath(path), problem, hint)


def room_for_recordings() -> int:
    """Return the number of bytes of recordings that may be held in memory."""
    return int(RECORDINGS_SHARE * free_memory())


def free_memory() -> int:
    """Return the bytes that this process can still take, under limits of all kinds."""
    left = [_left_on_machine(), *_left_to_process(), *left_in_groups()]
    return max(0, min(left))


def _left_on_machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:  # other systems do not tell what is free, so all that the machine has counts
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_to_process() -> Iterator[int]:
    """Yield the bytes that each limit of `ulimit` leaves; some batch systems set one."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return
    import resource  # Windows has none

    taken = {words[0]: words[1] for line in lines if len(words := line.split()) == 3}
    for kind, name in ((resource.RLIMIT_AS, "VmSize:"), (resource.RLIMIT_DATA, "VmData:")):
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY:
            yield limit - int(taken[name]) * 1024


def peak_memory() -> int:
    """Return the most bytes of memory that this process has held at a time."""
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def left_in_groups(
    membership: Path = Path("/proc/self/cgroup"), tree: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """Yield the bytes that each control group around this process leaves, as in a container.

    Parameters
    ----------
    membership
        File that names the groups of this process.
    tree
        Folder that describes all groups.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, name = line.split(":", 2)
        if not kinds:
            root, words = tree, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            root = tree / "memory"
            words = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = root / name.lstrip("/")
        # A group in a container is named as it is outside, where only its ancestors are found.
        for group in (folder, *folder.parents):
            if group.is_relative_to(root):
                yield from _left_in_group(group, *words)


def _left_in_group(group: Path, limit_name: str, usage_name: str, idle: str) -> Iterator[int]:
    try:
        limit = (group / limit_name).read_text().strip()
        usage = int((group / usage_name).read_text())
        statistics = dict(map(str.split, (group / "memory.stat").read_text().splitlines()))
    except OSError:
        return
    if limit != "max":
        # Cached file contents that are not in use are given back as soon as memory is needed.
        yield int(limit) - usage + int(statistics.get(idle, 0))
