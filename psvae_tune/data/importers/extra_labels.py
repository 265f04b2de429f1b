"""Read labels that are not positions: pupil area, wheel speed, times of licks."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.importers.pose_tables import read_numbers
from psvae_tune.errors import DataError

_NUMBERING = ("", "frame", "index", "time")
_EVENTS = "_times"


@dataclass(frozen=True, slots=True, eq=False)
class ExtraLabels:
    """Columns of numbers, with one row for each frame of the video."""

    names: tuple[str, ...]
    values: NDArray[np.float64]
    """(frame, label); 0 where missing."""
    masks: NDArray[np.bool_]
    """(frame, label)."""


def read_extra_labels(path: Path, n_frames: int, times: NDArray[np.float64]) -> ExtraLabels:
    """Read labels from a CSV file with a row of names.

    A column holds one number for each frame, or an empty cell. A file of one column whose name
    ends in ``_times`` holds times of events, in seconds since the first frame; its label is the
    number of events in each frame.

    Parameters
    ----------
    path
        The CSV file.
    n_frames
        Number of frames of the video.
    times
        Times of the frames, (frame,) in seconds.

    Raises
    ------
    DataError
        If it has not one row for each frame, or no column of numbers.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header = [cell.strip() for cell in next(csv.reader(file), [])]
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {(error.strerror or '').lower()}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(str(path), f"must be a CSV file, got {error}") from error
    columns = [i for i, name in enumerate(header) if name.lower() not in _NUMBERING]
    if not columns:
        raise DataError(str(path), f"must have a row of names, got {', '.join(header)[:80]!r}")
    names = tuple(header[i] for i in columns)
    values = read_numbers(path, 1, columns)
    if len(names) == 1 and names[0].endswith(_EVENTS):
        values = _count_events(path, values[:, 0], times)
        names = (names[0].removesuffix(_EVENTS),)
    if len(values) != n_frames:
        raise DataError(
            str(path), f"must have a row for each of {n_frames} frames, got {len(values)}"
        )
    masks = np.isfinite(values)
    return ExtraLabels(names, np.where(masks, values, 0), masks)


def _count_events(
    path: Path, seconds: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    seconds = seconds[np.isfinite(seconds)]
    end = times[-1] + (times[-1] - times[0]) / max(1, len(times) - 1)
    if outside := int(((seconds < times[0]) | (seconds > end)).sum()):
        problem = f"must be seconds from 0 to {end:g}, got {outside} of {len(seconds)} outside"
        raise DataError(str(path), problem)
    frames = np.searchsorted(times, seconds, side="right") - 1
    return np.bincount(frames, minlength=len(times)).astype(np.float64)[:, None]
