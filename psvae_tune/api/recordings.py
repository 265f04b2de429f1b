"""Recordings: read, or imported from videos and poses.

Every function imports what it needs when it is called, so that `import psvae_tune` stays quick.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from psvae_tune.api.arguments import names_nearest_argument

if TYPE_CHECKING:
    from psvae_tune.data.importers.request import FrameRange
    from psvae_tune.data.session import Session
    from psvae_tune.data.video import Crop


@names_nearest_argument
def read_session(path: Path | str) -> "Session":
    """Read a recording into memory.

    Parameters
    ----------
    path
        Path or URL of an HDF5 file in the layout of BehaveNet, or ``demo`` for a generated one.
        A recording that is larger than the free memory stays in its file.

    Returns
    -------
    Session
        ``frames`` (frame, channel, height, width), uint8 or floats in [0, 1]; ``labels``
        (frame, label) in the user's units; ``header`` with names, sizes and clips.

    Raises
    ------
    DataError
        If the file is no such recording, or holds values that cannot be used.

    Examples
    --------
    >>> import psvae_tune as pt
    >>> session = pt.read_session("demo")
    >>> session.frames.shape
    (1600, 1, 32, 32)
    >>> session.header.label_names
    ('paw_left_x', 'paw_right_x', 'paw_left_y', 'paw_right_y')
    """
    from psvae_tune.data.demo import session_path
    from psvae_tune.data.session_file import read_session as read

    return read(session_path(str(path)), needs_labels=False)


@names_nearest_argument
def import_session(
    videos: Path | str | Sequence[Path | str],
    poses: Path | str | Sequence[Path | str] = (),
    output: Path | str = "session.h5",
    *,
    overwrite: bool = False,
    size: tuple[int, int] | None = None,
    crops: "Sequence[Crop]" = (),
    colour: bool = False,
    frames: "FrameRange | tuple[int, int | None, int] | None" = None,
    clip_length: int | None = None,
    tracks: Sequence[str] = (),
    keypoints: Sequence[Sequence[str]] = (),
    min_likelihood: float | None = None,
    label_offset: int | None = None,
    extra_labels: Sequence[Path | str] = (),
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Make a recording of videos and of the files that a pose tracker wrote.

    Parameters
    ----------
    videos
        One video a camera. Several cameras become channels.
    poses
        Pose file of the first video, of the second, and so on.
    output
        HDF5 file to write. An import that was interrupted goes on.
    overwrite
        Whether an existing file is replaced.
    size
        Width and height of the stored frames in pixels; by default 128 at the longer side.
    crops
        Part of the frames to keep, once or once a video: (width, height, x, y) in pixels.
    colour
        Whether each camera gives three channels instead of a grey one.
    frames
        First frame, last frame (left out) and step.
    clip_length
        Frames of a clip; by default up to 100.
    tracks
        Animals to take from files that hold several; ``all`` takes all.
    keypoints
        Body parts to take, once or once a pose file; by default all.
    min_likelihood
        Labels of a lower likelihood are masked; by default 0.9, and 0 for SLEAP and LEAP.
    label_offset
        Row i of the pose files, or the row numbered i, belongs to frame i + offset; by default
        it is found out.
    extra_labels
        CSV files with further labels.
    progress
        Called after every clip with the number of stored frames.

    Returns
    -------
    Path
        The recording.

    Raises
    ------
    DataError
        If a file cannot be used, or its rows cannot be matched to frames.
    ConfigError
        If an option asks for something that is not there.
    StorageError
        If the output exists, or cannot be written.

    Examples
    --------
    >>> import psvae_tune as pt
    >>> pt.import_session("mouse.mp4", "mouseDLC.csv", "mouse.h5")  # doctest: +SKIP
    PosixPath('mouse.h5')
    """
    from psvae_tune.data.importers.plan import plan_import
    from psvae_tune.data.importers.request import FrameRange, make_request
    from psvae_tune.data.importers.write import check_output
    from psvae_tune.data.importers.write import import_session as write

    request = make_request(
        _as_paths(videos),
        _as_paths(poses),
        crops=crops,
        tracks=tracks,
        keypoints=keypoints,
        size=size,
        is_colour=colour,
        frames=FrameRange(*(frames or ())),
        clip_length=clip_length,
        min_likelihood=min_likelihood,
        label_offset=label_offset,
        extra_labels=_as_paths(extra_labels),
    )
    path = Path(output)
    check_output(path, overwrite)
    write(plan_import(request), path, replaces=overwrite, progress=progress)
    return path


def _as_paths(items: Path | str | Sequence[Path | str]) -> tuple[Path, ...]:
    return tuple(map(Path, [items] if isinstance(items, Path | str) else items))
