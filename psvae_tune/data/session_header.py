"""Check the layout of a session file in full and return its header; no frame is read.

The layout is that of BehaveNet: groups ``images``, ``labels`` and, where there are any,
``labels_masks``, ``labels_sc`` and ``masks``, each with one dataset a clip, ``trial_0000`` and so
on. The file attribute ``label_names`` may name the labels, as a JSON list. Groups ``frame_index``
and ``time_s``, which BehaveNet does not know, say which frame of the video a frame is, and when.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from psvae_tune.data.label_names import read_label_names
from psvae_tune.data.recorded_view import read_views
from psvae_tune.data.session import SessionHeader
from psvae_tune.data.untrusted_hdf5 import HDF5_ERRORS, open_hdf5, piece_problem
from psvae_tune.errors import DataError


class _GroupRule(NamedTuple):
    """What one group must hold."""

    axes: str
    types: str
    """Regular expression of the NumPy types that are allowed, for example ``u1`` or ``f8``."""
    words: str
    """The same types for a message."""
    template: str = "images"
    """The group whose clips have as many rows, and the same shape unless these are labels."""


_FRAME_AXES = "frame, channel, y, x"
# Length of the last axis up to which that is of channels, if the second axis is longer.
_MAX_COLOURS = 4
_RULES = {
    "images": _GroupRule(_FRAME_AXES, "u1|f.*", "uint8, or float in [0, 1]"),
    "labels": _GroupRule("frame, label", "[fiu].*", "numbers"),
    "labels_masks": _GroupRule("frame, label", "[fiub].*", "0 or 1", "labels"),
    "labels_sc": _GroupRule("frame, label", "[fiu].*", "numbers", "labels"),
    "masks": _GroupRule(_FRAME_AXES, "[fiub].*", "0 or 1"),
    "frame_index": _GroupRule("frame", "[iu].*", "whole numbers"),
    "time_s": _GroupRule("frame", "[fiu].*", "seconds"),
}


class _ClipArray(NamedTuple):
    """Shape and type of one dataset."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class _Group(NamedTuple):
    """The clips of one group."""

    names: frozenset[str]
    """Names of all clips that are there."""
    clips: dict[str, _ClipArray]
    """The clips that follow the rule of the group."""


_NO_CLIPS = _Group(frozenset(), {})


class _LayoutError(ValueError):
    """One part of a file breaks its rule."""


def read_header(path: str | Path, *, needs_labels: bool) -> SessionHeader:
    """Read names, shapes and types, but no frame.

    Parameters
    ----------
    path
        An HDF5 file in the BehaveNet layout.
    needs_labels
        Whether a file without labels is refused.

    Raises
    ------
    DataError
        With everything that is wrong with the layout.
    """
    with open_hdf5(path) as file:
        return inspect_session(file, path, needs_labels=needs_labels)


def inspect_session(file: h5py.File, path: str | Path, *, needs_labels: bool) -> SessionHeader:
    """Check the layout of an open file; see `read_header`."""
    where = os.fspath(path)
    problems: list[str] = []
    required = {"images", "labels"} if needs_labels else {"images"}
    try:
        links = _list_links(file)
    except HDF5_ERRORS as error:
        raise DataError(where, f"cannot be read, got {error}") from error
    groups = {
        name: _read_group(file, name, rule, links, problems)
        for name, rule in _RULES.items()
        if name in required or name in links
    }
    problems += _layout_problems(groups)
    labels = list(groups.get("labels", _NO_CLIPS).clips.values())
    label_names = read_label_names(file, where, labels[0].shape[1], problems) if labels else ()
    if problems:
        hint = "store permute(x, ndims(x):-1:1)" if _are_reversed(groups) else None
        raise DataError(where, problems, hint)
    images = groups["images"].clips
    clip_names = sorted(images, key=clip_number)
    shapes = [images[name].shape for name in clip_names]
    n_channels, height, width = shapes[0][1:]
    return SessionHeader(
        path=where,
        clip_names=tuple(clip_names),
        clip_lengths=tuple(shape[0] for shape in shapes),
        n_channels=n_channels,
        height=height,
        width=width,
        label_names=label_names,
        has_label_masks="labels_masks" in groups,
        has_labels_sc="labels_sc" in groups,
        has_frame_masks="masks" in groups,
        has_float_frames=images[clip_names[0]].dtype.kind == "f",
        views=read_views(file),
        has_frame_index="frame_index" in groups,
        has_times="time_s" in groups,
    )


def clip_number(name: str) -> tuple[int, str]:
    """Sort clips by number: trial_9999 comes before trial_10000."""
    return int(name.removeprefix("trial_")), name


def _read_group(
    file: h5py.File,
    name: str,
    rule: _GroupRule,
    file_links: Mapping[str, int],
    problems: list[str],
) -> _Group:
    """Return shape and type of every clip of a group that follows its rule."""
    if name not in file_links:
        found = ", ".join(f"`{other}`" for other in sorted(file_links)[:10]) or "an empty file"
        problems.append(f"must have a group `{name}`, got {found}")
        return _NO_CLIPS
    names, clips = set(), {}
    with _noting_problems(f"`{name}`", problems):
        group = _open_member(file, name, h5py.Group, file_links)
        links = _list_links(group)
        if not links:
            raise _LayoutError("must hold at least one clip, got an empty group")
        for clip_name in sorted(links):
            with _noting_problems(f"`{name}/{clip_name}`", problems):
                if not re.fullmatch("trial_[0-9]{1,18}", clip_name):
                    raise _LayoutError("must be named trial_ and a number")
                names.add(clip_name)
                dataset = _open_member(group, clip_name, h5py.Dataset, links)
                clips[clip_name] = _check_clip(dataset, rule)
    return _Group(frozenset(names), clips)


@contextmanager
def _noting_problems(what: str, problems: list[str]) -> Iterator[None]:
    """Add to a list why one part of a file cannot be used."""
    try:
        yield
    except _LayoutError as error:
        problems.append(f"{what} {error}")
    except HDF5_ERRORS as error:
        problems.append(f"{what} cannot be read, got {error}")


def _list_links(group: h5py.Group) -> dict[str, int]:
    """Return the type of every link of a group, following none."""
    links: dict[str, int] = {}

    def note(name: bytes, info: Any) -> None:
        links[name.decode(errors="replace")] = info.type

    group.id.links.iterate(note, info=True)
    return links


def _open_member(parent: h5py.Group, name: str, kind: type, links: Mapping[str, int]) -> Any:
    """Return a group or a dataset that is no link to elsewhere."""
    if links[name] != h5py.h5l.TYPE_HARD:
        raise _LayoutError("must be stored in the file itself, got a link")
    member = parent[name]
    if not isinstance(member, kind):
        expected, found = kind.__name__.lower(), type(member).__name__.lower()
        raise _LayoutError(f"must be a {expected}, got a {found}")
    return member


def _check_clip(dataset: h5py.Dataset, rule: _GroupRule) -> _ClipArray:
    """Return shape and type of a dataset that holds a clip as the rule of its group says."""
    if dataset.is_virtual or dataset.external:
        # To read it would read the other file that it names, whatever that is.
        raise _LayoutError("must be stored in the file itself, got another file's data")
    if dataset.size and not dataset.id.get_storage_size():
        # HDF5 would make up the numbers, as many as are declared.
        raise _LayoutError("must hold what it declares, got nothing that was written")
    if problem := piece_problem(dataset):
        raise _LayoutError(problem)
    clip = _ClipArray(dataset.shape or (), dataset.dtype)
    if len(clip.shape) != rule.axes.count(",") + 1:
        raise _LayoutError(f"must have the axes [{rule.axes}], got the shape {clip.shape}")
    if not re.fullmatch(rule.types, f"{clip.dtype.kind}{clip.dtype.itemsize}"):
        raise _LayoutError(f"must be {rule.words}, got {clip.dtype}")
    if 0 in clip.shape:
        raise _LayoutError(f"must not be empty, got the shape {clip.shape}")
    if rule.axes == _FRAME_AXES and clip.shape[3] <= _MAX_COLOURS < clip.shape[1]:
        raise _LayoutError(f"must have the axes [{rule.axes}], got channels last: {clip.shape}")
    return clip


def _layout_problems(groups: Mapping[str, _Group]) -> Iterator[str]:
    """Yield what is wrong between clips that are each right."""
    images, labels = groups["images"], groups.get("labels", _NO_CLIPS)
    yield from _uneven(images, lambda clip: f"frames of shape {clip.shape[1:]}")
    yield from _uneven(images, lambda clip: f"{_word_dtype(clip)} frames")
    yield from _uneven(labels, lambda clip: f"{clip.shape[1]} labels")
    for name, group in groups.items():
        if name == "images" or not (group.names and images.names):
            continue
        for clip_name in sorted(images.names ^ group.names, key=clip_number):
            here, there = ("images", name) if clip_name in images.names else (name, "images")
            yield f"clip `{clip_name}` is in `{here}` but not in `{there}`"
        yield from _unlike(name, groups)


def _are_reversed(groups: Mapping[str, _Group]) -> bool:
    """Return whether axes seem to be in the order of MATLAB, which is the reverse."""
    images, labels = groups["images"].clips, groups.get("labels", _NO_CLIPS).clips
    return any(
        images[name].shape[0] != labels[name].shape[0]
        and images[name].shape[3] == labels[name].shape[1]
        for name in images.keys() & labels.keys()
    )


def _word_dtype(clip: _ClipArray) -> str:
    return "uint8" if clip.dtype.kind == "u" else "float"


def _uneven(group: _Group, measure: Callable[[_ClipArray], str]) -> Iterator[str]:
    """Yield the clips that differ from the first."""
    clip_names = sorted(group.clips, key=clip_number)
    for clip_name in clip_names[1:]:
        expected, found = measure(group.clips[clip_names[0]]), measure(group.clips[clip_name])
        if found != expected:
            yield f"clip `{clip_name}` must have {expected} like `{clip_names[0]}`, got {found}"


def _unlike(name: str, groups: Mapping[str, _Group]) -> Iterator[str]:
    """Yield the clips whose shape does not fit that of their frames or labels."""
    template = _RULES[name].template
    has_other_axes = _RULES[name].axes != _RULES[template].axes
    what = "label rows" if name == "labels" else f"rows in `{name}`"
    if template not in groups:
        yield f"`{name}` must come with a group `{template}`"
        return
    clips, templates = groups[name].clips, groups[template].clips
    for clip_name in sorted(clips.keys() & templates.keys(), key=clip_number):
        shape, expected = clips[clip_name].shape, templates[clip_name].shape
        if has_other_axes:
            if shape[0] != expected[0]:
                yield f"clip `{clip_name}` has {expected[0]} frames but {shape[0]} {what}"
        elif shape != expected:
            yield (
                f"`{name}/{clip_name}` must have the shape {expected} of "
                f"`{template}/{clip_name}`, got {shape}"
            )
