import contextlib
import re

import h5py
import numpy as np
import pytest

from psvae_tune.data.session_file import ExtraGroup, read_session, write_session
from psvae_tune.errors import DataError
from tests.support.recordings import set_value, store_float_frames


def read_group(path, name):
    """Read the plain way, as an oracle."""
    with h5py.File(path) as file:
        return np.concatenate([file[name][clip][()] for clip in sorted(file[name])])


def flatten_label(file):
    for clip in file["labels"].values():
        clip[:, 1] = 3.5


def mask_label(file):
    for clip in file["labels_masks"].values():
        clip[:, 1] = 0


BAD_VALUES = {
    "label nan": (
        set_value("labels/trial_0001", (2, 1), np.nan),
        "clip `trial_0001` must have `paw_y` in `labels` or 0 in `labels_masks`, "
        "got nan in frame 2",
    ),
    "label inf": (
        set_value("labels/trial_0002", (4, 0), -np.inf),
        "clip `trial_0002` must have `paw_x` in `labels` or 0 in `labels_masks`, "
        "got -inf in frame 4",
    ),
    "labels_sc nan": (
        set_value("labels_sc/trial_0001", (2, 1), np.nan),
        "clip `trial_0001` must have `paw_y` in `labels_sc` or 0 in `labels_masks`",
    ),
    "label mask": (
        set_value("labels_masks/trial_0000", (0, 0), 0.5),
        "`labels_masks/trial_0000` must be 0 or 1, got 0.5",
    ),
    "label mask nan": (
        set_value("labels_masks/trial_0000", (0, 0), np.nan),
        "`labels_masks/trial_0000` must be 0 or 1, got nan",
    ),
    "frame mask": (
        set_value("masks/trial_0002", (0, 0, 0, 0), 255),
        "`masks/trial_0002` must be 0 or 1, got 255",
    ),
    "frames up to 255": (
        store_float_frames(254),
        "clip `trial_0001` must have pixels in [0, 1] or be uint8, got 254 in frame 2",
    ),
    "frames nan": (store_float_frames(np.nan), "must have pixels in [0, 1] or be uint8, got nan"),
    "constant label": (flatten_label, "label `paw_y` never varies, got 3.5 in every valid frame"),
    "masked label": (mask_label, "label `paw_y` is masked in every frame"),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_bad_value_is_refused(make_file, case):
    edit, expected = BAD_VALUES[case]
    path = make_file(edit)
    with pytest.raises(DataError) as caught:
        read_session(path, needs_labels=True)
    assert caught.value.where == str(path)
    assert len(caught.value.problems) == 1
    assert expected in caught.value.problems[0]


def test_all_bad_values_are_reported_together(make_file):
    def spoil(file):
        file["labels/trial_0000"][3] = np.nan
        file["masks/trial_0001"][0] = 2

    with pytest.raises(DataError) as caught:
        read_session(make_file(spoil), needs_labels=True)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("edit", [flatten_label, mask_label])
def test_flat_label_is_no_obstacle_where_labels_are_not_needed(make_file, edit):
    session = read_session(make_file(edit), needs_labels=False)
    assert session.header.n_labels == 2


def test_session_holds_what_the_file_holds(make_file):
    path = make_file()
    session = read_session(path, needs_labels=True)
    masks = read_group(path, "labels_masks").astype(bool)
    np.testing.assert_array_equal(session.frames, read_group(path, "images"))
    np.testing.assert_array_equal(session.label_masks, masks)
    np.testing.assert_array_equal(session.labels, np.where(masks, read_group(path, "labels"), 0))
    np.testing.assert_array_equal(
        session.labels_sc, np.where(masks, read_group(path, "labels_sc"), 0)
    )
    np.testing.assert_array_equal(session.frame_masks, read_group(path, "masks").astype(bool))
    assert session.frames.dtype == np.uint8
    assert session.labels.dtype == session.labels_sc.dtype == np.float32
    assert session.label_masks.dtype == session.frame_masks.dtype == bool
    with h5py.File(path) as file:
        np.testing.assert_array_equal(
            session.frames[session.clip(2)], file["images/trial_0002"][()]
        )


def test_float_frames_stay_as_they_are(make_file):
    session = read_session(make_file(store_float_frames(0.25)), needs_labels=True)
    assert session.frames.dtype == np.float32
    assert session.frames.min() == 0.25
    assert session.frames.max() == 0.5


def test_masked_nan_becomes_zero(make_file):
    path = make_file(set_value("labels/trial_0001", (1, 0), np.nan))
    session = read_session(path, needs_labels=True)
    assert session.labels[6, 0] == 0
    assert not session.label_masks[6, 0]


def test_labels_without_masks_are_all_valid(make_file):
    path = make_file(lambda file: file.__delitem__("labels_masks"))
    session = read_session(path, needs_labels=True)
    assert session.label_masks.all()
    assert not session.header.has_label_masks


def test_other_number_types_are_converted(make_file):
    def retype(file):
        for group, dtype in (("labels", ">f8"), ("labels_masks", bool), ("labels_sc", np.int16)):
            for name in list(file[group]):
                values = file[group][name][()]
                del file[group][name]
                file[group][name] = values.astype(dtype)

    plain = read_session(make_file(), needs_labels=True)
    session = read_session(make_file(retype), needs_labels=True)
    np.testing.assert_array_equal(session.labels, plain.labels)
    np.testing.assert_array_equal(session.label_masks, plain.label_masks)
    np.testing.assert_array_equal(session.labels_sc, np.trunc(plain.labels_sc))


def test_progress_counts_frames(make_file):
    seen = []
    read_session(make_file(), needs_labels=True, progress=seen.append)
    assert seen == [5, 9, 15]


def test_damaged_chunk_names_the_clip(make_file):
    path = make_file(compression="gzip", chunks=True)
    with h5py.File(path) as file:
        chunk = file["images/trial_0001"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(content)
    with pytest.raises(DataError, match="`images/trial_0001` cannot be read"):
        read_session(path, needs_labels=True)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_file_never_escapes_as_another_error(make_file, seed):
    path = make_file()
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    rng = np.random.default_rng(seed)
    places = rng.integers(100, len(content), 300)
    content[places] = rng.integers(256, size=300)
    path.write_bytes(content.tobytes())
    with contextlib.suppress(DataError):
        read_session(path, needs_labels=True)


def test_declared_size_beyond_memory_is_refused(tmp_path):
    path = tmp_path / "session.h5"
    with h5py.File(path, "w") as file:
        shape = (10**9, 1, 1000, 1000)
        clip = file.create_dataset("images/trial_0000", shape, np.uint8, chunks=(1, 1, 1000, 1000))
        clip[0] = 1
    with pytest.raises(DataError, match=re.escape("needs 1000000.0 GB of memory")):
        read_session(path, needs_labels=False)


@pytest.mark.slow
def test_more_than_ten_thousand_clips_in_numerical_order(tmp_path):
    path = tmp_path / "session.h5"
    numbers = np.arange(10_050, dtype=np.uint16)
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("images")
        for number in numbers:
            pixels = np.array([number >> 8, number & 255], np.uint8).reshape(1, 1, 1, 2)
            group[f"trial_{number:04d}"] = pixels
    session = read_session(path, needs_labels=False)
    assert session.header.clip_names[-1] == "trial_10049"
    high, low = session.frames[:, 0, 0].astype(np.uint16).T
    np.testing.assert_array_equal((high << 8) + low, numbers)


def write_again(session, path):
    write_session(
        path,
        session.frames,
        session.header.clip_lengths,
        label_names=session.header.label_names,
        labels=session.labels,
        label_masks=session.label_masks,
        labels_sc=session.labels_sc,
        frame_masks=session.frame_masks,
    )


def test_round_trip(make_file, tmp_path):
    session = read_session(make_file(), needs_labels=True)
    write_again(session, tmp_path / "again.h5")
    again = read_session(tmp_path / "again.h5", needs_labels=True)
    assert again.digest == session.digest
    assert again.header.clip_names == session.header.clip_names
    np.testing.assert_array_equal(again.frames, session.frames)
    np.testing.assert_array_equal(again.labels, session.labels)


def test_writing_leaves_only_the_file_and_replaces_what_was_there(make_file, tmp_path):
    session = read_session(make_file(), needs_labels=True)
    path = tmp_path / "folder" / "again.h5"
    path.parent.mkdir()
    path.write_text("something old")
    write_again(session, path)
    assert [entry.name for entry in path.parent.iterdir()] == ["again.h5"]
    assert read_session(path, needs_labels=True).digest == session.digest


def test_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_session(
            tmp_path / "session.h5",
            np.zeros((2, 1, 4, 4), np.uint8),
            [2],
            extra_groups={"notes": ExtraGroup(np.array([object(), object()]))},
        )
    assert list(tmp_path.iterdir()) == []


def test_extra_groups_are_stored_but_not_part_of_a_session(tmp_path):
    frames = np.zeros((4, 1, 4, 4), np.uint8)
    extra = {"truth": ExtraGroup(np.arange(4.0)[:, None], {"truth_names": '["jaw"]'})}
    write_session(tmp_path / "plain.h5", frames, [2, 2])
    write_session(tmp_path / "extra.h5", frames, [2, 2], extra_groups=extra)
    with h5py.File(tmp_path / "extra.h5") as file:
        assert file["truth"].attrs["truth_names"] == b'["jaw"]'
        np.testing.assert_array_equal(file["truth/trial_0001"][:, 0], [2, 3])
    plain, with_extra = (
        read_session(tmp_path / name, needs_labels=False) for name in ("plain.h5", "extra.h5")
    )
    assert plain.digest == with_extra.digest


@pytest.mark.parametrize("n_letters", [4, 100])
def test_names_of_any_length_are_stored(tmp_path, n_letters):
    """The longer ones take more room than an attribute of fixed length has."""
    names = [f"{i:0{n_letters}d}" for i in range(1000)]
    labels = np.random.default_rng(0).random((4, 1000))
    path = tmp_path / "session.h5"
    frames = np.zeros((4, 1, 4, 4), np.uint8)
    write_session(path, frames, [2, 2], label_names=names, labels=labels)
    assert read_session(path, needs_labels=True).header.label_names == tuple(names)


def test_digest_does_not_depend_on_storage(make_file):
    digests = {
        read_session(make_file(**storage), needs_labels=True).digest
        for storage in (
            {},
            {"compression": "gzip", "compression_opts": 9},
            {"compression": "lzf", "chunks": True, "shuffle": True},
            {"chunks": True, "fletcher32": True},
        )
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    "edit",
    [
        set_value("images/trial_0001", (0, 0, 0, 0), 7),
        set_value("labels/trial_0001", (0, 0), 7),
        set_value("labels_masks/trial_0001", (0, 0), 0),
        set_value("labels_sc/trial_0001", (0, 0), 7),
        set_value("masks/trial_0001", (0, 0, 0), 0),
        lambda file: file.attrs.__setitem__("label_names", '["a", "b"]'),
        lambda file: file.__delitem__("masks"),
    ],
)
def test_digest_depends_on_contents(make_file, edit):
    plain = read_session(make_file(), needs_labels=True)
    assert read_session(make_file(edit), needs_labels=True).digest != plain.digest


def test_digest_depends_on_where_clips_are_cut(tmp_path):
    frames = np.zeros((6, 1, 4, 4), np.uint8)
    write_session(tmp_path / "two.h5", frames, [3, 3])
    write_session(tmp_path / "three.h5", frames, [2, 2, 2])
    two, three = (
        read_session(tmp_path / name, needs_labels=False) for name in ("two.h5", "three.h5")
    )
    assert two.digest != three.digest


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("mirror_mouse/mirror_mouse_64.h5", (0, 0.01)),
        ("flies13/flies13_track0_96.h5", (0.03, 0.07)),
        ("flies13/flies13_track1_96.h5", (0.03, 0.07)),
    ],
)
def test_real_session(shared_data, tmp_path, name, masked):
    path = shared_data / name
    session = read_session(path, needs_labels=True)
    np.testing.assert_array_equal(session.frames, read_group(path, "images"))
    # In these files `labels_sc` holds the labels with 0 where masked: just what reading makes.
    np.testing.assert_array_equal(session.labels, read_group(path, "labels_sc"))
    assert masked[0] <= 1 - session.label_masks.mean() <= masked[1]
    write_again(session, tmp_path / "again.h5")
    assert read_session(tmp_path / "again.h5", needs_labels=True).digest == session.digest
