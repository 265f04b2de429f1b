"""What is measured of a session before anybody trains on it: one pass, a few clips in memory."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.alignment import LagCurve, measure_lag, reduce_frames
from psvae_tune.data.memory_limits import check_memory
from psvae_tune.data.session import SessionHeader
from psvae_tune.data.session_header import holds_times, inspect_session
from psvae_tune.data.untrusted_hdf5 import HDF5_ERRORS, count_bytes, open_hdf5, rehearse_texts
from psvae_tune.errors import DataError

N_SHOWN = 12
"""Frames of a contact sheet."""
_N_LAG_FRAMES = 4000  # more would not make the lag any clearer
_MAX_AUTOCORRELATION_LAG = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Frames to look at."""

    frames: NDArray[Any]
    """(frame, channel, height, width)."""
    rows: tuple[int, ...]
    """Their numbers in the session."""


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """What a session is like."""

    header: SessionHeader
    dtype: str
    pixel_min: float
    pixel_max: float
    saturated: float
    """Share of pixels at the highest value there can be."""
    repeated: tuple[int, ...]
    """Frames that are those before them, pixel by pixel."""
    still: tuple[int, ...]
    """Frames of one value everywhere."""
    labels: NDArray[np.float64]
    """(frame, label); 0 where masked."""
    masks: NDArray[np.bool_]
    """(frame, label)."""
    positions: NDArray[np.float64] | None
    """(frame, label) in pixels: all x, then all y; None where the file does not hold them."""
    cameras: tuple[int, ...]
    """For each label the camera that it was seen by."""
    n_cameras: int
    times: NDArray[np.float64] | None
    """(frame,), seconds."""
    lag: LagCurve | None
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
        """Return how alike labels are after 0, 1, 2 … frames, the median over labels.

        Entries where either frame is masked do not count. Clips are taken as one recording.
        """
        n_lags = min(_MAX_AUTOCORRELATION_LAG, self.header.n_frames // 4)
        curves = []
        for column, mask in zip(self.labels.T, self.masks.T, strict=True):
            if mask.sum() < 3 or column[mask].std() == 0:
                continue
            centred = np.where(mask, column - column[mask].mean(), 0.0)
            n = 2 ** math.ceil(math.log2(2 * len(column)))
            power, counts = (
                np.fft.irfft(abs(np.fft.rfft(signal, n)) ** 2, n)[: n_lags + 1]
                for signal in (centred, mask.astype(float))
            )
            curves.append(power / np.maximum(counts, 1) / centred[mask].var())
        return np.median(curves, axis=0) if curves else None


def measure_session(path: str, progress: Callable[[int], None] | None = None) -> Measures:
    """Read a session once, clip by clip.

    Parameters
    ----------
    path
        An HDF5 file in the BehaveNet layout.
    progress
        Told after each clip how many frames have been read.

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
    n_cameras, cameras = _read_cameras(file, header)
    labels, masks, positions = (_read_labels(file, header, name) for name in _LABEL_GROUPS)
    shape = header.n_frames, header.n_labels
    labels = np.zeros(shape) if labels is None else labels
    valid = np.ones(shape, bool) if masks is None else masks > 0
    valid &= np.isfinite(labels)
    shown = np.linspace(0, header.n_frames - 1, min(N_SHOWN, header.n_frames)).astype(int)
    stride = max(1, math.ceil(header.n_frames / _N_LAG_FRAMES))
    top = 255 if file["images"][header.clip_names[0]].dtype.kind == "u" else 1.0
    lowest, highest, n_saturated = math.inf, -math.inf, 0
    repeated, still, sample = [], [], []
    features: list[tuple[int, int, NDArray[np.float32]]] = []
    start, last = 0, None
    for index, name in enumerate(header.clip_names):
        clip = file["images"][name][()]
        lowest, highest = min(lowest, clip.min()), max(highest, clip.max())
        n_saturated += int((clip >= top).sum())
        before = clip[:-1] if last is None else np.concatenate([last[None], clip[:-1]])
        after = clip[1:] if last is None else clip
        same = (before == after).all((1, 2, 3))
        repeated += (np.flatnonzero(same) + start + (last is None)).tolist()
        flat = clip.reshape(len(clip), -1)
        still += (np.flatnonzero(flat.min(1) == flat.max(1)) + start).tolist()
        sample += [clip[row - start] for row in shown if start <= row < start + len(clip)]
        if header.n_labels and index % stride == 0:
            features.append((start, start + len(clip), reduce_frames(clip)))
        start, last = start + len(clip), clip[-1]
        progress(start)
    return Measures(
        header=header,
        dtype=str(last.dtype) if last is not None else "",
        pixel_min=float(lowest),
        pixel_max=float(highest),
        saturated=n_saturated / (header.n_frames * math.prod(header.frame_shape)),
        repeated=tuple(repeated),
        still=tuple(still),
        labels=np.where(valid, labels, 0.0),
        masks=valid,
        positions=positions,
        cameras=cameras,
        n_cameras=n_cameras,
        times=_read_times(file, header),
        lag=_measure_lag(features, labels, valid),
        sample=Sample(np.stack(sample), tuple(shown.tolist())),
    )


_LABEL_GROUPS = ("labels", "labels_masks", "labels_sc")


def _read_labels(file: h5py.File, header: SessionHeader, group: str) -> NDArray[np.float64] | None:
    if group not in file:
        return None
    return np.concatenate([file[group][name][()] for name in header.clip_names]).astype(float)


def _read_cameras(file: h5py.File, header: SessionHeader) -> tuple[int, tuple[int, ...]]:
    """Return how many cameras there are, and that of each label; one, if that is not known."""
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
    if not holds_times(file, header):
        return None
    times = np.concatenate([file["times"][name][()] for name in header.clip_names])
    times = times.astype(np.float64)
    return times if np.isfinite(times).all() else None


def _measure_lag(
    features: list[tuple[int, int, NDArray[np.float32]]],
    labels: NDArray[np.float64],
    masks: NDArray[np.bool_],
) -> LagCurve | None:
    if len(features) < 2:
        return None
    return measure_lag(
        [clip for _, _, clip in features],
        [labels[start:stop] for start, stop, _ in features],
        [masks[start:stop] for start, stop, _ in features],
    )
