"""Tables that say which frame a row is: dropped, sorted and cut rows keep their frames."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psvae_tune.data.importers.extra_labels import read_extra_labels
from psvae_tune.data.importers.frame_numbers import count_rows, order_rows
from psvae_tune.data.importers.plan import plan_import
from psvae_tune.data.importers.read_poses import read_poses
from psvae_tune.data.importers.request import ImportRequest, Source
from psvae_tune.errors import DataError
from tests.support.hostile import attempt, sample
from tests.support.recordings import draw, path_of_square, write_video

N = 60
PLACES = path_of_square(N, seed=3)
COLUMNS = pd.MultiIndex.from_product(
    [["net"], ["paw"], ["x", "y"]], names=["scorer", "bodyparts", "coords"]
)
NAMES = ["img{:03d}.png", "labeled-data\\vid\\frame_{:05d}_labelled.jpeg", "a1/b2/{}.TIF"]


def frame_of(frames, index=None) -> pd.DataFrame:
    if not isinstance(index, pd.Index):
        index = pd.Index(list(frames) if index is None else list(index))
    return pd.DataFrame(PLACES[list(frames)], index=index, columns=COLUMNS)


def as_dlc(path, frames, index=None):
    frame_of(frames, index).to_csv(path.with_suffix(".csv"))
    return path.with_suffix(".csv")


def as_named_dlc(path, frames, index=None):
    frame_of(frames, index).rename_axis("frame").to_csv(path.with_suffix(".csv"))
    return path.with_suffix(".csv")


def as_semicolons(path, frames, index=None):
    table = frame_of(frames, index)
    table.to_csv(path.with_suffix(".csv"), sep=";", decimal=",")
    return path.with_suffix(".csv")


def as_fixed(path, frames, index=None):
    frame_of(frames, index).to_hdf(path.with_suffix(".h5"), key="df", mode="w")
    return path.with_suffix(".h5")


def as_table(path, frames, index=None):
    table = frame_of(frames, index).rename_axis("frame")
    table.to_hdf(path.with_suffix(".h5"), key="df", mode="w", format="table")
    return path.with_suffix(".h5")


def as_plain(name):
    def write(path, frames, index=None):
        table = frame_of(frames, index).set_axis(["paw_x", "paw_y"], axis=1)
        table = table.rename_axis(name).reset_index()
        table.insert(2, "pupil", 5.0)
        table.to_csv(path.with_suffix(".csv"), index=False)
        return path.with_suffix(".csv")

    return write


def as_npy(path, frames, index=None):
    array = np.zeros(len(list(frames)), [("frame", "i8"), ("paw_x", "f8"), ("paw_y", "f8")])
    array["frame"] = list(frames) if index is None else index
    array["paw_x"], array["paw_y"] = PLACES[list(frames)].T
    np.save(path.with_suffix(".npy"), array)
    return path.with_suffix(".npy")


WRITERS = {
    "DeepLabCut": as_dlc,
    "DeepLabCut, named index": as_named_dlc,
    "semicolons": as_semicolons,
    "HDF5, fixed": as_fixed,
    "HDF5, table": as_table,
    "NumPy": as_npy,
    **{
        f"column {name!r}": as_plain(name)
        for name in ("frame", "frame_idx", "Frame Index", "frameNumber", "fnum", "index", "")
    },
}
ORDERS = {
    "dropped": [i for i in range(N) if not 20 <= i < 28],
    "first dropped": [0, *range(5, N)],
    "sorted as text": sorted(range(N), key=str),
    "section": list(range(23, N)),
    "every third": list(range(0, N, 3)),
}


def check(poses, frames):
    """Every position must stand in the row of its frame, and nothing in any other row."""
    assert poses.are_rows_numbered
    expected = np.full((max(frames) + 1, 2), np.nan)
    expected[list(frames)] = PLACES[list(frames)]
    np.testing.assert_allclose(poses.positions[:, 0, 0], expected)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_row_is_of_the_frame_that_its_number_says(tmp_path, kind, order):
    check(read_poses(WRITERS[kind](tmp_path / "pose", ORDERS[order])), ORDERS[order])


@pytest.mark.parametrize("kind", WRITERS)
def test_rows_numbered_from_0_are_as_they_stand(tmp_path, kind):
    poses = read_poses(WRITERS[kind](tmp_path / "pose", range(N)))
    assert not poses.are_rows_numbered
    np.testing.assert_allclose(poses.positions[:, 0, 0], PLACES)


IMAGE_WRITERS = [as_dlc, as_fixed, as_table, as_plain("image"), as_plain("anything")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("write", IMAGE_WRITERS)
def test_images_carry_the_numbers_of_their_frames(tmp_path, write, name):
    frames = [17, 3, 44, 5]
    check(read_poses(write(tmp_path / "pose", frames, map(name.format, frames))), frames)


@pytest.mark.parametrize("write", [as_dlc, as_fixed])
def test_an_index_of_folders_and_images_chooses_the_video(tmp_path, write):
    frames = [3, 1, 7, 4]
    index = pd.MultiIndex.from_tuples(
        [("labeled-data", "mouse" if i != 7 else "rat", f"img{i:02d}.png") for i in frames]
    )
    path = write(tmp_path / "pose", frames, index)
    check(read_poses(path, tmp_path / "mouse.mp4"), [3, 1, 4])
    with pytest.raises(DataError, match="images in 2 folders: mouse, rat, not of other"):
        read_poses(path, tmp_path / "other.mp4")


@pytest.mark.parametrize(
    ("index", "problem"),
    [
        ([0, 1, 1, 3], "one row for each frame, got 2 of frame 1"),
        ([0, 0.04, 0.08, 0.12], "whole numbers from 0 on, or by images, got '0.04'"),
        ([-1, 0, 1, 2], "whole numbers from 0 on, or by images, got '-1'"),
        (["a", "b", "c", "d"], "whole numbers from 0 on, or by images, got 'a'"),
        ([5, None, 7, 8], "must number every row, got none in row 2"),
        ([5, 10**14, 7, 8], "GB of memory"),
        ([5, 10**30, 7, 8], "whole numbers"),
    ],
)
@pytest.mark.parametrize("write", [as_dlc, as_plain("frame")])
def test_numbers_that_are_none_are_refused(tmp_path, write, index, problem):
    with pytest.raises(DataError, match=problem):
        read_poses(write(tmp_path / "pose", range(4), pd.Index(index, dtype=object)))


def blank(path, rows, *, whole, n_header=3):
    """Clear rows of a CSV file: the whole line, or every cell."""
    lines = path.read_text().splitlines()
    for row in rows:
        lines[n_header + row] = "" if whole else "," * lines[n_header + row].count(",")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("write", "n_header"), [(as_dlc, 3), (as_plain("frame"), 1)])
def test_blank_lines_are_rows(tmp_path, write, n_header, whole):
    rows = [0, 1, 20, 21, N - 1]
    path = blank(write(tmp_path / "pose", range(N)), rows, whole=whole, n_header=n_header)
    poses = read_poses(path)
    assert not poses.are_rows_numbered
    missing = np.isnan(poses.positions[:, 0, 0]).any(1)
    assert np.flatnonzero(missing).tolist() == rows
    np.testing.assert_allclose(poses.positions[~missing, 0, 0], PLACES[~missing])


def test_blank_lines_among_numbered_rows_count_for_nothing(tmp_path):
    frames = ORDERS["dropped"]
    check(
        read_poses(blank(as_dlc(tmp_path / "pose", frames), [30], whole=True)),
        [f for i, f in enumerate(frames) if i != 30],
    )


@pytest.mark.parametrize("text", ["0,1,2\n1,3\n2,5,6\n", "0,1,2\n1,3,4\n2\n"])
def test_a_row_that_is_cut_short_is_refused(tmp_path, text):
    path = tmp_path / "pose.csv"
    path.write_text(f"frame,paw_x,paw_y\n{text}")
    with pytest.raises(DataError, match=r"must hold numbers below its header, got \d cells"):
        read_poses(path)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40, unique=True), st.booleans())
@sample()
def test_rows_are_ordered_as_a_loop_orders_them(tmp_path_factory, numbers, as_images):
    values = np.arange(1.0, len(numbers) + 1)[:, None]
    cells = [f"dir7/img{n:05d}.png" if as_images else str(n) for n in numbers]
    rows = order_rows(tmp_path_factory.getbasetemp(), cells, values)
    for number, value in zip(numbers, values, strict=True):
        assert rows.values[number] == value
    assert np.isfinite(rows.values).sum() == len(numbers)
    assert rows.are_numbered == (numbers != list(range(len(numbers))))


@given(st.lists(st.text(max_size=12) | st.integers().map(str), max_size=8))
@sample()
def test_any_cells_are_ordered_or_refused(tmp_path_factory, cells):
    path = tmp_path_factory.getbasetemp()
    attempt("frame numbers", lambda: order_rows(path, cells, np.ones((len(cells), 2))))


def test_blank_rows_behind_the_last_frame_do_not_count():
    there = np.array([[True], [False], [True], [False], [False]])
    assert [count_rows(there, n) for n in (1, 2, 3, 4, 5, 6)] == [3, 3, 3, 4, 5, 5]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "square.mp4", draw(PLACES))


def plan(video, path, **options):
    return plan_import(ImportRequest((Source(video, path),), size=(96, 64), **options))


@pytest.mark.parametrize("order", ["dropped", "sorted as text", "section", "every third"])
def test_an_import_masks_frames_without_a_row(tmp_path, video, order):
    frames = ORDERS[order]
    made = plan(video, as_dlc(tmp_path / "pose", frames))
    masks = made.arrays["labels_masks"].all(1)
    start = made.frames.start
    assert (np.flatnonzero(masks) + start).tolist() == sorted(frames)
    np.testing.assert_allclose(made.arrays["labels"][masks], PLACES[sorted(frames)], atol=1e-3)


def test_a_table_may_count_from_1(tmp_path, video):
    made = plan(video, as_plain("frame")(tmp_path / "pose", range(N), range(1, N + 1)))
    np.testing.assert_allclose(made.arrays["labels"], PLACES, atol=1e-3)
    assert any("numbers its frames from 1 on" in note for note in made.notes)
    unsure = as_plain("frame")(tmp_path / "pose", range(N - 5), range(1, N - 4))
    with pytest.raises(DataError, match="numbers its rows from 1 to 55") as caught:
        plan(video, unsure)
    assert "0 if the first frame is number 0, -1 if 1" in caught.value.hint
    made = plan(video, unsure, label_offset=-1)
    np.testing.assert_allclose(made.arrays["labels"], PLACES[: N - 5], atol=1e-3)


def test_numbers_beyond_the_video_are_refused(tmp_path, video):
    path = as_dlc(tmp_path / "pose", range(N), range(5000, 5000 + N))
    with pytest.raises(DataError, match="cannot be known"):
        plan(video, path)
    made = plan(video, path, label_offset=-5000)
    np.testing.assert_allclose(made.arrays["labels"], PLACES, atol=1e-3)


def test_extra_labels_stand_in_the_frames_that_they_number(tmp_path):
    path, times = tmp_path / "pupil.csv", np.arange(8) / 30
    path.write_text("Frame;pupil;time\n6;2,5;9\n0;;9\n1;1;9\n\n")
    extra = read_extra_labels(path, 8, times)
    assert extra.names == ("pupil",)
    assert extra.values[:, 0].tolist() == [0, 1, 0, 0, 0, 0, 2.5, 0]
    assert np.flatnonzero(extra.masks).tolist() == [1, 6]
    path.write_text("frame,pupil\n" + "".join(f"{i},{i}\n" for i in range(1, 9)))
    assert read_extra_labels(path, 8, times).values[:, 0].tolist() == list(range(1, 9))
    for rows in (["1", "2"], ["9"], ["0", "1"]):
        path.write_text("frame,pupil\n" + "".join(f"{i},1\n" for i in rows))
        with pytest.raises(DataError, match=r"numbers its rows|a row for each of 8 frames"):
            read_extra_labels(path, 8, times)


def test_notes_say_how_many_frames_have_no_row(tmp_path, video):
    made = plan(video, as_dlc(tmp_path / "pose", ORDERS["dropped"]))
    notes = json.loads(str(made.attributes["notes"]))
    assert "pose.csv numbers its frames from 0 on: 8 of 60 have no row, or an empty one" in notes
