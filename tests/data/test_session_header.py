import json
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest

from psvae_tune.data.session_header import read_header
from psvae_tune.errors import DataError


def put(name, array):
    """Return an edit that replaces a member of the file."""

    def edit(file):
        if name in file:
            del file[name]
        file[name] = array

    return edit


def remove(*names):
    def edit(file):
        for name in names:
            del file[name]

    return edit


def label_names(value):
    return lambda file: file.attrs.__setitem__("label_names", value)


def link(name, target):
    def edit(file):
        del file[name]
        file[name] = target

    return edit


def virtual(file):
    layout = h5py.VirtualLayout((5, 1, 4, 6), np.uint8)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "frames", (5, 1, 4, 6), np.uint8)
    del file["images/trial_0000"]
    file.create_virtual_dataset("images/trial_0000", layout)


def external(file):
    del file["labels/trial_0000"]
    file.create_dataset(
        "labels/trial_0000", (5, 2), np.float32, external=[("elsewhere.raw", 0, 1000)]
    )


def empty_group(file):
    del file["images"]
    file.create_group("images")


def declare(file, name, shape, dtype, **storage):
    del file[name]
    return file.create_dataset(name, shape, dtype, **storage)


def huge_piece(file):
    storage = {"maxshape": (None, 1, 4, 6), "chunks": (10**8, 1, 4, 6), "compression": "gzip"}
    clip = declare(file, "images/trial_0001", (4, 1, 4, 6), np.uint8, **storage)
    # As much storage as a clip that is really there, without packing 2.4 GB of it.
    clip.id.write_direct_chunk((0, 0, 0, 0), b"packed")


def many_labels(file):
    for name in ("labels", "labels_masks", "labels_sc"):
        for clip, n_frames in zip(list(file[name]), (5, 4, 6), strict=True):
            put(f"{name}/{clip}", np.zeros((n_frames, 10_001), np.float32))(file)


def nested_group(file):
    del file["images/trial_0001"]
    file.create_group("images/trial_0001")


ELSEWHERE = h5py.ExternalLink("elsewhere.h5", "/images")
FRAMES = np.zeros((5, 1, 4, 6), np.uint8)

BAD_LAYOUTS = {
    "no images": (remove("images"), ["must have a group `images`, got `labels`, `labels_masks`"]),
    "no labels": (
        remove("labels", "labels_masks", "labels_sc"),
        ["must have a group `labels`, got `images`, `masks`"],
    ),
    "labels missing below masks": (
        remove("labels"),
        ["must have a group `labels`, got `images`, `labels_masks`, `labels_sc`, `masks`"],
    ),
    "images a dataset": (put("images", FRAMES), ["`images` must be a group, got a dataset"]),
    "images empty": (empty_group, ["`images` must hold at least one clip"]),
    "clip a group": (nested_group, ["`images/trial_0001` must be a dataset, got a group"]),
    "frames without channels": (
        put("images/trial_0001", FRAMES[:4, 0]),
        ["`images/trial_0001` must have the axes [frame, channel, y, x], got the shape (4, 4, 6)"],
    ),
    "frames int16": (
        put("images/trial_0001", FRAMES[:4].astype(np.int16)),
        ["`images/trial_0001` must be uint8, or float in [0, 1], got int16"],
    ),
    "frames uint16": (
        put("images/trial_0001", FRAMES[:4].astype(np.uint16)),
        ["must be uint8, or float in [0, 1], got uint16"],
    ),
    "clip without frames": (
        put("images/trial_0001", FRAMES[:0]),
        ["`images/trial_0001` must not be empty, got the shape (0, 1, 4, 6)"],
    ),
    "declared but not written": (
        lambda file: declare(file, "images/trial_0001", (10**12, 1, 4, 6), np.uint8),
        ["`images/trial_0001` must hold what it declares, got nothing that was written"],
    ),
    "pieces beyond memory": (
        huge_piece,
        ["`images/trial_0001` must be packed in pieces of up to 1.1 GB, got 2.4"],
    ),
    "more labels than there can be": (
        many_labels,
        ["must have at most 10000 labels, got 10001"],
    ),
    "null dataset": (
        put("images/trial_0001", h5py.Empty(np.uint8)),
        ["`images/trial_0001` must have the axes [frame, channel, y, x], got the shape ()"],
    ),
    "frame sizes": (
        put("images/trial_0002", np.zeros((6, 1, 4, 8), np.uint8)),
        [
            "clip `trial_0002` must have frames of shape (1, 4, 6) like `trial_0000`, "
            "got frames of shape (1, 4, 8)",
            "`masks/trial_0002` must have the shape (6, 1, 4, 8)",
        ],
    ),
    "frame types": (
        put("images/trial_0002", np.zeros((6, 1, 4, 6), np.float32)),
        ["clip `trial_0002` must have uint8 frames like `trial_0000`, got float frames"],
    ),
    "label rows": (
        put("labels/trial_0002", np.zeros((5, 2), np.float32)),
        [
            "clip `trial_0002` has 6 frames but 5 label rows",
            "`labels_masks/trial_0002` must have the shape (5, 2) of `labels/trial_0002`",
            "`labels_sc/trial_0002` must have the shape (5, 2)",
        ],
    ),
    "labels of rank 1": (
        put("labels/trial_0002", np.zeros(6, np.float32)),
        ["`labels/trial_0002` must have the axes [frame, label], got the shape (6,)"],
    ),
    "labels text": (
        put("labels/trial_0002", np.full((6, 2), b"3.5")),
        ["`labels/trial_0002` must be numbers, got |S3"],
    ),
    "labels complex": (
        put("labels/trial_0002", np.zeros((6, 2), complex)),
        ["`labels/trial_0002` must be numbers, got complex128"],
    ),
    "frames without labels": (
        remove("labels/trial_0001", "labels_masks/trial_0001", "labels_sc/trial_0001"),
        [
            "clip `trial_0001` is in `images` but not in `labels`",
            "clip `trial_0001` is in `images` but not in `labels_masks`",
            "clip `trial_0001` is in `images` but not in `labels_sc`",
        ],
    ),
    "labels without frames": (
        remove("images/trial_0001", "masks/trial_0001"),
        ["clip `trial_0001` is in `labels` but not in `images`", "in `labels_masks`", "labels_sc"],
    ),
    "label counts": (
        put("labels/trial_0002", np.zeros((6, 3), np.float32)),
        [
            "clip `trial_0002` must have 2 labels like `trial_0000`, got 3 labels",
            "`labels_masks/trial_0002` must have the shape (6, 3)",
            "`labels_sc/trial_0002` must have the shape (6, 3)",
        ],
    ),
    "masks of another shape": (
        put("masks/trial_0000", np.ones((5, 1, 4, 5))),
        [
            "`masks/trial_0000` must have the shape (5, 1, 4, 6) of `images/trial_0000`, "
            "got (5, 1, 4, 5)"
        ],
    ),
    "too few names": (label_names('["paw_x"]'), ["must name 2 labels, got 1"]),
    "repeated names": (label_names('["x", "x"]'), ["must not repeat a name, got ['x']"]),
    "names not JSON": (
        label_names("paw_x, paw_y"),
        ["attribute `label_names` must be a JSON list of names, got 'paw_x, paw_y'"],
    ),
    "names not text": (label_names("[1, 2]"), ["must be a JSON list of names, got '[1, 2]'"]),
    "name too long": (
        label_names(json.dumps(["x", "y" * 101])),
        ["must hold names of up to 100 letters, digits and signs, got 'yyy"],
    ),
    "name of two lines": (label_names('["x", "a\\nb"]'), [r"and signs, got 'a\nb'"]),
    "half a character": (label_names('["x", "\\ud800"]'), [r"and signs, got '\ud800'"]),
    "names an array": (label_names(np.zeros(3)), ["must be a JSON list of names"]),
    "odd clip name": (
        put("images/clip_1", FRAMES),
        ["`images/clip_1` must be named trial_ and a number"],
    ),
    "external link": (link("images", ELSEWHERE), ["`images` must be stored in the file itself"]),
    "external link to a clip": (
        link("images/trial_0000", ELSEWHERE),
        ["`images/trial_0000` must be stored in the file itself, got a link"],
    ),
    "soft link": (
        link("labels/trial_0000", h5py.SoftLink("/images/trial_0000")),
        ["`labels/trial_0000` must be stored in the file itself, got a link"],
    ),
    "virtual dataset": (virtual, ["`images/trial_0000` must be stored in the file itself"]),
    "external storage": (external, ["`labels/trial_0000` must be stored in the file itself"]),
}


@pytest.mark.parametrize("case", BAD_LAYOUTS)
def test_bad_layout_is_refused_with_every_problem(make_file, case):
    edit, expected = BAD_LAYOUTS[case]
    path = make_file(edit)
    with pytest.raises(DataError) as caught:
        read_header(path, needs_labels=True)
    assert caught.value.where == str(path)
    problems = caught.value.problems
    assert len(problems) == len(expected)
    for problem, part in zip(problems, expected, strict=True):
        assert part in problem


def test_only_the_first_problems_are_spelled_out(make_file):
    def spoil(file):
        remove("labels", "labels_masks", "labels_sc", "masks")(file)
        for index in range(3, 40):
            file[f"images/trial_{index:04d}"] = FRAMES[:0]

    with pytest.raises(DataError, match=re.escape("37 problems")) as caught:
        read_header(make_file(spoil), needs_labels=False)
    assert str(caught.value).count("\n") == 11
    assert str(caught.value).endswith("and 27 more")


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_header(tmp_path / "none.h5", needs_labels=False)


def test_folder(tmp_path):
    with pytest.raises(DataError, match="must be an HDF5 file, got a folder"):
        read_header(tmp_path, needs_labels=False)


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n"])
def test_other_file(tmp_path, content):
    path = tmp_path / "session.h5"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"session\.h5: (must be an HDF5 file|cannot be opened)"):
        read_header(path, needs_labels=False)


def test_truncated_file(make_file):
    path = make_file()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="the file is cut short"):
        read_header(path, needs_labels=False)


def test_header_of_a_good_file(make_file):
    header = read_header(make_file(), needs_labels=True)
    assert header.clip_names == ("trial_0000", "trial_0001", "trial_0002")
    assert header.clip_lengths == (5, 4, 6)
    assert header.frame_shape == (1, 4, 6)
    assert header.label_names == ("paw_x", "paw_y")
    assert header.has_label_masks
    assert header.has_labels_sc
    assert header.has_frame_masks


def test_labels_may_be_absent_where_no_model_needs_them(make_file):
    path = make_file(remove("labels", "labels_masks", "labels_sc", "masks"))
    header = read_header(path, needs_labels=False)
    assert header.n_labels == 0
    assert not header.has_label_masks
    assert not header.has_frame_masks


def test_masks_of_absent_labels(make_file):
    with pytest.raises(DataError, match="2 problems") as caught:
        read_header(make_file(remove("labels")), needs_labels=False)
    assert "`labels_masks` must come with a group `labels`" in caught.value.problems
    assert "`labels_sc` must come with a group `labels`" in caught.value.problems


def test_labels_without_names_are_numbered(make_file):
    path = make_file(lambda file: file.attrs.__delitem__("label_names"))
    assert read_header(path, needs_labels=True).label_names == ("label_0", "label_1")


@pytest.mark.parametrize(
    ("name", "n_clips", "frame_shape", "n_labels"),
    [
        ("mirror_mouse/mirror_mouse_64.h5", 20, (1, 64, 64), 8),
        ("mirror_mouse/mirror_mouse_2view_64x128.h5", 20, (2, 64, 128), 16),
        ("flies13/flies13_track0_96.h5", 14, (1, 96, 96), 16),
    ],
)
def test_real_header(shared_data, name, n_clips, frame_shape, n_labels):
    header = read_header(shared_data / name, needs_labels=True)
    assert header.n_clips == n_clips
    assert header.frame_shape == frame_shape
    assert header.n_labels == n_labels
    assert header.label_names[0].endswith("_x")
    assert header.label_names[-1].endswith("_y")


def test_reading_needs_no_torch():
    code = "import sys, psvae_tune.data.session_file; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
