"""What a job prints, and how its outcome is read from that."""

import re
from collections.abc import Sequence


def first_line(message: str) -> str:
    """Return what a cluster says of a job, without the log that goes with a failure.

    Of packages that cannot be installed it keeps what pip says of them.
    """
    first = message.strip().partition("\n")[0].partition(", last available logs")[0]
    return "; ".join([first, *re.findall(r"ERROR: .*", message)])


def last_error(log: str) -> str | None:
    """Return the error that a job ended with, as its log tells it."""
    _, found, text = log.rpartition("\nerror: ")
    return text.strip() if found else None


def last_lines(log: str, n_lines: int = 15) -> Sequence[str]:
    """Return the end of a log."""
    return log.rstrip().splitlines()[-n_lines:]
