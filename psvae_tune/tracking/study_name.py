"""A new study gets a name that no other study of its folder has."""

import shlex
from datetime import datetime

from psvae_tune.errors import StorageError
from psvae_tune.tracking.folders import OutputFolder


def name_study(experiment_name: str) -> str:
    """Return the name of a study that was given none: its experiment and the time."""
    return f"{experiment_name.strip().replace(' ', '-')}-{datetime.now():%Y%m%d-%H%M%S}"


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
