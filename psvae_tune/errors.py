"""Exceptions that this project raises on purpose.

::

    PsvaeTuneError
    ├── UserError                     exit code 2: the request cannot be carried out
    │   ├── ConfigError                   a search-space file or an option is wrong
    │   ├── DataError                     a recording cannot be used
    │   │   └── RecordingNotFoundError        the recording does not exist
    │   ├── StorageError                  a folder or a file of results cannot be used
    │   ├── TrackingError                 the tracking store or server cannot be used
    │   │   └── DeletedError                  a run or an experiment was deleted there
    │   └── ClusterError                  a Ray cluster, or a job on it, cannot be used
    └── StudyError                    exit code 1: a valid request failed on the way
        ├── StudyInterrupted              the study was interrupted, and can be resumed
        ├── DivergedError                 a term of the loss is no longer finite
        └── GpuMemoryError                a batch does not fit into the memory of a GPU
"""

import difflib
from collections.abc import Iterable, Sequence

from psvae_tune.redaction import hide_passwords

N_SHOWN = 10
"""Number of problems that an error spells out; it counts the others."""


class PsvaeTuneError(Exception):
    """A mistake or a failure that a user can act on.

    Parameters
    ----------
    where
        The file, option or object at fault.
    problems
        The problems found there, each with the offending value.
    hint
        The nearest fix, or None.
    """

    exit_code = 1

    def __init__(self, where: str, problems: str | Sequence[str], hint: str | None = None) -> None:
        self.where = where
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        self.hint = hint
        # The same arguments again: between processes, exceptions are rebuilt from `args`.
        super().__init__(where, self.problems, hint)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            text = f"{self.where}: {self.problems[0]}"
        else:
            shown = [*self.problems[:N_SHOWN]]
            if len(self.problems) > N_SHOWN:
                shown.append(f"and {len(self.problems) - N_SHOWN} more")
            lines = "".join(f"\n  {problem}" for problem in shown)
            text = f"{self.where}: {len(self.problems)} problems{lines}"
        text = text if self.hint is None else f"{text}\n\nhint: {self.hint}"
        return _printable(hide_passwords(text))


class UserError(PsvaeTuneError):
    """A request cannot be carried out; nothing was started."""

    exit_code = 2


class ConfigError(UserError):
    """A search-space file or an option is wrong."""


class DataError(UserError):
    """A recording cannot be used as it is."""


class RecordingNotFoundError(DataError):
    """A recording does not exist; ``where`` is its path."""


class StorageError(UserError):
    """A folder or a file of results cannot be read or written."""


class TrackingError(UserError):
    """The tracking store or server cannot be used."""


class DeletedError(TrackingError):
    """A run or an experiment that is needed was deleted from the tracking store."""


class ClusterError(UserError):
    """A Ray cluster cannot do what is asked, or does not know a job."""


class StudyError(PsvaeTuneError):
    """A valid request failed on the way."""


class StudyInterrupted(StudyError):
    """A study was interrupted, and can be resumed."""


class DivergedError(StudyError):
    """A term of the loss is no longer finite."""


class GpuMemoryError(StudyError):
    """A batch does not fit into the memory of a GPU."""


def _printable(text: str) -> str:
    """Escape characters that a terminal would take for a command or could not show."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that is most similar to ``name``, or None if none is similar."""
    matches = difflib.get_close_matches(name, sorted(candidates), n=1, cutoff=0.6)
    return matches[0] if matches else None
