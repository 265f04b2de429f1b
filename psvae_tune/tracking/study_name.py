"""A new study gets a name that no other study of its folder has."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from psvae_tune.errors import StorageError
from psvae_tune.tracking.folders import OutputFolder


def name_study(experiment_name: str) -> str:
    """Return the name of a study that was given none: its experiment and the time."""
    return f"{experiment_name.strip().replace(' ', '-')}-{datetime.now():%Y%m%d-%H%M%S}"


@contextmanager
def claim_name(output: OutputFolder, experiment_name: str) -> Iterator[str]:
    """Yield the name of a study that was given none, which no other process gets as well.

    It is that of `name_study`, with a number behind it if another study began in the same second.
    Behind a URL nothing can be claimed.

    Side effects: creates the folder of the study, and removes what was created and stayed empty.

    Raises
    ------
    StorageError
        If ``output`` cannot be written.
    """
    name = name_study(experiment_name)
    if not isinstance(output.root, Path):
        yield name
        return
    is_new = not output.root.exists()
    output.prepare()
    folder = next(folder for folder in _numbered(output.root / name) if _is_made(folder))
    try:
        yield folder.name
    finally:
        with suppress(OSError):  # it is not empty
            folder.rmdir()
            if is_new:
                output.root.rmdir()


def _numbered(folder: Path) -> Iterator[Path]:
    yield folder
    yield from (folder.with_name(f"{folder.name}-{number}") for number in count(2))


def _is_made(folder: Path) -> bool:
    """Return whether a folder could be made; it cannot if there is one. Side effects: makes it."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def check_name_is_free(output: OutputFolder, name: str, resume: str = "psvae-tune resume") -> None:
    """Refuse the name of a study that exists.

    Parameters
    ----------
    output
        Folder of all studies.
    name
        Name that a new study asks for.
    resume
        Command that resumes the existing study, for the hint of the error.

    Raises
    ------
    StorageError
        If the folder holds a study of this name, or cannot be reached.
    """
    if output.has_study(name):
        again = shlex.quote(str(output.root / name))
        raise StorageError(
            f"study {name!r}",
            f"exists in {output.root}",
            hint=f"{resume} {again}, or choose another --name",
        )
