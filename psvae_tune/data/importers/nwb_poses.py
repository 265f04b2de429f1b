"""Read poses from NWB files, where the extension ndx-pose keeps them.

A PoseEstimation is one animal in one video, and each of its series is one keypoint with times of
its own: SLEAP leaves out the rows in which it saw none. The file is read with h5py, because a
pose needs a few arrays of a file that may hold hours of electrophysiology.
"""

from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.importers.frame_numbers import spread_rows
from psvae_tune.data.importers.poses import Poses, make_poses
from psvae_tune.data.memory_limits import check_memory
from psvae_tune.data.untrusted_hdf5 import (
    HDF5_ERRORS,
    count_bytes,
    find_foreign_parts,
    open_hdf5,
    piece_problem,
    rehearse_texts,
)
from psvae_tune.data.video import probe_video
from psvae_tune.errors import DataError

_N_COPIES = 4
# Decimals of a second to which times of several series are the same.
_TIME_DECIMALS = 6
_PIXELS = {"", "pixel", "pixels", "px", "n.a.", "a.u.", "unknown"}
_OUR_NAME = "psvae_tune"


@dataclass(frozen=True, slots=True, eq=False)
class _Series:
    """The positions of one keypoint of one animal."""

    track: str
    keypoint: str
    times: NDArray[np.float64]
    """(row,) in seconds, or numbers of frames where the tracker had no times."""
    points: NDArray[np.float64]
    """(row, 3): x, y in pixels, and the likelihood, NaN where there is none."""


def read_nwb(path: Path, video: Path | None = None) -> Poses:
    """Read the poses of a video from an NWB file.

    Rows are those of all times of all keypoints. They are frames in their order where there are as
    many as frames of the video. Otherwise whole numbers are numbers of frames, unless the time
    stamps of the video are whole seconds, too; all other times are compared with these.

    Parameters
    ----------
    path
        The file.
    video
        The video whose poses are wanted, where the file names those of several.

    Raises
    ------
    DataError
        If it cannot be read, or holds no pose in pixels.
    """
    with open_hdf5(path) as file:
        try:
            if foreign := find_foreign_parts(file):
                raise DataError(
                    str(path), f"must hold all of its data, got another file's in `{foreign[0]}`"
                )
            rehearse_texts(file, str(path), everywhere=True)
            containers = _choose(path, _find_containers(path, file), video)
            series = [item for group in containers for item in _read_container(path, group)]
            is_sleap = any("sleap" in _text(group, "source_software") for group in containers)
        except (*HDF5_ERRORS, IndexError, AttributeError) as error:
            raise DataError(str(path), f"cannot be read as NWB: {error}") from error
    if not series:
        raise DataError(str(path), "holds no keypoint in its poses")
    tracks = list(dict.fromkeys(item.track for item in series))
    keypoints = list(dict.fromkeys(item.keypoint for item in series))
    times = np.unique(np.concatenate([item.times for item in series]))
    if not len(times):
        raise DataError(str(path), "must hold positions of its keypoints, got no row")
    check_memory(_N_COPIES * 24 * len(times) * len(tracks) * len(keypoints), path)
    values = np.full((len(times), len(tracks), len(keypoints), 3), np.nan)
    for item in series:
        rows = np.searchsorted(times, item.times)
        values[rows, tracks.index(item.track), keypoints.index(item.keypoint)] = item.points
    numbers = _number_rows(times, video)
    if numbers is not None:
        values = spread_rows(path, numbers, values).values
    likelihoods = values[..., 2]
    return make_poses(
        path,
        "NWB",
        tracks,
        keypoints,
        values[..., :2],
        likelihoods if np.isfinite(likelihoods).any() else None,
        min_likelihood=0 if is_sleap else 0.9,
        are_rows_numbered=numbers is not None,
    )


def _find_containers(path: Path, file: h5py.File) -> list[h5py.Group]:
    """Return the poses of a file, but for those that this project predicted."""
    found: list[h5py.Group] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and _type_of(item) == "PoseEstimation":
            found.append(item)

    file.visititems(note)
    others = [group for group in found if _text(group, "source_software") != _OUR_NAME]
    if not others:
        got = f"{len(found)} that {_OUR_NAME} predicted" if found else "none"
        raise DataError(str(path), f"must hold a PoseEstimation of ndx-pose, got {got}")
    return others


def _choose(path: Path, groups: list[h5py.Group], video: Path | None) -> list[h5py.Group]:
    """Return the poses of one video, if the file names several."""
    names = [{PureWindowsPath(text).name for text in _texts(g, "original_videos")} for g in groups]
    known = sorted(set().union(*names))
    if len(known) < 2:
        return groups
    chosen = [group for group, of in zip(groups, names, strict=True) if video and video.name in of]
    if not chosen:
        wanted = "" if video is None else f", not of {video.name}"
        problem = f"holds poses of {len(known)} videos: {', '.join(known[:10])}{wanted}"
        raise DataError(str(path), problem, "give the video under its name in the file")
    return chosen


def _read_container(path: Path, group: h5py.Group) -> list[_Series]:
    track = str(group.name).rpartition("/")[2].removeprefix("track=")
    return [
        _read_series(path, track, name, item)
        for name, item in group.items()
        if isinstance(item, h5py.Group) and _type_of(item) == "PoseEstimationSeries"
    ]


def _read_series(path: Path, track: str, keypoint: str, group: h5py.Group) -> _Series:
    data = group["data"]
    where = f"`{group.name}`"
    unit = _decode(data.attrs.get("unit", "")).lower()
    if unit not in _PIXELS:
        raise DataError(str(path), f"{where} must be in pixels of the video, got {unit!r:.80}")
    places = _read_numbers(path, data)
    if places.ndim != 2 or places.shape[1] != 2:
        problem = f"{where} must hold x and y of each frame, got the shape {places.shape}"
        raise DataError(str(path), problem, "of 3-D poses, give those of this camera")
    places = places * float(data.attrs.get("conversion", 1)) + float(data.attrs.get("offset", 0))
    sure = np.full(len(places), np.nan)
    if "confidence" in group:
        sure = _read_numbers(path, group["confidence"])
    times = _read_times(path, group, len(places))
    if sure.shape != times.shape or times.shape != (len(places),):
        problem = f"must have a time and a confidence for each of {len(places)} positions"
        raise DataError(str(path), f"{where} {problem}, got {times.shape} and {sure.shape}")
    if not np.isfinite(times).all():
        raise DataError(str(path), f"{where} must have finite times")
    points = np.concatenate([places, sure[:, None]], axis=1)
    return _Series(track, keypoint, times.round(_TIME_DECIMALS), points)


def _read_times(path: Path, group: h5py.Group, n_rows: int) -> NDArray[np.float64]:
    if "timestamps" in group:
        return _read_numbers(path, group["timestamps"])
    start = group["starting_time"]
    rate = float(start.attrs["rate"])
    if not 0 < rate < np.inf:
        raise DataError(str(path), f"`{group.name}` must have a positive rate, got {rate:g}")
    return float(start[()]) + np.arange(n_rows) / rate


def _read_numbers(path: Path, dataset: h5py.Dataset) -> NDArray[np.float64]:
    """Return a dataset of numbers that its file really holds and memory has room for."""
    if problem := piece_problem(dataset):
        raise DataError(str(path), f"`{dataset.name}` {problem}")
    if dataset.dtype.kind not in "fiu":
        raise DataError(str(path), f"`{dataset.name}` must be numbers, got {dataset.dtype}")
    check_memory(_N_COPIES * max(8 * int(dataset.size), count_bytes(dataset)), path)
    return np.asarray(dataset[()], np.float64)


def _number_rows(times: NDArray[np.float64], video: Path | None) -> list[int] | None:
    """Return the frame of each row by its time; None if the rows are frames in their order."""
    info = None if video is None else probe_video(video)
    if info is not None and len(times) == info.n_frames:
        return None
    time_s = None if info is None else info.time_s
    has_whole_stamps = time_s is not None and _are_whole(time_s)
    if _are_whole(times) and times[0] >= 0 and not has_whole_stamps:
        return [int(time) for time in times]
    if info is None or time_s is None:
        return None
    ends = np.concatenate([[-np.inf], (time_s[1:] + time_s[:-1]) / 2])
    frames = np.searchsorted(ends, times, side="right") - 1
    is_near = abs(time_s[frames] - times) < 0.5 / info.fps
    are_apart = (np.diff(frames) > 0).all()
    return frames.tolist() if is_near.all() and are_apart else None


def _are_whole(times: NDArray[np.float64]) -> bool:
    return bool((times == times.round()).all())


def _type_of(item: Any) -> str:
    return _decode(item.attrs.get("neurodata_type", ""))


def _text(group: h5py.Group, name: str) -> str:
    return "".join(_texts(group, name)).lower()


def _texts(group: h5py.Group, name: str) -> list[str]:
    """Return one text or several of a group, none if it has none."""
    if name not in group or not isinstance(group[name], h5py.Dataset):
        return []
    return [_decode(text) for text in np.atleast_1d(group[name][()])]


def _decode(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
