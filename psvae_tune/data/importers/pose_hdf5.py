"""Read pose files in HDF5: SLEAP, DeepLabCut, LEAP and DeepPoseKit."""

import io
import pickle
from pathlib import Path, PurePath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.importers.pose_tables import LEVELS, Column, assemble
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
from psvae_tune.errors import DataError

if TYPE_CHECKING:
    from sleap_io import Labels, Video

# Copies of the positions in memory while they are sorted into tracks and keypoints.
_N_COPIES = 4
# Datasets of the positions and of their confidence in files of LEAP and DeepPoseKit.
_LEAP = "positions_pred"
_ARRAYS = ((_LEAP, "conf_pred"), ("keypoints", "confidence"), ("predictions", ""))


def read_slp(path: Path, video: Path | None = None) -> Poses:
    """Read a SLEAP project or prediction file.

    Parameters
    ----------
    path
        The file.
    video
        The video whose poses are wanted, needed where the file has several. It is found by its
        file name and, where several have that, by the name of its folder.

    Raises
    ------
    DataError
        If it cannot be read, holds several animals without tracks, or holds several videos of
        which not exactly one has the name of ``video``.
    """
    import sleap_io

    with open_hdf5(path) as file:
        _check(path, file)
    try:
        labels = sleap_io.load_slp(str(path), open_videos=False)
    except Exception as error:  # whatever a library raises on a damaged file
        raise DataError(str(path), f"cannot be read as SLEAP: {error}") from error
    if len(labels.videos) > 1:
        labels = _choose_video(path, labels, video)
    return _from_labels(path, "SLEAP", labels)


def _choose_video(path: Path, labels: "Labels", video: Path | None) -> "Labels":
    """Return the labels and tracks of one video of a project."""
    places = [_place_of(item) for item in labels.videos]
    found = [i for i, place in enumerate(places) if video and place.name == video.name]
    if video is not None and len(found) > 1:  # session1/camera.mp4, session2/camera.mp4
        folder = video.absolute().parent.name
        found = [i for i in found if places[i].parent.name == folder]
    if len(found) != 1:
        problem = f"holds poses of {len(places)} videos: {', '.join(map(str, places))}"
        if video is not None:
            problem += f"; not exactly one of them is {video.absolute().parent.name}/{video.name}"
        raise DataError(str(path), problem, "save the predictions of one video")
    chosen = labels.videos[found[0]]
    if not labels.find(chosen):
        raise DataError(str(path), f"holds no labelled frame of {places[found[0]]}")
    return labels.extract(chosen, copy=False)


def _place_of(video: "Video") -> PurePath:
    """Return the path of a video as the project holds it, of Windows or any other system."""
    name = (video.source_video or video).filename
    if isinstance(name, list):  # of images
        name = name[0] if name else ""
    return PureWindowsPath(str(name))  # which accepts both separators


def read_hdf5(path: Path) -> Poses:
    """Read an HDF5 file of a tracker, which is recognised by its groups.

    Raises
    ------
    DataError
        If it cannot be read, or its format is not known.
    """
    with open_hdf5(path) as file:
        names = _check(path, file)
        try:
            if "tracks" in names and isinstance(file["tracks"], h5py.Dataset):
                return _read_sleap_analysis(path)
            frames = [name for name in names if "pandas_type" in file[name].attrs]
            if frames:
                return _read_pandas(path, file[frames[0]])
            for positions, confidence in _ARRAYS:
                if positions in names:
                    return _read_array(path, file, positions, confidence)
        except (*HDF5_ERRORS, IndexError) as error:
            raise DataError(str(path), f"cannot be read as a pose file: {error}") from error
    problem = "must be of SLEAP, DeepLabCut, LEAP or DeepPoseKit, got a file with "
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


def _read_sleap_analysis(path: Path) -> Poses:
    import sleap_io

    try:
        labels = sleap_io.load_analysis_h5(str(path))
    except Exception as error:  # whatever a library raises on a damaged file
        raise DataError(str(path), f"cannot be read as a SLEAP analysis: {error}") from error
    return _from_labels(path, "SLEAP analysis", labels)


def _from_labels(path: Path, kind: str, labels: "Labels") -> Poses:
    """Return the labels of sleap-io as poses, whose row i is frame i."""
    if not labels.labeled_frames or not labels.skeletons:
        raise DataError(str(path), "holds no labelled frame")
    most = max(len(frame.instances) for frame in labels.labeled_frames)
    is_tracked = bool(labels.tracks)
    if not is_tracked and most > 1:
        hint = "track the animals in SLEAP first"
        raise DataError(str(path), f"holds {most} animals in a frame but no tracks", hint)
    _check_size(path, labels, len(labels.tracks) if is_tracked else most)
    full = labels.numpy(untracked=not is_tracked, return_confidence=True)
    tracks = [track.name for track in labels.tracks] if is_tracked else [""]
    return make_poses(
        path,
        kind,
        tracks,
        labels.skeletons[0].node_names,
        full[..., :2],
        full[..., 2],
        min_likelihood=0,  # its scores are not probabilities, and it leaves out unsure points
        are_rows_numbered=True,
    )


def _check_size(path: Path, labels: "Labels", n_tracks: int) -> None:
    """Refuse frame numbers that no video has, because every smaller one would get a row."""
    indices = [int(frame.frame_idx) for frame in labels.labeled_frames]
    if min(indices) < 0:
        raise DataError(str(path), f"must number its frames from 0 on, got {min(indices)}")
    n_values = (max(indices) + 1) * n_tracks * len(labels.skeletons[0].nodes) * 3
    check_memory(_N_COPIES * 8 * n_values, path)


def _read_pandas(path: Path, group: h5py.Group) -> Poses:
    """Read a table that pandas stored for DeepLabCut, in either of its layouts.

    `pandas.read_hdf` is not used, because it opens pickles that can run code.
    """
    if "table" in group:
        names, values = _read_table_layout(path, group)
    else:
        names, values = _read_fixed_layout(path, group)
    return assemble(path, "DeepLabCut HDF5", names, values)


def _read_fixed_layout(path: Path, group: h5py.Group) -> tuple[list[Column], NDArray[Any]]:
    if int(group.attrs["nblocks"]) != 1:
        raise DataError(str(path), f"must be one block of numbers, got {group.attrs['nblocks']}")
    levels = []
    for level in range(int(group.attrs["block0_items_nlevels"])):
        names = group[f"block0_items_level{level}"]
        texts = [_decode(name) for name in names[()]]
        codes = group[f"block0_items_label{level}"][()]
        levels.append((_decode(names.attrs["name"]), [texts[code] for code in codes]))
    values = group["block0_values"][()]
    return _columns(path, levels), values


def _read_table_layout(path: Path, group: h5py.Group) -> tuple[list[Column], NDArray[Any]]:
    (_, tuples), *_ = _unpickle_plain(path, group.attrs["non_index_axes"])
    info = _unpickle_plain(path, group.attrs["info"])
    names = list(info[1]["names"])
    table = group["table"]
    blocks = [field for field in table.dtype.names if field.startswith("values_block_")]
    if len(blocks) != 1:
        raise DataError(str(path), f"must be one block of numbers, got {len(blocks)}")
    levels = [(name, [str(t[i]) for t in tuples]) for i, name in enumerate(names)]
    return _columns(path, levels), table[blocks[0]]


def _columns(path: Path, levels: list[tuple[str, list[str]]]) -> list[Column]:
    rows = dict(levels)
    if not {"bodyparts", "coords"} <= set(rows) <= set(LEVELS):
        found = ", ".join(map(str, rows)) or "nothing"
        raise DataError(str(path), f"must have columns by {', '.join(LEVELS)}, got {found}")
    individuals = rows.get("individuals", [""] * len(rows["coords"]))
    return [
        Column(*names)
        for names in zip(individuals, rows["bodyparts"], rows["coords"], strict=True)
    ]


class _PlainUnpickler(pickle.Unpickler):
    """Reads pickles of lists, tuples and texts; refuses a pickle that could run code.

    PyTables stores the names of columns in no other way than as pickles.
    """

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} is not plain data")


def _unpickle_plain(path: Path, stored: Any) -> Any:
    try:
        return _PlainUnpickler(io.BytesIO(bytes(stored))).load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(str(path), f"names of columns cannot be read: {error}") from error


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


def _decode(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
