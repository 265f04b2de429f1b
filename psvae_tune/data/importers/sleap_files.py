"""Read the files of SLEAP: projects, predictions and analyses."""

import json
from pathlib import Path, PurePath, PureWindowsPath
from typing import TYPE_CHECKING

import h5py
import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.importers.frame_numbers import spread_rows
from psvae_tune.data.importers.poses import Poses, make_poses
from psvae_tune.errors import DataError

if TYPE_CHECKING:
    from sleap_io import Instance, LabeledFrame, Labels, Track, Video

PROJECT = {"metadata", "frames", "instances"}
"""Names that the file of a project has at its top."""
_MATLAB = ("track", "xy", "node", "frame")
_STANDARD = ("frame", "track", "node", "xy")


def read_project(path: Path, video: Path | None = None) -> Poses:
    """Read a SLEAP project or prediction file.

    A frame that a person corrected holds the prediction and the correction; the latter is taken.

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

    try:
        labels = sleap_io.load_slp(str(path), open_videos=False)
    except Exception as error:  # whatever a library raises on a damaged file
        raise DataError(str(path), f"cannot be read as SLEAP: {error}") from error
    if len(labels.videos) > 1:
        labels = _choose_video(path, labels, video)
    if not labels.labeled_frames or not labels.skeletons:
        raise DataError(str(path), "holds no labelled frame")
    tracks = _used_tracks(path, labels)
    nodes = labels.skeletons[0].node_names
    places = np.full((len(labels.labeled_frames), len(tracks), len(nodes), 3), np.nan)
    for row, frame in zip(places, labels.labeled_frames, strict=True):
        for instance in _predictions_first(frame):
            track = _track_of(instance, tracks)
            if track in tracks:
                row[tracks.index(track)] = _points(path, instance, len(nodes))
    numbers = [int(frame.frame_idx) for frame in labels.labeled_frames]
    full = spread_rows(path, numbers, places).values
    names = [track.name if track else "" for track in tracks]
    return _make_poses(path, "SLEAP", names, nodes, full[..., :2], full[..., 2])


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


def _used_tracks(path: Path, labels: "Labels") -> "list[Track | None]":
    """Return the tracks; a single None where the animal has none."""
    instances = [instance for frame in labels.labeled_frames for instance in frame.instances]
    if not instances:
        raise DataError(str(path), "holds no labelled frame")
    if any(instance.track is not None for instance in instances):
        return list(labels.tracks)
    most = max(
        max(len(frame.user_instances), len(frame.predicted_instances))
        for frame in labels.labeled_frames
    )
    if most > 1:
        hint = "track the animals in SLEAP first"
        raise DataError(str(path), f"holds {most} animals in a frame but no tracks", hint)
    return [None]


def _predictions_first(frame: "LabeledFrame") -> "list[Instance]":
    """Return the animals of a frame, those of a person last, so that they replace the others."""
    return [*frame.predicted_instances, *frame.user_instances]


def _track_of(instance: "Instance", tracks: "list[Track | None]") -> "Track | None":
    source = instance.from_predicted
    if instance.track is None and source is not None and source.track is not None:
        return source.track
    # A person who corrects the only animal gives it no track.
    return tracks[0] if instance.track is None and len(tracks) == 1 else instance.track


def _points(path: Path, instance: "Instance", n_nodes: int) -> NDArray[np.float64]:
    """Return x, y and score of every node; those of a person have the score 1."""
    points = instance.numpy()
    if points.shape != (n_nodes, 2):
        problem = f"must have one skeleton, of {n_nodes} nodes, got one of {len(points)}"
        raise DataError(str(path), problem)
    names = instance.points.dtype.names or ()
    scores = instance.points["score"] if "score" in names else np.ones(n_nodes)
    return np.concatenate([points, np.asarray(scores)[:, None]], axis=1)


def read_analysis(path: Path, file: h5py.File) -> Poses:
    """Read an analysis of SLEAP, whose positions are an array by frame.

    Raises
    ------
    DataError
        If the array has other axes, or holds three dimensions.
    """
    nodes, tracks = (
        [_decode(name) for name in np.atleast_1d(file[name][()])] if name in file else []
        for name in ("node_names", "track_names")
    )
    shape = file["tracks"].shape
    order = _read_order(path, file)
    sizes = dict(zip(order, shape, strict=True))
    tracks = tracks or [""] * (sizes["track"] == 1)
    if sizes["xy"] != 2:
        problem = f"must hold x and y in the pixels of one camera, got the shape {shape}"
        raise DataError(str(path), problem, "of a 3-D analysis, give the one of this camera")
    if (sizes["node"], sizes["track"]) != (len(nodes), len(tracks)):
        problem = f"must hold {len(tracks)} tracks of {len(nodes)} nodes, got the shape {shape}"
        raise DataError(str(path), problem)
    positions = file["tracks"][()].transpose([order.index(axis) for axis in _STANDARD])
    scores = None
    if "point_scores" in file:
        axes = [axis for axis in order if axis != "xy"]
        if file["point_scores"].shape != tuple(sizes[axis] for axis in axes):
            problem = f"`point_scores` must fit the shape {shape} of `tracks`"
            raise DataError(str(path), f"{problem}, got {file['point_scores'].shape}")
        scores = file["point_scores"][()].transpose([axes.index(axis) for axis in _STANDARD[:3]])
    return _make_poses(path, "SLEAP analysis", tracks, nodes, positions, scores)


def _read_order(path: Path, file: h5py.File) -> tuple[str, ...]:
    """Return the names of the axes of the positions."""
    array = file["tracks"]
    if array.ndim != 4 or array.dtype.kind not in "fiu":
        problem = f"`tracks` must be numbers of four axes, got {array.shape} of {array.dtype}"
        raise DataError(str(path), problem)
    named = json.loads(_decode(array.attrs["dims"])) if "dims" in array.attrs else None
    if named is not None:
        if not isinstance(named, list) or sorted(map(str, named)) != sorted(_STANDARD):
            raise DataError(
                str(path), f"`tracks` must have the axes {_STANDARD}, got {named!r:.80}"
            )
        return tuple(named)
    # Without names it is of SLEAP itself, or in the order of NumPy.
    return _MATLAB if array.shape[1] == 2 or array.shape[3] not in (2, 3) else _STANDARD


def _make_poses(
    path: Path,
    kind: str,
    tracks: list[str],
    nodes: list[str],
    positions: NDArray[np.floating],
    scores: NDArray[np.floating] | None,
) -> Poses:
    """Return poses whose row i is frame i, and whose scores are no probabilities."""
    return make_poses(
        path, kind, tracks, nodes, positions, scores, min_likelihood=0, are_rows_numbered=True
    )


def _decode(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
