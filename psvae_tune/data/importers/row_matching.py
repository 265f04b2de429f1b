"""Decide which row of a pose file belongs to which frame of its video."""

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.alignment import reduce_frames
from psvae_tune.data.importers.frame_numbers import count_rows, first_frame
from psvae_tune.data.importers.poses import ALL_TRACKS, Poses
from psvae_tune.data.row_maps import RowMap, choose_map, possible_maps
from psvae_tune.data.video import VideoInfo, View
from psvae_tune.data.video_frames import iterate_frames
from psvae_tune.errors import DataError

# Number of frames that are compared with the labels to find out which row belongs to which frame.
_N_TESTED = 1000


def match_rows(
    poses: Poses, info: VideoInfo, label_offset: int | None, notes: list[str]
) -> tuple[int, ...]:
    """Return the row of each frame, -1 for none.

    The numbers that the pose file gives its rows decide; then its length, if it is that of the
    video, in frames or in time; then what the frames show.

    Parameters
    ----------
    poses
        The pose file.
    info
        The video.
    label_offset
        Row i, or the row of number i, is frame i + offset; None if it is to be found out.
    notes
        Assumptions, to which those made here are added.

    Raises
    ------
    DataError
        If it cannot be known.
    """
    n_frames = info.n_frames
    n_rows = count_rows(np.isfinite(poses.positions), n_frames)
    if label_offset is not None:
        return _shift(label_offset, n_rows, n_frames)
    if poses.are_rows_numbered and n_rows <= n_frames + poses.is_first_unsure:
        first = first_frame(poses.path, n_rows, n_frames) if poses.is_first_unsure else 0
        n_absent = n_frames - int(np.isfinite(poses.positions).any((1, 2, 3)).sum())
        if n_absent or first:
            notes.append(
                f"{poses.path.name} numbers its frames from {first} on: {n_absent} of {n_frames} "
                "have no row, or an empty one"
            )
        return _shift(-first, n_rows, n_frames)
    if n_rows == n_frames:
        return _shift(0, n_rows, n_frames)
    if n_rows == info.steps[-1] + 1 and (np.diff(info.steps) > 0).all():
        notes.append(
            f"{poses.path.name} has a row for each of {n_rows} steps in time, also for those in "
            f"which {info.path.name} has no frame"
        )
        return tuple(info.steps.tolist())
    return _find_out(poses, n_rows, info, notes).rows


def _shift(offset: int, n_rows: int, n_frames: int) -> tuple[int, ...]:
    """Return the rows of frames where row i is frame i + offset."""
    return tuple(i - offset if 0 <= i - offset < n_rows else -1 for i in range(n_frames))


def _find_out(poses: Poses, n_rows: int, info: VideoInfo, notes: list[str]) -> RowMap:
    """Compare the assumptions about the rows with what the frames show."""
    n_frames = info.n_frames
    maps = possible_maps(n_rows, n_frames)
    if poses.are_rows_numbered:
        maps = maps[:1]
    n_tested = min(_N_TESTED, n_frames)
    small = View(info.whole, 64, 64)
    # Frames from both ends are tested, because maps that differ at the end agree at the start.
    tested = [*range(n_tested // 2), *range(n_frames - n_tested // 2, n_frames)]
    features = _read_features(info, small, n_tested // 2, n_frames)
    everything = poses.choose([ALL_TRACKS], [], None)
    labels = everything.positions[:n_rows].reshape(n_rows, -1)
    masks = np.repeat(everything.valid[:n_rows], 2, axis=1)
    best, found = choose_map(maps, features, tested, labels, masks)
    listed = "; ".join(
        f"{item.words}: {agreement}" for item, agreement in zip(maps, found, strict=True)
    )
    if best is None:
        what = f"has {n_rows} rows for {n_frames} frames"
        if poses.are_rows_numbered:
            what = f"numbers its rows up to {n_rows - 1}, the video has {n_frames} frames"
        raise DataError(
            str(poses.path),
            f"{what}, and which belong together cannot be known ({listed})",
            "state it with --label-offset N: row i, or the row numbered i, is frame i + N; 0 if "
            "rows are missing at the end alone",
        )
    notes.append(
        f"{poses.path.name} has {n_rows} rows for {n_frames} frames: {best.words} ({listed})"
    )
    return best


def _read_features(info: VideoInfo, view: View, half: int, n_frames: int) -> NDArray[np.float32]:
    parts = [
        reduce_frames(np.stack(list(iterate_frames(info, view, frames, []))))
        for frames in (range(half), range(n_frames - half, n_frames))
    ]
    return np.concatenate(parts)
