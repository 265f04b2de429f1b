"""Messages in the log of a job: the line for the machine that submitted it, and the errors.

A job prints one line for that machine, a `JobReport`, which says whether the study can run.
Everything else in its log is for people. Python 3.10 must be able to read this file: `__main__`
imports it to refuse such a Python.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

SUBMITTER_PYTHON = "PSVAE_TUNE_PYTHON"
"""Environment variable of every job: the version of Python on the machine that submitted it."""
MARK = "psvae-tune job report: "
"""Beginning of the line for the machine that submitted the job."""


@dataclass(frozen=True, slots=True)
class JobReport:
    """Answer of a job to the question whether the study can run."""

    is_ready: bool
    text: str
    """Description of the nodes, or the error that stands in the way."""
    missing: str | None = None
    """Recording that does not exist on the cluster."""


def report_ready(nodes: str) -> None:
    """Tell the machine that submitted this job that every node has been checked and is fit.

    Side effects: prints a line if this process is a job.
    """
    _write(JobReport(True, nodes))


def report_refusal(error: str, missing: str | None = None) -> None:
    """Tell the machine that submitted this job why the study does not run.

    Side effects: prints a line if this process is a job.
    """
    _write(JobReport(False, error, missing))


def _write(report: JobReport) -> None:
    if SUBMITTER_PYTHON in os.environ:
        sys.stdout.write(f"{MARK}{json.dumps(asdict(report))}\n")
        sys.stdout.flush()


def read_report(log: str) -> JobReport | None:
    """Return the first report in a log; None if it holds no whole one."""
    for line in log.splitlines(keepends=True):
        if line.startswith(MARK) and line.endswith("\n"):
            return JobReport(**json.loads(line.removeprefix(MARK)))
    return None


def without_reports(chunks: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a log that are for people.

    Parameters
    ----------
    chunks
        The log in pieces, which may end inside a line.
    """
    rest = ""
    for chunk in chunks:
        *lines, rest = f"{rest}{chunk}".split("\n")
        yield from (f"{line}\n" for line in lines if not line.startswith(MARK))
    if rest:
        yield rest


def first_line(message: str) -> str:
    """Return the message of a cluster about a job, without the log that it adds to a failure.

    If packages could not be installed, the errors of pip are kept.
    """
    first = message.strip().partition("\n")[0].partition(", last available logs")[0]
    return "; ".join([first, *re.findall(r"ERROR: .*", message)])


def last_lines(log: str, n_lines: int = 15) -> Sequence[str]:
    """Return the end of a log."""
    return log.rstrip().splitlines()[-n_lines:]
