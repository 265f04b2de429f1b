"""Write latents and predicted labels into an NWB file; `nwb_series` says what it gets.

A file that exists is copied, changed and put in its place, so that it is never half written.
"""

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.frame_rows import FrameRows
from psvae_tune.data.untrusted_hdf5 import open_hdf5
from psvae_tune.errors import DataError, PsvaeTuneError, StorageError
from psvae_tune.files import replace_when_whole
from psvae_tune.results.nwb_series import (
    FRAME_INDEX,
    LABELS,
    LATENTS,
    MODULE,
    POSE,
    SKELETON,
    add_series,
)
from psvae_tune.results.predictions import Predictions

logger = logging.getLogger(__name__)

# What a new file must say and no video tells: DANDI and `nwbinspector` refuse files without it.
UNKNOWN_START = datetime(1970, 1, 1, tzinfo=UTC)
UNKNOWN_SUBJECT = {
    "subject_id": "unknown",
    "sex": "U",
    "age": "P0D/",  # of 0 days or older
    "species": "http://purl.obolibrary.org/obo/NCBITaxon_33208",  # animals
    "description": "not known to psvae_tune",
}


def write_nwb(predictions: Predictions, path: Path, *, replaces: bool = False) -> None:
    """Write predictions into an NWB file, beside what is there; a file that is absent is made.

    Times are seconds since the start of the session, and taken to be those of the video. Equal
    steps in time become a rate, as the format asks for.

    Parameters
    ----------
    predictions
        Predictions of the session that the file is of.
    path
        The file.
    replaces
        Whether predictions that are there may be replaced.

    Raises
    ------
    StorageError
        If pynwb is missing, the file is no NWB 2 file, is read-only or cannot be written, or it
        holds predictions already.
    DataError
        If the times of the frames are not known, or do not ascend.
    """
    path = path.resolve()
    times = require_times(predictions.rows, path)
    found = check_target(path, replaces)
    with _nwb_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _nwb_errors(path), replace_when_whole(path) as unfinished:
        if path.exists():
            shutil.copy2(path, unfinished)
            with h5py.File(unfinished, "r+") as file:
                for name in found:
                    del file[f"processing/{MODULE}/{name}"]
            _append(predictions, times, unfinished)
        else:
            _create(predictions, times, unfinished)
            logger.warning(
                "%s: the session's start and animal are not known: correct session_start_time, "
                "which is %s, and subject",
                *(path, UNKNOWN_START.isoformat()),
            )


def check_target(path: Path, replaces: bool) -> list[str]:
    """Return the names of the predictions that an NWB file holds, which are to be replaced.

    Raises
    ------
    StorageError, DataError
        If predictions cannot be written there; see `write_nwb`.
    """
    _require_pynwb()
    if not path.exists():
        above = next(folder for folder in path.resolve().parents if folder.exists())
        if not above.is_dir():
            raise StorageError(str(path), f"cannot be written: {above} is no folder")
        return []
    with _nwb_errors(path):
        found = _find_earlier(path)
    if found and not replaces:
        hint = "replace them with --overwrite (`replaces=True` in Python), or choose another file"
        raise StorageError(str(path), f"holds {', '.join(found)} already", hint)
    return found


def require_times(rows: FrameRows, path: Path) -> NDArray[np.float64]:
    """Return the times of frames, (frame,) in seconds, as an NWB file needs them.

    Raises
    ------
    DataError
        If they are not known, or do not ascend.
    """
    times, session = rows.time_s, rows.session
    if times is None:
        hint = "import the recording from its video with `psvae-tune data import`"
        raise DataError(session, f"holds no times of its frames, which {path.name} needs", hint)
    if (down := np.flatnonzero(np.diff(times) <= 0)).size:
        problem = f"must have clips in the order of time for {path.name}"
        got = f"{times[down[0] + 1]:g} s after {times[down[0]]:g} s at frame {down[0] + 1}"
        raise DataError(session, f"{problem}, got {got}")
    return times


def _require_pynwb() -> None:
    try:
        import ndx_pose  # noqa: F401
        import pynwb  # noqa: F401
    except ImportError as error:
        hint = "pip install 'psvae-tune[nwb]'"
        raise StorageError(
            "NWB", f"needs a package that is missing: {error.name}", hint
        ) from error


def _find_earlier(path: Path) -> list[str]:
    """Return the names of the predictions that a file holds.

    Raises
    ------
    DataError
        If it is no HDF5 file.
    StorageError
        If it is no NWB 2 file, or read-only.
    """
    with open_hdf5(path) as file:
        version = file.attrs.get("nwb_version", "none")
        if "nwb_version" in file:  # where version 1 has it
            version = file["nwb_version"][()]
        module = f"processing/{MODULE}"
        names = [LATENTS, FRAME_INDEX, POSE, LABELS, SKELETON]
        found = [name for name in names if f"{module}/{name}" in file]
    version = version.decode(errors="replace") if isinstance(version, bytes) else str(version)
    if not version.startswith("2."):
        raise StorageError(str(path), f"must be of NWB schema version 2, got {version!r:.80}")
    if not path.stat().st_mode & 0o222:
        raise StorageError(str(path), "is read-only", "allow writing: chmod u+w FILE")
    return found


@contextmanager
def _nwb_errors(path: Path) -> Iterator[None]:
    """Turn what pynwb raises into one error, and keep its warnings to itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PsvaeTuneError:
        raise
    except OSError as error:
        raise StorageError(str(path), f"cannot be written: {error.strerror or error}") from error
    except Exception as error:  # whatever a library raises on a file of another kind
        raise StorageError(str(path), f"cannot be used as an NWB file: {error}") from error


def _create(predictions: Predictions, times: NDArray[np.float64], path: Path) -> None:
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.file import Subject

    file = NWBFile(
        session_description=f"behavioural video {predictions.rows.session}",
        identifier=str(uuid4()),
        session_start_time=UNKNOWN_START,
        subject=Subject(**UNKNOWN_SUBJECT),
    )
    add_series(predictions, times, file)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)


def _append(predictions: Predictions, times: NDArray[np.float64], path: Path) -> None:
    import ndx_pose  # noqa: F401, so that its types are known before the file is read
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(str(path), "a", load_namespaces=True) as io:
        file = io.read()
        add_series(predictions, times, file)
        io.write(file)
