"""Hold which part of a video a recording shows, so that a model can be shown the same part."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import h5py

from psvae_tune.data.untrusted_hdf5 import HDF5_ERRORS

_MAX_SIDE = 2**20


@dataclass(frozen=True, slots=True)
class RecordedView:
    """The part of one camera's video that was stored, in pixels of the video as it is shown."""

    video_size: tuple[int, int]
    """Width and height of the video."""
    crop: tuple[int, int, int, int]
    """Width, height, x and y."""
    is_colour: bool

    @property
    def is_whole(self) -> bool:
        """Whether the whole video was stored."""
        return self.crop == (*self.video_size, 0, 0)


def to_plain(views: Sequence[RecordedView]) -> list[dict[str, Any]]:
    """Return views as data that JSON can hold."""
    return [asdict(view) for view in views]


def from_plain(raw: Any) -> tuple[RecordedView, ...]:
    """Return the views that `to_plain` made plain.

    Raises
    ------
    ValueError
        If they are something else.
    """
    if not isinstance(raw, list):
        raise ValueError(f"must be a list of views, got {raw!r:.80}")
    return tuple(_parse(item) for item in raw)


def _parse(raw: Any) -> RecordedView:
    try:
        view = RecordedView(tuple(raw["video_size"]), tuple(raw["crop"]), raw["is_colour"])
        numbers = (*view.video_size, *view.crop)
        (video_width, video_height), (width, height, x, y) = view.video_size, view.crop
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"must be a view of a video, got {raw!r:.80}") from error
    are_sizes = all(type(number) is int and 0 <= number < _MAX_SIDE for number in numbers)
    if (
        not are_sizes
        or type(view.is_colour) is not bool
        or not (0 < width <= video_width - x and 0 < height <= video_height - y)
    ):
        raise ValueError(f"must be a view within a video, got {raw!r:.80}")
    return view


def read_views(file: h5py.File) -> tuple[RecordedView, ...]:
    """Return the views that `data import` noted in a recording, one a camera; none if unknown.

    Only a text of a fixed length is read, because reading another one may never end.
    """
    try:
        if "views" in file.attrs and file.attrs.get_id("views").dtype.kind == "S":
            return from_plain(json.loads(file.attrs["views"]))
    except (*HDF5_ERRORS, RecursionError):
        pass
    return ()
