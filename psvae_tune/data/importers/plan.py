"""Plan an import: read the pose files, look into the videos, and check all before writing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.importers.extra_labels import ExtraLabels, read_extra_labels
from psvae_tune.data.importers.labels import FrameLabels, join_labels, leave_out_ends, read_labels
from psvae_tune.data.importers.request import ALL_FRAMES, ImportRequest
from psvae_tune.data.label_scaler import flat_label_problems
from psvae_tune.data.recorded_view import RecordedView, to_plain
from psvae_tune.data.video import Crop, VideoInfo, View, probe_video
from psvae_tune.errors import ConfigError, DataError
from psvae_tune.files import sha256

LONG_SIDE = 128
"""Pixels of the longer side of stored frames, where no size is asked for."""
# Sides are rounded to a multiple of half of 32, the factor of the default network's layers.
_SIDE_MULTIPLE = 16
CLIP_LENGTH = 100
"""Frames in a clip, as in the published fits; fewer where that would leave too few clips."""
MIN_CLIPS = 20
"""Clips that a session gets at least, if no length is asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class ImportPlan:
    """The session that an import will write, but for its frames."""

    videos: tuple[VideoInfo, ...]
    views: tuple[View, ...]
    frames: range
    clip_lengths: tuple[int, ...]
    arrays: Mapping[str, NDArray[Any]]
    """Array of shape (frame, …) for each group of the file but ``images``."""
    attributes: Mapping[str, str | float]
    """Attributes of the file."""
    sources: tuple[dict[str, str], ...]
    """Name and SHA-256 of every file that the session is made of."""
    notes: tuple[str, ...]
    """Assumptions that were made, for a person to agree with."""

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(channel, height, width)."""
        channels = sum(view.n_channels for view in self.views)
        return channels, self.views[0].height, self.views[0].width


def plan_import(request: ImportRequest) -> ImportPlan:
    """Read the pose files, look into the videos, and decide everything.

    Raises
    ------
    DataError
        If a file cannot be used, or it cannot be known which row belongs to which frame.
    ConfigError
        If an option asks for what is not there.
    """
    notes: list[str] = []
    videos = tuple(probe_video(source.video) for source in request.sources)
    views = _make_views(request, videos)
    frames = _choose_frames(request, videos)
    _note_videos(videos, notes)
    points = _read_points(request, videos, views, notes)
    if points.names and request.frames == ALL_FRAMES:
        frames = leave_out_ends(frames, points.masks, notes)
    extra = [
        read_extra_labels(path, videos[0].n_frames, videos[0].times)
        for path in request.extra_labels
    ]
    names, values, masks = _take(frames, points, extra)
    arrays = _make_origin_arrays(frames, videos[0])
    if names:
        arrays |= _make_label_arrays(values, masks, bool(extra), notes)
    else:
        notes.append("no pose file: only models without labels can be fitted")
    sources = _hash_sources(request)
    attributes: dict[str, str | float] = {
        "label_names": json.dumps(names),
        "labels_units": "pixels of stored frame",
        "label_cameras": json.dumps(points.cameras + (0,) * (len(names) - len(points.names))),
        "n_cameras": len(videos),
        "views": json.dumps(to_plain(_record_views(videos, views))),
        "fps": videos[0].fps / frames.step,
        "sources": json.dumps(sources),
        "frames": f"{frames.start}:{frames.stop}:{frames.step}",
        "notes": json.dumps(notes),
    }
    lengths = cut_clips(len(frames), request.clip_length)
    return ImportPlan(videos, views, frames, lengths, arrays, attributes, sources, tuple(notes))


def _read_points(
    request: ImportRequest, videos: Sequence[VideoInfo], views: Sequence[View], notes: list[str]
) -> FrameLabels:
    """Read the pose files of all cameras."""
    labels = [
        read_labels(source, info, view, request, notes)
        for source, info, view in zip(request.sources, videos, views, strict=True)
        if source.poses is not None
    ]
    n_frames = min(info.n_frames for info in videos)
    return join_labels([source for source in request.sources if source.poses], labels, n_frames)


def _make_origin_arrays(frames: range, info: VideoInfo) -> dict[str, NDArray[Any]]:
    """Return the groups that say which frames of a video are stored, and their times."""
    chosen = np.array(frames)
    arrays: dict[str, NDArray[Any]] = {"frame_index": chosen}
    if info.time_s is not None:
        arrays["time_s"] = info.time_s[chosen]
    return arrays


def _make_label_arrays(
    values: NDArray[np.float64], masks: NDArray[np.bool_], has_extra: bool, notes: list[str]
) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of the groups that hold labels."""
    arrays = {"labels": values.astype(np.float32), "labels_masks": masks.astype(np.float32)}
    if has_extra:
        notes.append("`labels_sc` is left out: not every label is a place in the frame")
    else:
        arrays["labels_sc"] = np.where(masks, values, 0).astype(np.float32)
    notes.append(f"{1 - masks.mean():.1%} of the label values are masked")
    return arrays


def _hash_sources(request: ImportRequest) -> tuple[dict[str, str], ...]:
    """Return name and SHA-256 of every file that the session is made of."""
    videos = [source.video for source in request.sources]
    poses = [source.poses for source in request.sources if source.poses]
    files = dict.fromkeys([*videos, *poses, *request.extra_labels])
    return tuple({"name": path.name, "sha256": sha256(path)} for path in files)


def _take(
    frames: range, points: FrameLabels, extra: Sequence[ExtraLabels]
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.bool_]]:
    """Return names, values and masks of all labels in the frames that are stored."""
    chosen = np.array(frames)
    names = points.names + tuple(name for item in extra for name in item.names)
    values = [points.values[chosen], *(item.values[chosen] for item in extra)]
    masks = [points.masks[chosen], *(item.masks[chosen] for item in extra)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError("labels", f"must have names of their own, got {', '.join(repeated)} twice")
    joined = np.concatenate(values, axis=1), np.concatenate(masks, axis=1)
    if problems := flat_label_problems(names, *joined):
        hint = "leave it out with --keypoints, or lower --min-likelihood"
        raise DataError("labels", problems, hint)
    return names, *joined


def cut_clips(n_frames: int, clip_length: int | None) -> tuple[int, ...]:
    """Return the lengths of the clips that a session is cut into.

    Frames that are left over make a shorter clip, or a longer last one if they are few.

    Raises
    ------
    ConfigError
        If there are fewer frames than one clip needs.
    """
    length = clip_length or max(1, min(CLIP_LENGTH, n_frames // MIN_CLIPS))
    if n_frames < length:
        raise ConfigError("--clip-length", f"must not exceed the {n_frames} frames, got {length}")
    n_clips, left = divmod(n_frames, length)
    lengths = [length] * n_clips
    if 2 * left >= length:
        lengths.append(left)
    else:
        lengths[-1] += left
    return tuple(lengths)


def _make_views(request: ImportRequest, videos: Sequence[VideoInfo]) -> tuple[View, ...]:
    crops = []
    for source, info in zip(request.sources, videos, strict=True):
        crop = source.crop or info.whole
        if crop.x + crop.width > info.width or crop.y + crop.height > info.height:
            asked = f"{crop.width}x{crop.height}+{crop.x}+{crop.y}"
            problem = f"must lie within {info.width}x{info.height}, got {asked}"
            raise ConfigError("--crop", f"{problem} for {info.path.name}")
        crops.append(crop)
    width, height = request.size or _default_size(crops[0])
    return tuple(View(crop, width, height, request.is_colour) for crop in crops)


def _record_views(videos: Sequence[VideoInfo], views: Sequence[View]) -> list[RecordedView]:
    """Return which part of each video is stored, for models to be shown the same."""
    recorded = []
    for info, view in zip(videos, views, strict=True):
        width, height, x, y = view.crop
        size = (info.width, info.height)
        recorded.append(RecordedView(size, (width, height, x, y), view.is_colour))
    return recorded


def _default_size(crop: Crop) -> tuple[int, int]:
    scale = LONG_SIDE / max(crop.width, crop.height)
    sides = (crop.width * scale, crop.height * scale)
    width, height = (
        max(_SIDE_MULTIPLE, round(side / _SIDE_MULTIPLE) * _SIDE_MULTIPLE) for side in sides
    )
    return width, height


def _choose_frames(request: ImportRequest, videos: Sequence[VideoInfo]) -> range:
    lengths = sorted({info.n_frames for info in videos})
    frames = range(lengths[0])[slice(*request.frames)]
    asked = request.frames.stop
    if asked is not None and asked > lengths[0]:
        problem = f"must end at {lengths[0]} at most, the frames of the video, got {asked}"
        raise ConfigError("--frames", problem)
    if asked is None:
        counts = ", ".join(f"{info.n_frames} in {info.path.name}" for info in videos)
        if len(lengths) > 1:
            hint = f"if they start together, take what all have with --frames 0:{lengths[0]}"
            raise DataError("videos", f"must have the same number of frames, got {counts}", hint)
        for info in videos:
            if info.n_declared > info.n_frames:
                problem = f"breaks off: it has {info.n_frames} of {info.n_declared} frames"
                hint = "copy it again; the frames before the break may be good: --frames 0:N"
                raise DataError(str(info.path), problem, hint)
    if not frames:
        raise ConfigError("--frames", f"chooses none of the {lengths[0]} frames")
    return frames


def _note_videos(videos: Sequence[VideoInfo], notes: list[str]) -> None:
    for info in videos:
        if info.turn:
            notes.append(
                f"{info.path.name} asks to be turned by {info.turn} degrees when it is shown: its "
                "frames are stored as they are shown, and poses are taken to be of shown frames"
            )
        if info.n_before_key:
            notes.append(
                f"{info.path.name} begins between key frames: {info.n_before_key} frames before "
                "the first cannot be decoded and do not count, as for trackers"
            )
        if info.stamps is None:
            notes.append(
                f"{info.path.name}: {info.stamp_problem}; its frames are numbered in the order of "
                "the file and have no times"
            )
        if info.n_uneven:
            notes.append(
                f"{info.path.name} has a variable frame rate or dropped frames: "
                f"{info.n_uneven} of {info.n_frames - 1} steps differ from 1/{info.fps:g} s; rows "
                "are matched to frames by number, unless there is one for every step"
            )
    if (apart := _time_apart(videos)) > 0.5 / videos[0].fps:
        notes.append(
            f"the time stamps of the videos differ by up to {apart:.3g} s: `time_s` is that of "
            f"{videos[0].path.name}"
        )


def _time_apart(videos: Sequence[VideoInfo]) -> float:
    """Return the most seconds between frames of one number in the first and another video.

    It is 0 where the first has no times.
    """
    first, *others = (info.time_s for info in videos)
    n_frames = min(info.n_frames for info in videos)
    apart = [
        float(abs(other[:n_frames] - first[:n_frames]).max())
        for other in others
        if first is not None and other is not None
    ]
    return max(apart, default=0.0)
