"""Recordings that were written by hand, in ways that HDF5 allows and studies do not."""

import json

import h5py
import numpy as np
import pytest

from psvae_tune.data.importers.read_poses import read_poses
from psvae_tune.data.quality_findings import find_issues
from psvae_tune.data.quality_measures import measure_session
from psvae_tune.data.session_file import read_session
from psvae_tune.errors import DataError
from tests.data.conftest import CLIP_LENGTHS


def problems_of(path):
    """Return what a study says about a recording: nothing, or why it refuses it."""
    try:
        read_session(path, needs_labels=True)
    except DataError as error:
        return list(error.problems)
    return []


def replace(group, change):
    """Have every clip of a group be what ``change`` makes of it."""

    def edit(file):
        for name in list(file[group]):
            array = file[group][name][()]
            del file[group][name]
            file[group][name] = change(array)

    return edit


def put(group, value, clip="trial_0001"):
    def edit(file):
        replace(group, lambda array: array)(file)
        file[group][clip][2, ...] = value

    return edit


def as_floats(value):
    def edit(file):
        replace("images", lambda frames: frames / 255)(file)
        file["images/trial_0001"][2, 0, 1, 3] = value

    return edit


def without_masks(file):
    del file["labels_masks"]
    file["labels/trial_0002"][3, 1] = np.nan


@pytest.mark.parametrize(
    "edit",
    [
        without_masks,
        put("labels", np.inf),
        put("labels_sc", np.nan),
        put("labels_masks", 0.5),
        put("labels_masks", np.nan),
        put("masks", 2),
        as_floats(1.5),
        as_floats(np.nan),
    ],
)
def test_what_a_study_would_refuse_is_found_by_the_check(make_file, edit):
    path = make_file(edit)
    refused = problems_of(path)
    assert refused
    measures = measure_session(str(path))
    assert list(measures.problems) == refused
    finding = next(item for item in find_issues(measures) if item.about == "values")
    assert finding.level == "bad"
    assert finding.text.startswith(refused[0])


@pytest.mark.parametrize(
    "edit", [lambda file: None, lambda file: file.__delitem__("labels_masks"), as_floats(1.0)]
)
def test_the_check_finds_no_wrong_value_where_a_study_finds_none(make_file, edit):
    path = make_file(edit)
    assert problems_of(path) == []
    findings = find_issues(measure_session(str(path)))
    assert [item.level for item in findings if item.about == "values"] == ["good"]


@pytest.mark.parametrize("n_channels", [1, 3])
def test_channels_in_the_last_place_are_refused(make_file, n_channels):
    frames = np.zeros((4, 40, 30, n_channels), np.uint8)

    def edit(file):
        del file["masks"]
        replace("images", lambda array: np.resize(frames, (len(array), *frames.shape[1:])))(file)

    path = make_file(edit)
    with pytest.raises(DataError, match=r"got channels last: \(5, 40, 30, "):
        measure_session(str(path))
    with pytest.raises(DataError, match=r"got channels last: \(5, 40, 30, "):
        read_session(path, needs_labels=True)


def test_axes_of_matlab_are_refused_with_what_to_store(make_file):
    def edit(file):
        for group in list(file):
            replace(group, lambda array: array.transpose().copy())(file)

    with pytest.raises(DataError) as caught:
        read_session(make_file(edit), needs_labels=True)
    assert "permute" in caught.value.hint


def pack(file, name, array, number):
    """Store an array that claims to be packed by a filter."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk(array.shape)
    layout.set_filter(number, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple(array.shape)
    kind = h5py.h5t.py_create(array.dtype)
    stored = h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=layout)
    stored.write_direct_chunk((0,) * array.ndim, array.tobytes(), 0)


@pytest.mark.parametrize(("number", "name"), [(32001, "blosc"), (32015, "zstd"), (31999, "31999")])
def test_a_filter_that_is_not_installed_is_named(make_file, tmp_path, number, name):
    def edit(file):
        frames = file["images/trial_0001"][()]
        del file["images/trial_0001"]
        pack(file, "images/trial_0001", frames, number)

    path = make_file(edit)
    for read in (
        lambda: read_session(path, needs_labels=True),
        lambda: measure_session(str(path)),
    ):
        with pytest.raises(
            DataError, match=rf"`images/trial_0001` is packed by .*{name}"
        ) as found:
            read()
        assert "hdf5plugin" in str(found.value)
        assert "damaged" not in str(found.value)
    with h5py.File(tmp_path / "pose.h5", "w") as file:
        pack(file, "keypoints", np.ones((5, 2, 3)), number)
    with pytest.raises(DataError, match=rf"`/keypoints` is packed by .*{name}"):
        read_poses(tmp_path / "pose.h5")


NAMES = ["paw_x", "paw_y"]


@pytest.mark.parametrize(
    "names",
    [
        json.dumps(NAMES),
        json.dumps(NAMES).encode(),
        np.array(NAMES, h5py.string_dtype()),
        np.array(NAMES, "S"),
    ],
)
def test_names_of_labels_may_be_json_or_an_array(make_file, names):
    path = make_file(lambda file: file.attrs.__setitem__("label_names", names))
    session = read_session(path, needs_labels=True)
    assert session.header.label_names == tuple(NAMES)
    assert session.header.clip_lengths == tuple(CLIP_LENGTHS)


@pytest.mark.parametrize("names", [np.array([["paw_x", "paw_y"]], "S"), np.array([b"\xff", b"a"])])
def test_names_of_labels_that_are_none_are_refused(make_file, names):
    path = make_file(lambda file: file.attrs.__setitem__("label_names", names))
    with pytest.raises(DataError, match="label_names"):
        read_session(path, needs_labels=True)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda array: array.astype(array.dtype.newbyteorder(">")), {}),
        (lambda array: array, {"compression": "lzf"}),
        (lambda array: array, {"compression": "gzip", "shuffle": True, "fletcher32": True}),
    ],
)
def test_other_ways_to_store_the_same_give_the_same(make_file, change, options):
    plain = read_session(make_file(), needs_labels=True)

    def edit(file):
        for group in list(file):
            for name in list(file[group]):
                array = change(file[group][name][()])
                del file[group][name]
                file[group].create_dataset(name, data=array, **options)

    assert read_session(make_file(edit), needs_labels=True).digest == plain.digest
