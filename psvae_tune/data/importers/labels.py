"""Match the rows of a pose file to the frames of a video, and scale positions to stored frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.alignment import RowMap, choose_map, possible_maps, reduce_frames
from psvae_tune.data.importers.poses import ChosenPoints, Poses
from psvae_tune.data.importers.read_poses import read_poses
from psvae_tune.data.importers.request import ImportRequest, Source
from psvae_tune.data.video import VideoInfo, View, iterate_frames
from psvae_tune.errors import DataError

# Number of frames that are compared with the labels to find out which row belongs to which frame.
_N_TESTED = 1000
# Share of rows that may be missing at the end because the tracker lost the last frames.
_MAX_MISSING = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class FrameLabels:
    """Labels of every frame of one video or several."""

    names: tuple[str, ...]
    cameras: tuple[int, ...]
    """Number of the camera of each label."""
    values: NDArray[np.float64]
    """(frame, label) in pixels of the stored frame."""
    masks: NDArray[np.bool_]
    """(frame, label); False where the value does not count."""


def read_labels(
    source: Source, info: VideoInfo, view: View, request: ImportRequest, notes: list[str]
) -> FrameLabels:
    """Return the labels of every frame of one video, in pixels of the stored frame."""
    assert source.poses is not None
    poses = read_poses(source.poses, source.video)
    points = poses.choose(source.tracks, source.keypoints, request.min_likelihood)
    rows = np.array(_match_rows(poses, points, info, request, notes).rows)
    positions = (points.positions[rows] - view.crop[2:]) * view.scale
    valid = points.valid[rows] & (rows >= 0)[:, None]
    if source.crop is not None:
        # Nothing in the frame shows a position that was cropped away.
        inside = ((positions >= 0) & (positions < [view.width, view.height])).all(-1)
        notes.append(f"{(valid & ~inside).sum()} places outside --crop are masked")
        valid &= inside
    if not valid.any():
        raise DataError(
            str(source.poses), "holds no position above --min-likelihood in the frames"
        )
    positions[rows < 0] = 0
    names = [f"{name}_{axis}" for axis in "xy" for name in points.names]
    camera = request.sources.index(source)
    return FrameLabels(
        tuple(names),
        (camera,) * len(names),
        np.concatenate([positions[..., 0], positions[..., 1]], 1),
        np.tile(valid, 2),
    )


def _match_rows(
    poses: Poses, points: ChosenPoints, info: VideoInfo, request: ImportRequest, notes: list[str]
) -> RowMap:
    """Decide which row of a pose file belongs to which frame."""
    n_rows, n_frames = poses.n_rows, info.n_frames
    if request.label_offset is not None or n_rows == n_frames or poses.are_rows_numbered:
        offset = request.label_offset or 0
        rows = [i - offset if 0 <= i - offset < n_rows else -1 for i in range(n_frames)]
        if poses.are_rows_numbered and n_rows != n_frames and not offset:
            notes.append(
                f"{poses.path.name} numbers its frames, the last is {n_rows - 1}; the video has "
                f"{n_frames} frames"
            )
        return RowMap(f"row i is frame i + {offset}", tuple(rows))
    maps = possible_maps(n_rows, n_frames)
    n_tested = min(_N_TESTED, n_frames)
    small = View(info.whole, 64, 64)
    # Frames from both ends are tested, because maps that differ at the end agree at the start.
    tested = [*range(n_tested // 2), *range(n_frames - n_tested // 2, n_frames)]
    features = _read_features(info, small, n_tested // 2, n_frames)
    labels = points.positions.reshape(n_rows, -1)
    best, scores = choose_map(maps, features, tested, labels, np.repeat(points.valid, 2, axis=1))
    listed = "; ".join(f"{m.words}: R² {score:.2f}" for m, score in zip(maps, scores, strict=True))
    if best is None and 0 < n_frames - n_rows <= max(2, _MAX_MISSING * n_frames):
        best = maps[0]
    if best is None:
        raise DataError(
            str(poses.path),
            f"has {n_rows} rows for {n_frames} frames, and which belong together cannot be known "
            f"({listed})",
            "state it with --label-offset N: row i is frame i + N",
        )
    notes.append(
        f"{poses.path.name} has {n_rows} rows for {n_frames} frames: {best.words} ({listed})"
    )
    return best


def _read_features(info: VideoInfo, view: View, half: int, n_frames: int) -> NDArray[np.float32]:
    parts = [
        reduce_frames(np.stack(list(iterate_frames(info, view, frames))))
        for frames in (range(half), range(n_frames - half, n_frames))
    ]
    return np.concatenate(parts)


def join_labels(
    sources: Sequence[Source], labels: Sequence[FrameLabels], n_frames: int
) -> FrameLabels:
    """Put the labels of all cameras side by side: all x, then all y."""
    if not labels:
        return FrameLabels((), (), np.empty((n_frames, 0)), np.empty((n_frames, 0), bool))
    names = [item.names for item in labels]
    together = [name for item in names for name in item]
    if len(set(together)) < len(together):
        stems = [source.video.stem for source in sources]
        if len(set(stems)) < len(stems):
            stems = [f"view{index}" for index in range(len(stems))]
        names = [tuple(f"{s}_{n}" for n in item) for s, item in zip(stems, names, strict=True)]
    order = [
        (i, column)
        for half in (0, 1)
        for i, item in enumerate(names)
        for column in range(half * len(item) // 2, (half + 1) * len(item) // 2)
    ]
    return FrameLabels(
        tuple(names[i][column] for i, column in order),
        tuple(labels[i].cameras[column] for i, column in order),
        np.stack([labels[i].values[:n_frames, column] for i, column in order], axis=1),
        np.stack([labels[i].masks[:n_frames, column] for i, column in order], axis=1),
    )


def leave_out_ends(frames: range, masks: NDArray[np.bool_], notes: list[str]) -> range:
    """Return the frames from the first to the last one that has a label."""
    labelled = np.flatnonzero(masks.any(1))
    kept = range(int(labelled[0]), int(labelled[-1]) + 1)
    if len(kept) < len(frames):
        notes.append(
            f"frames {kept.start} to {kept.stop - 1} are taken, the {len(frames) - len(kept)} "
            "before and after have no label"
        )
    return kept
