"""Read pose files in HDF5, recognised by their contents: SLEAP, DeepLabCut, Facemap and others."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from psvae_tune.data.importers.frame_numbers import Rows
from psvae_tune.data.importers.pandas_hdf5 import find_tables, read_tables
from psvae_tune.data.importers.pose_tables import Column, assemble
from psvae_tune.data.importers.poses import Poses, make_poses
from psvae_tune.data.importers.sleap_files import PROJECT, read_analysis, read_project
from psvae_tune.data.memory_limits import check_memory
from psvae_tune.data.untrusted_hdf5 import (
    HDF5_ERRORS,
    count_bytes,
    find_foreign_parts,
    open_hdf5,
    piece_problem,
    rehearse_texts,
)
from psvae_tune.errors import DataError

# Copies of the positions in memory while they are sorted into tracks and keypoints.
_N_COPIES = 4
# Datasets of the positions and of their confidence in files of LEAP and DeepPoseKit.
_LEAP = "positions_pred"
_ARRAYS = ((_LEAP, "conf_pred"), ("keypoints", "confidence"), ("predictions", ""))
# The group in which Facemap has a group for each keypoint.
_FACEMAP = "Facemap"


def read_hdf5(path: Path, video: Path | None = None) -> Poses:
    """Read an HDF5 file of a tracker, whatever its suffix.

    Parameters
    ----------
    path
        The file.
    video
        The video whose poses are wanted, where the file holds those of several.

    Raises
    ------
    DataError
        If it cannot be read, or its format is not known.
    """
    with open_hdf5(path) as file:
        names = _check(path, file)
        if not set(names) >= PROJECT:
            try:
                return _read_open(path, file, names, video)
            except (*HDF5_ERRORS, IndexError, AttributeError) as error:
                raise DataError(str(path), f"cannot be read as a pose file: {error}") from error
    return read_project(path, video)


def _read_open(path: Path, file: h5py.File, names: list[str], video: Path | None) -> Poses:
    if "tracks" in names and isinstance(file["tracks"], h5py.Dataset):
        return read_analysis(path, file)
    if tables := find_tables(file):
        return read_tables(path, tables, video)
    if _FACEMAP in names:
        return _read_facemap(path, file[_FACEMAP])
    for positions, confidence in _ARRAYS:
        if positions in names:
            return _read_array(path, file, positions, confidence)
    problem = "must be of SLEAP, DeepLabCut, Facemap, LEAP or DeepPoseKit, got a file with "
    raise DataError(str(path), problem + (", ".join(names)[:80] or "nothing"))


def _check(path: Path, file: h5py.File) -> list[str]:
    """Refuse a file that is not safe to read; return the names at its top."""
    try:
        if foreign := find_foreign_parts(file):
            raise DataError(
                str(path), f"must hold all of its data, got another file's in `{foreign[0]}`"
            )
        rehearse_texts(file, str(path), everywhere=True)
        items: list[Any] = []
        file.visititems(lambda name, item: items.append(item))
        for item in items:
            if isinstance(item, h5py.Dataset):
                if problem := piece_problem(item):
                    raise DataError(str(path), f"`{item.name}` {problem}")
                check_memory(_N_COPIES * count_bytes(item), path)
        return [name if isinstance(name, str) else name.decode(errors="replace") for name in file]
    except HDF5_ERRORS as error:
        raise DataError(str(path), f"cannot be read as a pose file: {error}") from error


def _read_facemap(path: Path, keypoints: h5py.Group) -> Poses:
    """Read ``Facemap/KEYPOINT/x``, ``y`` and ``likelihood``, one number a frame each."""
    columns, values = [], []
    for name, group in keypoints.items():
        for coord in ("x", "y", "likelihood"):
            if coord in group:
                columns.append(Column("", str(name), coord))
                values.append(np.asarray(group[coord][()], np.float64).ravel())
    lengths = sorted({len(column) for column in values})
    if len(lengths) != 1:
        problem = f"must have as many numbers for every keypoint, got {lengths}"
        raise DataError(str(path), problem)
    return assemble(path, "Facemap", columns, Rows(np.stack(values, axis=1)))


def _read_array(path: Path, file: h5py.File, positions: str, confidence: str) -> Poses:
    array = np.asarray(file[positions][()], dtype=np.float64)
    if positions == _LEAP and array.ndim == 3:
        array = array.transpose(0, 2, 1)  # (frame, x y, keypoint)
    if array.ndim != 3 or array.shape[2] not in (2, 3):
        problem = f"`{positions}` must be (frame, keypoint, 2 or 3), got {array.shape}"
        raise DataError(str(path), problem)
    sure = array[..., 2] if array.shape[2] == 3 else None
    if confidence in file:
        sure = np.asarray(file[confidence][()], dtype=np.float64)
        if sure.shape != array.shape[:2]:
            problem = f"`{confidence}` must be {array.shape[:2]} like `{positions}`"
            raise DataError(str(path), f"{problem}, got {sure.shape}")
    keypoints = [f"keypoint_{i}" for i in range(array.shape[1])]
    likelihoods = None if sure is None else sure[:, None]
    return make_poses(
        path,
        "LEAP or DeepPoseKit HDF5",
        [""],
        keypoints,
        array[:, None, :, :2],
        likelihoods,
        min_likelihood=0,  # heights of heat maps, which differ in scale between networks
    )
