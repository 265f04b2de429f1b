"""What trackers write beside the usual: corrections, several tables, other names, 3-D."""

import h5py
import numpy as np
import pandas as pd
import pytest
import sleap_io

from psvae_tune.data.importers.read_poses import read_poses
from psvae_tune.errors import DataError
from tests.support.hostile import attempt, share

N = 12
PLACES = np.random.default_rng(0).uniform(2, 90, (N, 2, 2)).round(3)
PARTS = ("nose", "tail")
SKELETON = sleap_io.Skeleton(list(PARTS))
VIDEO = sleap_io.Video("mouse.mp4", open_backend=False)


def predicted(points, track=None):
    return sleap_io.PredictedInstance.from_numpy(
        points, skeleton=SKELETON, point_scores=np.full(2, 0.4), score=0.4, track=track
    )


def by_person(points, source=None, track=None):
    return sleap_io.Instance.from_numpy(
        points, skeleton=SKELETON, from_predicted=source, track=track
    )


def save(path, instances):
    """Save a project with the animals of each frame."""
    frames = [sleap_io.LabeledFrame(VIDEO, i, found) for i, found in enumerate(instances)]
    labels = sleap_io.Labels(frames, videos=[VIDEO], skeletons=[SKELETON])
    sleap_io.save_slp(labels, str(path.with_suffix(".slp")), verbose=False)
    path.with_suffix(".slp").rename(path)
    return path


@pytest.mark.parametrize("suffix", [".slp", ".h5"])
@pytest.mark.parametrize("is_linked", [True, False])
@pytest.mark.parametrize("tracks", [0, 1])
def test_a_correction_replaces_the_prediction_of_its_frame(tmp_path, suffix, is_linked, tracks):
    track = sleap_io.Track("mouse") if tracks else None
    instances = []
    for i, points in enumerate(PLACES):
        guess = predicted(points + 15 * (i in (4, 7)), track)
        corrected = [by_person(points, guess if is_linked else None)] if i in (4, 7) else []
        instances.append([guess, *corrected] if i == 4 else [*corrected, guess])
    poses = read_poses(save(tmp_path / f"mouse{suffix}", instances))
    assert poses.tracks == ("mouse" if tracks else "",)
    np.testing.assert_allclose(poses.positions[:, 0], PLACES)
    assert poses.choose([], [], 0.5).valid.any(1).tolist() == [i in (4, 7) for i in range(N)]


def test_corrections_of_two_animals_stay_with_their_animal(tmp_path):
    tracks = [sleap_io.Track("a"), sleap_io.Track("b")]
    other = PLACES[::-1]
    instances = []
    for i in range(N):
        guesses = [predicted(PLACES[i] + (i == 3), tracks[0]), predicted(other[i], tracks[1])]
        instances.append([*guesses, by_person(PLACES[i], guesses[0])] if i == 3 else guesses)
    poses = read_poses(save(tmp_path / "mice.slp", instances))
    assert poses.tracks == ("a", "b")
    np.testing.assert_allclose(poses.positions, np.stack([PLACES, other], 1))


def test_two_animals_without_tracks_are_refused(tmp_path):
    path = save(tmp_path / "mice.slp", [[predicted(p), predicted(p + 9)] for p in PLACES])
    with pytest.raises(DataError, match="holds 2 animals in a frame but no tracks"):
        read_poses(path)


def write_analysis(path, array, **others):
    with h5py.File(path, "w") as file:
        file["tracks"] = array
        file["node_names"] = [name.encode() for name in PARTS]
        file["track_names"] = [b"mouse"]
        for name, value in others.items():
            file[name] = value
    return path


def test_an_analysis_needs_no_scores_and_no_names_of_axes(tmp_path):
    for array in (PLACES.transpose(2, 1, 0)[None], PLACES[:, None]):
        poses = read_poses(write_analysis(tmp_path / "a.h5", array))
        np.testing.assert_array_equal(poses.positions[:, 0], PLACES)
        assert poses.likelihoods is None
        assert poses.are_rows_numbered
    scores = np.arange(2.0 * N).reshape(1, 2, N)
    poses = read_poses(
        write_analysis(tmp_path / "a.h5", PLACES.transpose(2, 1, 0)[None], point_scores=scores)
    )
    np.testing.assert_array_equal(poses.likelihoods[:, 0], scores[0].T)


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.ones((N, 1, 2, 3)), "x and y in the pixels of one camera"),
        (np.ones((1, 3, 2, N)), "x and y in the pixels of one camera"),
        (np.ones((1, 2, 5, N)), "1 tracks of 2 nodes"),
        (np.ones((2, N)), "four axes"),
        (np.full((1, 2, 2, N), b"x"), "numbers"),
    ],
)
def test_an_analysis_of_another_shape_is_refused(tmp_path, array, problem):
    with pytest.raises(DataError, match=problem):
        read_poses(write_analysis(tmp_path / "a.h5", array))


@pytest.mark.parametrize(
    "dims", ['["frame"]', "{", "[1, 2, 3, 4]", '["xy", "xy", "node", "frame"]']
)
def test_axes_of_other_names_are_refused(tmp_path, dims):
    path = write_analysis(tmp_path / "a.h5", PLACES[:, None])
    with h5py.File(path, "a") as file:
        file["tracks"].attrs["dims"] = np.bytes_(dims)
    with pytest.raises(DataError, match=r"must have the axes|cannot be read"):
        read_poses(path)


COLUMNS = pd.MultiIndex.from_product(
    [["net"], PARTS, ["x", "y", "likelihood"]], names=["scorer", "bodyparts", "coords"]
)
VALUES = np.concatenate([PLACES, np.full((N, 2, 1), 0.95)], axis=2)
TABLE = pd.DataFrame(VALUES.reshape(N, 6), columns=COLUMNS)


@pytest.mark.parametrize("layout", ["fixed", "table"])
@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.astype({table.columns[2]: "float32"}),
        lambda table: table.astype({table.columns[2]: "int64"}),
        lambda table: table.rename_axis("frame"),
        lambda table: table.rename_axis(columns=[None] * 3),
        lambda table: table[[*table.columns[3:], *table.columns[:3]]],
    ],
)
def test_tables_of_pandas_in_several_types_and_names(tmp_path, layout, change):
    change(TABLE).to_hdf(tmp_path / "pose.h5", key="a/b", format=layout, mode="w")
    poses = read_poses(tmp_path / "pose.h5")
    order = [poses.keypoints.index(part) for part in PARTS]
    np.testing.assert_allclose(poses.positions[:, 0, order], PLACES)


def test_one_table_of_poses_among_others_is_taken_and_two_are_refused(tmp_path):
    path = tmp_path / "pose.h5"
    TABLE.to_hdf(path, key="poses", mode="w")
    pd.DataFrame({"speed": [1.0, 2.0]}).to_hdf(path, key="a_speed")
    pd.Series([1.0, 2.0]).to_hdf(path, key="a_series")
    np.testing.assert_allclose(read_poses(path).positions[:, 0], PLACES)
    (TABLE + 1).to_hdf(path, key="z_filtered")
    with pytest.raises(DataError, match="one table of poses, got 2: poses, z_filtered"):
        read_poses(path)


def test_a_pose_file_of_facemap(tmp_path):
    path = tmp_path / "mouse_FacemapPose.h5"
    with h5py.File(path, "w") as file:
        for i, part in enumerate(PARTS):
            for coord, value in zip(("x", "y", "likelihood"), VALUES[:, i].T, strict=True):
                file[f"Facemap/{part}/{coord}"] = value
    poses = read_poses(path)
    assert poses.keypoints == PARTS
    np.testing.assert_array_equal(poses.positions[:, 0], PLACES)
    np.testing.assert_array_equal(poses.likelihoods[:, 0], VALUES[..., 2])
    with h5py.File(path, "a") as file:
        del file["Facemap/nose/x"]
        file["Facemap/nose/x"] = np.ones(N - 1)
    with pytest.raises(DataError, match="as many numbers for every keypoint"):
        read_poses(path)


def write_sleap_csv(path, tracks=("",)):
    rows = ["track,frame_idx,instance.score,nose.x,nose.y,nose.score,tail.x,tail.y,tail.score"]
    for i, points in enumerate(PLACES):
        for number, track in enumerate(tracks):
            if (i + number) % 4 or not i:  # frames without a prediction have no row
                cells = [f"{value:.3f}" for x, y in points + number for value in (x, y, 1.2)]
                rows.append(",".join([track, str(i), "0.9", *cells]))
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_csv_of_sleap_with_one_animal_or_two(tmp_path):
    alone = read_poses(write_sleap_csv(tmp_path / "a.csv"))
    both = read_poses(write_sleap_csv(tmp_path / "b.csv", ("one", "two")))
    assert (alone.tracks, alone.keypoints, both.tracks) == (("",), PARTS, ("one", "two"))
    seen = (np.arange(len(alone.positions)) % 4 > 0) | (np.arange(len(alone.positions)) == 0)
    np.testing.assert_allclose(alone.positions[seen, 0], PLACES[: len(seen)][seen])
    assert np.isnan(alone.positions[~seen]).all()
    assert alone.choose([], [], None).valid[seen].all()
    np.testing.assert_array_equal(both.positions[: len(seen), 0], alone.positions[:, 0])
    seen = (np.arange(N) + 1) % 4 > 0
    np.testing.assert_allclose(both.positions[seen, 1], PLACES[seen] + 1)
    assert alone.are_rows_numbered
    assert both.are_rows_numbered
    lines = (tmp_path / "a.csv").read_text().splitlines()
    (tmp_path / "a.csv").write_text("\n".join(lines[:4]) + "\n")  # frames 0, 1 and 2
    assert read_poses(tmp_path / "a.csv").are_rows_numbered
    with pytest.raises(DataError, match="one row for each frame, got 2 of frame 0"):
        read_poses(write_sleap_csv(tmp_path / "c.csv", ("", "")))
    text = (tmp_path / "b.csv").read_text().replace("frame_idx", "number")
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(DataError, match="must say in a column `frame`"):
        read_poses(tmp_path / "b.csv")


@pytest.mark.parametrize("layout", ["sleap", "instances", "frames", "dlc"])
def test_every_wide_csv_of_sleap_io(tmp_path, layout):
    instances = [[predicted(points)] if i not in (4, 5) else [] for i, points in enumerate(PLACES)]
    frames = [sleap_io.LabeledFrame(VIDEO, i, found) for i, found in enumerate(instances) if found]
    labels = sleap_io.Labels(frames, videos=[VIDEO], skeletons=[SKELETON])
    sleap_io.save_csv(labels, str(tmp_path / "pose.csv"), format=layout)
    poses = read_poses(tmp_path / "pose.csv")
    assert poses.are_rows_numbered
    seen = [i for i in range(N) if i not in (4, 5)]
    np.testing.assert_allclose(poses.positions[seen, 0], PLACES[seen])
    # Its scores are no likelihoods, and its DeepLabCut table leaves the likelihoods empty.
    assert poses.choose([], [], None).valid[seen].all()


def as_csv(path, array):
    words = [f"{part}_{coord}" for part in PARTS for coord in ("x", "y", "z", "error")]
    pd.DataFrame(array.reshape(N, -1), columns=words).to_csv(path / "pose.csv")
    return path / "pose.csv"


def as_dots(path, array):
    words = [f"{part}.{coord}" for part in PARTS for coord in ("X", "Y", "Z", "score")]
    pd.DataFrame(array.reshape(N, -1), columns=words).to_csv(path / "pose.csv", sep=";")
    return path / "pose.csv"


def as_levels(path, array, coords=("x", "y", "z", "likelihood"), suffix="csv"):
    columns = pd.MultiIndex.from_product([["n"], PARTS, coords], names=COLUMNS.names)
    table = pd.DataFrame(array.reshape(N, -1), columns=columns)
    file = path / f"pose.{suffix}"
    table.to_csv(file) if suffix == "csv" else table.to_hdf(file, key="df")
    return file


def as_upper_case(path, array):
    return as_levels(path, array, ("X", "Y", "Z", "e"))


def as_hdf5(path, array):
    return as_levels(path, array, suffix="h5")


def as_npy(path, array):
    np.save(path / "pose.npy", array[..., :3])
    return path / "pose.npy"


def as_likelihood(path, array):
    return as_levels(path, array[..., :3], ("x", "y", "likelihood"))


@pytest.mark.parametrize(
    "write", [as_csv, as_dots, as_levels, as_upper_case, as_hdf5, as_npy, as_likelihood]
)
def test_positions_in_three_dimensions_are_refused(tmp_path, write):
    deep = np.random.default_rng(0).uniform(5, 9, (N, 2, 4))
    with pytest.raises(DataError, match=r"three dimensions of nose|likelihoods from 0 to 1"):
        read_poses(write(tmp_path, deep))


@pytest.mark.parametrize("absent", ["", "NaN", "0", "-1", "nan", "NA", "-1.0"])
def test_absent_points_in_all_their_spellings(tmp_path, absent):
    path = tmp_path / "pose.csv"
    path.write_text(f"frame,paw_x,paw_y\n0,3,4\n1,{absent},{absent}\n2,-1,5\n")
    positions = read_poses(path).positions[:, 0, 0]
    assert np.isnan(positions[1]).all()
    assert positions[[0, 2]].tolist() == [[3, 4], [-1, 5]]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_tables_with_decimal_commas(tmp_path, delimiter):
    TABLE.to_csv(tmp_path / "pose.csv", sep=delimiter, decimal=",")
    np.testing.assert_allclose(read_poses(tmp_path / "pose.csv").positions[:, 0], PLACES)


def test_thousands_between_commas_are_no_numbers(tmp_path):
    path = tmp_path / "pose.csv"
    path.write_text('paw_x,paw_y\n"1,234",5\n')
    with pytest.raises(DataError, match="numbers below its header, got '1,234' in row 2"):
        read_poses(path)


def test_damaged_tables_are_read_or_refused(tmp_path):
    rng = np.random.default_rng(0)
    good = write_sleap_csv(tmp_path / "a.csv", ("one", "two")).read_bytes()
    for _ in range(share(60, 0.1)):
        damaged = bytearray(good)
        for place in rng.integers(0, len(good), 1):
            damaged[place] = int(rng.choice([*b',;\n"\t\0-.9ex \xff']))
        (tmp_path / "a.csv").write_bytes(damaged)
        attempt("pose file", lambda: read_poses(tmp_path / "a.csv"))
