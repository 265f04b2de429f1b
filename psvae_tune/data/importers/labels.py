"""Scale the positions of pose files to stored frames, and join those of several cameras."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.importers.read_poses import read_poses
from psvae_tune.data.importers.request import ImportRequest, Source
from psvae_tune.data.importers.row_matching import match_rows
from psvae_tune.data.video import VideoInfo, View
from psvae_tune.errors import DataError


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
    rows = np.array(match_rows(poses, info, request.label_offset, notes))
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
