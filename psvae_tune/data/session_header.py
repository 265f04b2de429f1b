"""What a session file says of itself, checked in full before any frame is read.

The BehaveNet layout: groups ``images``, ``labels`` and, where there are any, ``labels_masks``,
``labels_sc`` and ``masks``, each with one dataset a clip, ``trial_0000`` and so on; names of
the labels in the file attribute ``label_names``, a JSON list.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from psvae_tune.data.session import SessionHeader
from psvae_tune.data.untrusted_hdf5 import HDF5_ERRORS, open_hdf5, piece_problem, rehearse_texts
from psvae_tune.errors import DataError, RecordingNotFoundError, StorageError

MAX_LABELS = 10_000
MAX_NAME_LENGTH = 100
"""Of a label; MLflow allows 250 characters for the name of a metric that contains it."""


class _GroupRule(NamedTuple):
    """What one group must hold."""

    axes: str
    kinds: str
    """Letters of the NumPy kinds allowed."""
    words: str
    """The same for a message."""
    template: str = "images"
    """The group whose clips have as many rows, and but for labels the same shape."""


_LAYOUTS = {
    "images": _GroupRule("frame, channel, y, x", "uf", "uint8, or float in [0, 1]"),
    "labels": _GroupRule("frame, label", "fiu", "numbers"),
    "labels_masks": _GroupRule("frame, label", "fiub", "0 or 1", "labels"),
    "labels_sc": _GroupRule("frame, label", "fiu", "numbers", "labels"),
    "masks": _GroupRule("frame, channel, y, x", "fiub", "0 or 1"),
}
_TIMES = _GroupRule("frame", "fiu", "seconds")


class _ClipArray(NamedTuple):
    """Shape and type of one dataset."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class _Group(NamedTuple):
    """The clips of one group."""

    names: frozenset[str]
    """All that are there."""
    clips: dict[str, _ClipArray]
    """Those that are as they should be."""


_NO_CLIPS = _Group(frozenset(), {})


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
    with open_session(path) as file:
        return inspect_session(file, path, needs_labels=needs_labels)


def open_session(path: str | Path) -> h5py.File:
    """Open a session file for reading, here or behind a URL.

    Raises
    ------
    DataError
        If it is missing, unreadable, no HDF5 file, or cut short.
    """
    where = os.fspath(path)
    if os.path.isdir(path):
        raise DataError(where, "must be an HDF5 file, got a folder")
    if os.path.exists(path) and not os.path.isfile(path):
        # To open one could wait for ever.
        raise DataError(where, "must be an HDF5 file, got a pipe or a device")
    try:
        return open_hdf5(where)
    except StorageError as error:
        raise DataError(where, error.problems, error.hint) from error
    except FileNotFoundError:
        raise RecordingNotFoundError(where, "no such file") from None
    except ValueError as error:  # a NUL, or half a character
        raise DataError(where, f"must be a path: {error}") from error
    except PermissionError:
        raise DataError(where, "no permission to read this file") from None
    except OSError as error:
        if "signature not found" in str(error):
            raise DataError(where, "must be an HDF5 file, got something else") from None
        if "truncated" in str(error):
            hint = "copy it again from where it came"
            raise DataError(where, "the file is cut short", hint) from None
        raise DataError(where, f"cannot be opened, got {error}") from error


def inspect_session(file: h5py.File, path: str | Path, *, needs_labels: bool) -> SessionHeader:
    """Check the layout of an open file; see `read_header`."""
    problems: list[str] = []
    required = {"images", "labels"} if needs_labels else {"images"}
    try:
        links = _list_links(file)
    except HDF5_ERRORS as error:
        raise DataError(os.fspath(path), f"cannot be read, got {error}") from error
    groups = {
        name: _read_group(file, name, layout, links, problems)
        for name, layout in _LAYOUTS.items()
        if name in required or name in links
    }
    problems += _layout_problems(groups)
    label_names = _read_label_names(
        file, os.fspath(path), groups.get("labels", _NO_CLIPS), problems
    )
    if problems:
        raise DataError(os.fspath(path), problems)
    images = groups["images"].clips
    clip_names = sorted(images, key=clip_number)
    shapes = [images[name].shape for name in clip_names]
    n_channels, height, width = shapes[0][1:]
    return SessionHeader(
        path=os.fspath(path),
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
    )


def clip_number(name: str) -> tuple[int, str]:
    """Sort clips by number: trial_9999 comes before trial_10000."""
    return int(name.removeprefix("trial_")), name


def holds_times(file: h5py.File, header: SessionHeader) -> bool:
    """Return whether a file holds the time of every frame, as `data import` writes them.

    No study needs them, so a group `times` of any other kind is no mistake.
    """
    problems: list[str] = []
    group = _read_group(file, "times", _TIMES, _list_links(file), problems)
    lengths = dict(zip(header.clip_names, header.clip_lengths, strict=True))
    return not problems and lengths == {name: clip.shape[0] for name, clip in group.clips.items()}


def _read_group(
    file: h5py.File,
    name: str,
    layout: _GroupRule,
    file_links: Mapping[str, int],
    problems: list[str],
) -> _Group:
    """Return shape and type of every clip of a group that is as it should be."""
    if name not in file_links:
        found = ", ".join(f"`{other}`" for other in sorted(file_links)[:10]) or "an empty file"
        problems.append(f"must have a group `{name}`, got {found}")
        return _NO_CLIPS
    if file_links[name] != h5py.h5l.TYPE_HARD:
        problems.append(f"`{name}` must be stored in the file itself, got a link")
        return _NO_CLIPS
    try:
        group = file[name]
        if not isinstance(group, h5py.Group):
            problems.append(f"`{name}` must be a group, got a {type(group).__name__.lower()}")
            return _NO_CLIPS
        links = _list_links(group)
    except HDF5_ERRORS as error:
        problems.append(f"`{name}` cannot be read, got {error}")
        return _NO_CLIPS
    if not links:
        problems.append(f"`{name}` must hold at least one clip, got an empty group")
    names, clips = set(), {}
    for clip_name in sorted(links):
        what = f"`{name}/{clip_name}`"
        if not re.fullmatch("trial_[0-9]{1,18}", clip_name):
            problems.append(f"{what} must be named trial_ and a number")
            continue
        names.add(clip_name)
        if links[clip_name] != h5py.h5l.TYPE_HARD:
            problems.append(f"{what} must be stored in the file itself, got a link")
        elif (clip := _read_clip_array(group, clip_name, what, layout, problems)) is not None:
            clips[clip_name] = clip
    return _Group(frozenset(names), clips)


def _list_links(group: h5py.Group) -> dict[str, int]:
    """Return the type of every link of a group, following none."""
    links: dict[str, int] = {}

    def note(name: bytes, info: Any) -> None:
        links[name.decode(errors="replace")] = info.type

    group.id.links.iterate(note, info=True)
    return links


def _read_clip_array(
    group: h5py.Group, clip_name: str, what: str, layout: _GroupRule, problems: list[str]
) -> _ClipArray | None:
    try:
        dataset = group[clip_name]
        if not isinstance(dataset, h5py.Dataset):
            problems.append(f"{what} must be a dataset, got a {type(dataset).__name__.lower()}")
            return None
        if dataset.is_virtual or dataset.external:
            # Reading it would read whatever other file it names.
            problems.append(f"{what} must be stored in the file itself, got another file's data")
            return None
        if dataset.size and not dataset.id.get_storage_size():
            # HDF5 would make up the numbers, as many as are declared.
            problems.append(f"{what} must hold what it declares, got nothing that was written")
            return None
        if problem := piece_problem(dataset):
            problems.append(f"{what} {problem}")
            return None
        clip = _ClipArray(dataset.shape or (), dataset.dtype)
    except HDF5_ERRORS as error:
        problems.append(f"{what} cannot be read, got {error}")
        return None
    if len(clip.shape) != layout.axes.count(",") + 1:
        problems.append(f"{what} must have the axes [{layout.axes}], got the shape {clip.shape}")
        return None
    if clip.dtype.kind not in layout.kinds or (
        layout is _LAYOUTS["images"] and clip.dtype.kind == "u" and clip.dtype.itemsize != 1
    ):
        problems.append(f"{what} must be {layout.words}, got {clip.dtype}")
        return None
    if 0 in clip.shape:
        problems.append(f"{what} must not be empty, got the shape {clip.shape}")
        return None
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
    template = _LAYOUTS[name].template
    if template not in groups:
        yield f"`{name}` must come with a group `{template}`"
        return
    clips, templates = groups[name].clips, groups[template].clips
    for clip_name in sorted(clips.keys() & templates.keys(), key=clip_number):
        shape, expected = clips[clip_name].shape, templates[clip_name].shape
        if name == "labels":
            if shape[0] != expected[0]:
                yield f"clip `{clip_name}` has {expected[0]} frames but {shape[0]} label rows"
        elif shape != expected:
            yield (
                f"`{name}/{clip_name}` must have the shape {expected} of "
                f"`{template}/{clip_name}`, got {shape}"
            )


def _read_label_names(
    file: h5py.File, path: str, labels: _Group, problems: list[str]
) -> tuple[str, ...]:
    """Return the names of the labels: those in the file, or numbers."""
    if not labels.clips:
        return ()
    n_labels = next(iter(labels.clips.values())).shape[1]
    if n_labels > MAX_LABELS:
        problems.append(f"must have at most {MAX_LABELS} labels, got {n_labels}")
        return ()
    stored: Any = None
    try:
        rehearse_texts(file, path, everywhere=False)
        stored = file.attrs.get("label_names")
        stored = stored.decode() if isinstance(stored, bytes) else stored
        names = [f"label_{index}" for index in range(n_labels)]
        if stored is not None:
            names = json.loads(stored)
    except (*HDF5_ERRORS, RecursionError):
        names = []
    if not (
        names and isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    ):
        problems.append(
            f"attribute `label_names` must be a JSON list of names, got {stored!r:.80}"
        )
        return ()
    problems += [
        f"attribute `label_names` must hold names of up to {MAX_NAME_LENGTH} letters, digits and "
        f"signs, got {name!r:.80}"
        for name in names
        if len(name) > MAX_NAME_LENGTH or not name.isprintable()
    ]
    if len(names) != n_labels:
        problems.append(f"attribute `label_names` must name {n_labels} labels, got {len(names)}")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"attribute `label_names` must not repeat a name, got {repeated}")
    return tuple(names)
