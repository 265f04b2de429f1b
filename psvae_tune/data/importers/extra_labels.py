"""Read labels that are not positions: pupil area, wheel speed, times of licks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.importers.csv_table import open_csv
from psvae_tune.data.importers.frame_numbers import (
    Rows,
    count_rows,
    find_frame_column,
    first_frame,
    numbers_frames,
    order_rows,
)
from psvae_tune.errors import DataError

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

    A column holds one number for each frame, or an empty cell. A column ``frame`` says which frame
    a row is; frames without a row have no label. A file of one column whose name
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
        If it has no column of numbers, or neither a row for each frame nor the numbers of frames.
    """
    table = open_csv(path)
    header, below = (*table.head, (), ())[:2]
    frame = find_frame_column(header, below)
    columns = [
        i
        for i, name in enumerate(header)
        if i != frame and name.lower() != "time" and not numbers_frames(name)
    ]
    if not columns:
        raise DataError(str(path), f"must have a row of names, got {', '.join(header)[:80]!r}")
    names = tuple(header[i] for i in columns)
    values, cells = table.read(1, columns, [] if frame is None else [frame])
    if len(names) == 1 and names[0].endswith(_EVENTS):
        values = _count_events(path, values[:, 0], times)
        names = (names[0].removesuffix(_EVENTS),)
    else:
        numbers = None if frame is None else [cell for (cell,) in cells]
        values = _by_frame(path, order_rows(path, numbers, values), n_frames)
    masks = np.isfinite(values)
    return ExtraLabels(names, np.where(masks, values, 0), masks)


def _by_frame(path: Path, rows: Rows, n_frames: int) -> NDArray[np.float64]:
    """Return one row for each frame; NaN where a table that numbers its frames has none."""
    n_rows = count_rows(np.isfinite(rows.values), n_frames)
    first = 0
    if rows.is_first_unsure:
        first = first_frame(path, n_rows, n_frames)
    if n_rows - first > n_frames or (n_rows < n_frames and not rows.are_numbered):
        raise DataError(str(path), f"must have a row for each of {n_frames} frames, got {n_rows}")
    values = rows.values[first:n_rows]
    missing = np.full((n_frames - len(values), values.shape[1]), np.nan)
    return np.concatenate([values, missing])


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
