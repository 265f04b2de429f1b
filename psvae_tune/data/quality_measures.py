"""Measure the quality of a session in one pass, with a few clips in memory."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.alignment import LagCurve, measure_lag, reduce_frames
from psvae_tune.data.autocorrelation import autocorrelation
from psvae_tune.data.frame_capacity import measure_recording
from psvae_tune.data.memory_limits import check_memory
from psvae_tune.data.session import SessionHeader
from psvae_tune.data.session_file import check_clips
from psvae_tune.data.session_header import inspect_session
from psvae_tune.data.untrusted_hdf5 import HDF5_ERRORS, count_bytes, open_hdf5, rehearse_texts
from psvae_tune.errors import DataError
from psvae_tune.metrics.capacity import Capacity

N_SHOWN = 12
"""Number of frames on a contact sheet."""
# Number of frames in which the lag is measured; more would not make it any clearer.
_N_LAG_FRAMES = 4000
# Short clips are joined to runs of so many frames, of which there are some, for longer lags.
_N_RUN_FRAMES, _N_RUNS = 100, 8
_MAX_AUTOCORRELATION_LAG = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Frames for a person to look at."""

    frames: NDArray[Any]
    """(frame, channel, height, width)."""
    rows: tuple[int, ...]
    """Their numbers in the session."""


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """Measures of one session, from which `find_issues` draws its findings."""

    header: SessionHeader
    dtype: str
    """NumPy type of the pixels."""
    pixel_min: float
    pixel_max: float
    saturated: float
    """Share of pixels at the highest value that their type has."""
    repeated: tuple[int, ...]
    """Frames that equal the frame before, pixel by pixel."""
    still: tuple[int, ...]
    """Frames whose pixels all have one value."""
    labels: NDArray[np.float64]
    """(frame, label); 0 where masked."""
    masks: NDArray[np.bool_]
    """(frame, label)."""
    positions: NDArray[np.float64] | None
    """(frame, label) in pixels: all x, then all y. None where the file holds no `labels_sc`."""
    cameras: tuple[int, ...]
    """Number of the camera of each label."""
    n_cameras: int
    times: NDArray[np.float64] | None
    """(frame,), seconds; None where the file holds none."""
    lag: LagCurve | None
    """None where there are no labels, or too few frames."""
    capacity: Capacity | DataError
    """Principal variances of the frames; an error where they have none."""
    problems: tuple[str, ...]
    """Values for which a study would refuse the recording."""
    sample: Sample

    @property
    def clip_length(self) -> int:
        """Frames in a usual clip."""
        return int(np.median(self.header.clip_lengths))

    @property
    def clip_starts(self) -> NDArray[np.intp]:
        """(clip,), the first frame of each."""
        return np.cumsum([0, *self.header.clip_lengths[:-1]])

    def autocorrelation(self) -> NDArray[np.float64] | None:
        """Return the autocorrelation of the labels at lags of 0, 1, 2 … frames.

        It is the median over the labels; None where no label varies. Pairs of frames of which
        one is masked do not count. All clips are taken as one continuous recording.
        """
        n_lags = min(_MAX_AUTOCORRELATION_LAG, self.header.n_frames // 4)
        curves = []
        for column, mask in zip(self.labels.T, self.masks.T, strict=True):
            if mask.sum() < 3 or column[mask].std() == 0:
                continue
            curves.append(autocorrelation(column, mask, n_lags))
        return np.median(curves, axis=0) if curves else None


def measure_session(path: str, progress: Callable[[int], None] | None = None) -> Measures:
    """Measure a session, which is read once, clip by clip.

    Parameters
    ----------
    path
        An HDF5 file in the BehaveNet layout.
    progress
        Called after each clip with the number of frames that have been read.

    Raises
    ------
    DataError
        If the layout is wrong, or something cannot be read.
    """
    with open_hdf5(path) as file:
        header = inspect_session(file, path, needs_labels=False)
        largest = max(count_bytes(file["images"][name]) for name in header.clip_names)
        check_memory(3 * largest, path)
        try:
            return _measure(file, header, progress or (lambda n_frames: None))
        except HDF5_ERRORS as error:
            hint = "the file is damaged or incomplete: copy it again from where it came"
            raise DataError(path, f"cannot be read, got {error}", hint) from error


def _measure(file: h5py.File, header: SessionHeader, progress: Callable[[int], None]) -> Measures:
    """Read the clips of an open file one by one, and return their measures."""
    n_cameras, cameras = _read_cameras(file, header)
    labels, masks, positions = (_read_labels(file, header, name) for name in _LABEL_GROUPS)
    shape = header.n_frames, header.n_labels
    labels = np.zeros(shape) if labels is None else labels
    valid = np.ones(shape, bool) if masks is None else masks > 0
    valid &= np.isfinite(labels)
    scan = _FrameScan(header, file["images"][header.clip_names[0]].dtype)
    problems = []
    for frames, found in check_clips(file, header):
        scan.add(frames)
        problems += found
        progress(scan.n_frames)
    return Measures(
        header=header,
        dtype=str(scan.dtype),
        pixel_min=scan.pixel_min,
        pixel_max=scan.pixel_max,
        saturated=scan.n_saturated / (header.n_frames * math.prod(header.frame_shape)),
        repeated=tuple(scan.repeated),
        still=tuple(scan.still),
        labels=np.where(valid, labels, 0.0),
        masks=valid,
        positions=positions,
        cameras=cameras,
        n_cameras=n_cameras,
        times=_read_times(file, header),
        lag=_measure_lag(scan.runs, labels, valid),
        capacity=_measure_capacity(header),
        problems=tuple(problems),
        sample=Sample(np.stack(scan.sample), tuple(scan.shown.tolist())),
    )


class _FrameScan:
    """Measures of the frames of a session, gathered clip by clip."""

    def __init__(self, header: SessionHeader, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.n_frames = 0
        """Number of frames in the clips so far."""
        self.pixel_min, self.pixel_max, self.n_saturated = math.inf, -math.inf, 0
        self.repeated: list[int] = []
        self.still: list[int] = []
        self.shown = np.linspace(0, header.n_frames - 1, min(N_SHOWN, header.n_frames)).astype(int)
        self.sample: list[NDArray[Any]] = []
        self.runs: list[tuple[int, list[NDArray[np.float32]]]] = []
        """First frame and reduced clips of each run that the lag is measured in."""
        usual = int(np.median(header.clip_lengths))
        self._run_length = max(usual, min(_N_RUN_FRAMES, header.n_frames // _N_RUNS))
        self._has_labels = header.n_labels > 0
        self._stride = max(1, math.ceil(header.n_frames / _N_LAG_FRAMES))
        self._last: NDArray[Any] | None = None

    def add(self, clip: NDArray[Any]) -> None:
        """Measure the next clip, of shape (frame, channel, height, width)."""
        start, stop = self.n_frames, self.n_frames + len(clip)
        clip = np.where(np.isfinite(clip), clip, 0) if clip.dtype.kind == "f" else clip
        top = 255 if self.dtype.kind == "u" else 1.0
        self.pixel_min = min(self.pixel_min, float(clip.min()))
        self.pixel_max = max(self.pixel_max, float(clip.max()))
        self.n_saturated += int((clip >= top).sum())
        before = clip[:1] if self._last is None else self._last[None]
        is_repeated = (np.concatenate([before, clip[:-1]]) == clip).all((1, 2, 3))
        is_repeated[0] &= self._last is not None  # the first frame of all has none before it
        self.repeated += (np.flatnonzero(is_repeated) + start).tolist()
        flat = clip.reshape(len(clip), -1)
        self.still += (np.flatnonzero(flat.min(1) == flat.max(1)) + start).tolist()
        self.sample += [clip[row - start] for row in self.shown if start <= row < stop]
        run = start // self._run_length
        if self._has_labels and run % self._stride == 0:
            if not self.runs or self.runs[-1][0] // self._run_length != run:
                self.runs.append((start, []))
            self.runs[-1][1].append(reduce_frames(clip))
        self.n_frames, self._last = stop, clip[-1]


_LABEL_GROUPS = ("labels", "labels_masks", "labels_sc")


def _read_labels(file: h5py.File, header: SessionHeader, group: str) -> NDArray[np.float64] | None:
    if group not in file:
        return None
    return np.concatenate([file[group][name][()] for name in header.clip_names]).astype(float)


def _read_cameras(file: h5py.File, header: SessionHeader) -> tuple[int, tuple[int, ...]]:
    """Return the number of cameras and the camera of each label; one camera, if unknown."""
    unknown = 1, (0,) * header.n_labels
    try:
        rehearse_texts(file, header.path, everywhere=False)
        n_cameras = int(file.attrs.get("n_cameras", 1))
        cameras = json.loads(file.attrs.get("label_cameras", "[]")) or [0] * header.n_labels
        are_valid = all(isinstance(item, int) and 0 <= item < n_cameras for item in cameras)
        is_known = len(cameras) == header.n_labels and are_valid
    except (*HDF5_ERRORS, OverflowError, RecursionError):
        return unknown
    return (n_cameras, tuple(cameras)) if is_known and n_cameras > 0 else unknown


def _read_times(file: h5py.File, header: SessionHeader) -> NDArray[np.float64] | None:
    if not header.has_times:
        return None
    times = np.concatenate([file["time_s"][name][()] for name in header.clip_names]).astype(float)
    return times if np.isfinite(times).all() else None


def _measure_capacity(header: SessionHeader) -> Capacity | DataError:
    try:
        return measure_recording(header)
    except DataError as error:
        return error


def _measure_lag(
    runs: list[tuple[int, list[NDArray[np.float32]]]],
    labels: NDArray[np.float64],
    masks: NDArray[np.bool_],
) -> LagCurve | None:
    joined = [(start, np.concatenate(clips)) for start, clips in runs]
    usual = np.median([len(run) for _, run in joined]) if joined else 0
    kept = [(start, run) for start, run in joined if 2 * len(run) >= usual]
    if len(kept) < 2:
        return None
    return measure_lag(
        [run for _, run in kept],
        [labels[start : start + len(run)] for start, run in kept],
        [masks[start : start + len(run)] for start, run in kept],
    )
