"""Read a pose file of any known tracker, chosen by its suffix and its contents."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from psvae_tune.data.importers.poses import Poses
from psvae_tune.errors import DataError


def read_poses(path: Path, video: Path | None = None) -> Poses:
    """Read a pose file of any known kind.

    Parameters
    ----------
    path
        The pose file.
    video
        The video whose poses are wanted, where the file holds those of several.

    Raises
    ------
    DataError
        If it cannot be read, or its format is not known.
    """
    from psvae_tune.data.importers import nwb_poses, pose_hdf5, pose_tables

    read_hdf5 = partial(pose_hdf5.read_hdf5, video=video)
    readers: dict[str, Callable[[Path], Poses]] = {
        ".csv": partial(pose_tables.read_csv, video=video),
        ".npy": pose_tables.read_npy,
        ".h5": read_hdf5,
        ".hdf5": read_hdf5,
        ".slp": read_hdf5,
        ".nwb": partial(nwb_poses.read_nwb, video=video),
    }
    if path.suffix.lower() not in readers:
        known = ", ".join(readers)
        raise DataError(str(path), f"must be a pose file ({known}), got {path.suffix or 'none'!r}")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {(error.strerror or '').lower()}") from error
    return readers[path.suffix.lower()](path)
