import pickle
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import sleap_io

from psvae_tune.data.importers.read_poses import read_poses
from psvae_tune.errors import DataError

HEADER = "scorer,net,net,net\nbodyparts,paw,paw,paw\ncoords,x,y,likelihood\n"


@pytest.fixture
def pose_files(shared):
    return shared / "data" / "pose_files"


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "pose.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def same(a, b) -> bool:
    n = min(len(a.positions), len(b.positions))
    return (
        (a.tracks, a.keypoints) == (b.tracks, b.keypoints)
        and np.array_equal(a.positions[:n], b.positions[:n], equal_nan=True)
        and np.array_equal(a.likelihoods[:n], b.likelihoods[:n], equal_nan=True)
    )


def test_both_axis_orders_of_sleap_agree_exactly(pose_files):
    standard = read_poses(pose_files / "centered_pair_standard.analysis.h5")
    assert standard.positions.shape == (1100, 27, 24, 2)
    assert same(standard, read_poses(pose_files / "centered_pair_matlab.analysis.h5"))


def test_the_array_of_a_sleap_analysis_is_read_as_it_stands(pose_files):
    path = pose_files / "centered_pair_standard.analysis.h5"
    with h5py.File(path) as file:
        tracks = file["tracks"][()]
    np.testing.assert_array_equal(read_poses(path).positions, tracks)


def test_sleap_project_and_analysis_agree(pose_files):
    project = read_poses(pose_files / "deepof_testDLC_sleap.slp")
    assert same(project, read_poses(pose_files / "deepof_testDLC_sleap.analysis.h5"))


def test_deeplabcut_of_two_animals_agrees_between_csv_and_hdf5(pose_files):
    table = read_poses(pose_files / "deepof_testDLC_csv_table_madlc.csv")
    assert table.tracks == ("mouse_black_tail", "mouse_white_tail")
    assert same(table, read_poses(pose_files / "deepof_testDLC_h5_table_madlc.h5"))
    assert 0.2 < np.isnan(table.positions).mean() < 0.3  # (0, 0) is missing


def test_sleap_and_deeplabcut_agree_on_the_frame_that_both_have(pose_files):
    # Every frame of the SLEAP file is the first of the DeepLabCut file.
    sleap = read_poses(pose_files / "deepof_testDLC_sleap.slp")
    other = read_poses(pose_files / "deepof_testDLC_h5_table.h5")
    order = [other.keypoints.index(name) for name in sleap.keypoints]
    distances = np.linalg.norm(sleap.positions[:, 0] - other.positions[0, 0, order], axis=-1)
    assert np.median(distances) < 2


def test_human_labels_have_no_likelihood_and_empty_cells(pose_files):
    poses = read_poses(pose_files / "CollectedData.csv")
    assert poses.positions.shape == (91, 1, 17, 2)  # img01.png to img90.png
    assert np.isnan(poses.positions[0]).all()
    assert poses.likelihoods is None
    assert np.isfinite(poses.positions[1, 0, 0]).all()
    assert np.isnan(poses.positions[1, 0, 4]).all()  # tailBase_top, an empty cell
    with pytest.raises(DataError, match="holds no likelihoods"):
        poses.choose([], [], 0.5)


@pytest.mark.parametrize("limit", [np.nan, np.inf])
def test_a_likelihood_is_compared_with_numbers_only(pose_files, limit):
    poses = read_poses(pose_files / "deepof_testDLC_h5_table.h5")
    with pytest.raises(DataError, match=f"--min-likelihood must be a finite number, got {limit}"):
        poses.choose([], [], limit)


@pytest.mark.parametrize("layout", ["fixed", "table"])
def test_deeplabcut_hdf5_in_both_layouts_of_pandas(tmp_path, layout):
    columns = pd.MultiIndex.from_product(
        [["net"], ["nose", "tail"], ["x", "y", "likelihood"]],
        names=["scorer", "bodyparts", "coords"],
    )
    values = np.random.default_rng(0).random((7, 6))
    path = tmp_path / "pose.h5"
    frame = pd.DataFrame(values, columns=columns)
    frame.to_hdf(path, key="df_with_missing", format=layout, mode="w")
    poses = read_poses(path)
    assert poses.keypoints == ("nose", "tail")
    np.testing.assert_array_equal(poses.positions[:, 0, 1], values[:, 3:5])
    np.testing.assert_array_equal(poses.likelihoods[:, 0, 0], values[:, 2])


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    path = tmp_path / "pose.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("df")
        group.attrs["pandas_type"] = "frame_table"
        group.attrs["non_index_axes"] = np.void(pickle.dumps(Payload()))
        group["table"] = np.zeros(3)
    with pytest.raises(DataError, match="not plain data"):
        read_poses(path)
    assert not (tmp_path / "ran").exists()


def test_leap_and_deepposekit_arrays(tmp_path):
    positions = np.random.default_rng(0).random((5, 3, 2)) + 1
    leap, kit = tmp_path / "leap.h5", tmp_path / "kit.h5"
    with h5py.File(leap, "w") as file:
        file["positions_pred"] = positions.transpose(0, 2, 1)
        file["conf_pred"] = np.ones((5, 3))
    with h5py.File(kit, "w") as file:
        file["keypoints"] = np.concatenate([positions, np.ones((5, 3, 1))], axis=2)
    np.testing.assert_array_equal(read_poses(leap).positions[:, 0], positions)
    assert same(read_poses(leap), read_poses(kit))


def test_plain_tables_with_named_columns(write, tmp_path):
    table = read_poses(write("frame,nose_x,nose_y,pupil\n0,1,2,9\n1,3,,9\n"))
    assert table.keypoints == ("nose",)
    np.testing.assert_array_equal(table.positions[:, 0, 0], [[1, 2], [np.nan, np.nan]])
    fields = np.zeros(2, dtype=[("nose_x", "f4"), ("nose_y", "f4"), ("nose_score", "f4")])
    fields["nose_x"] = [1, 3]
    np.save(tmp_path / "fields.npy", fields)
    assert read_poses(tmp_path / "fields.npy").positions[1, 0, 0].tolist() == [3, 0]
    np.save(tmp_path / "array.npy", np.ones((4, 2, 3)))
    assert read_poses(tmp_path / "array.npy").keypoints == ("keypoint_0", "keypoint_1")


def test_missing_points_are_masked_and_unsure_ones_keep_their_guess(write):
    rows = "0,1,2,.99\n1,0,0,.99\n2,,,.99\n3,5,6,.2\n4,0,7,.99\n"
    points = read_poses(write(HEADER + rows)).choose([], [], None)
    assert points.valid[:, 0].tolist() == [True, False, False, False, True]
    assert points.positions[3, 0].tolist() == [5, 6]
    lenient = read_poses(write(HEADER + rows)).choose([], [], 0.1)
    assert lenient.valid[:, 0].tolist() == [True, False, False, True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have header rows"),
        ("a,b\n1,2\n", "must have header rows.*'a, b'"),
        ("scorer,n,n\nbodyparts,p,p\n0,1,2\n", "got the rows scorer, bodyparts"),
        (HEADER, "holds a header but no row"),
        (HEADER + "0,1,two,.9\n", "must hold numbers below its header"),
        (HEADER + "0,0,0,0\n1,,,\n", "every position is missing"),
        ("paw_x,tail_x,tail_y\n1,2,3\n", "`paw` must have x and y"),
        ("paw_x,paw_y,paw_x\n1,2,3\n", "must not repeat a column"),
    ],
)
def test_tables_that_are_none_are_refused(write, text, message):
    with pytest.raises(DataError, match=message):
        read_poses(write(text))


def test_other_files_are_refused(write, tmp_path):
    with pytest.raises(DataError, match=r"must be a pose file.*got '\.txt'"):
        read_poses(write("", "pose.txt"))
    with pytest.raises(DataError, match="no such file"):
        read_poses(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="must be an HDF5 file"):
        read_poses(write("no hdf5", "pose.slp"))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["spikes"] = [1]
    with pytest.raises(DataError, match="got a file with spikes"):
        read_poses(tmp_path / "other.h5")


def test_what_is_absent_is_named_with_the_nearest(pose_files):
    poses = read_poses(pose_files / "deepof_testDLC_csv_table_madlc.csv")
    with pytest.raises(DataError, match="holds 2 tracks: mouse_black_tail, mouse_white_tail"):
        poses.choose([], [], None)
    with pytest.raises(DataError, match="no track `mouse_black`; did you mean `mouse_black_tail`"):
        poses.choose(["mouse_black"], [], None)
    with pytest.raises(DataError, match="no keypoint `Nase`; did you mean `Nose`"):
        poses.choose(["all"], ["Nase"], None)
    both = poses.choose(["all"], ["Nose"], None)
    assert both.names == ("mouse_black_tail_Nose", "mouse_white_tail_Nose")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("scorer,net,net\nbodyparts,paw\ncoords,x,y\n0,1,2\n", "got 3 in scorer, 2 in bodyparts"),
        ("scorer,a,a\nbodyparts,p,p\ncoords,x,y\n0,1\n", "must hold numbers below its header"),
        ("paw_x,paw_y\n1\n", "must hold numbers below its header"),
    ],
)
def test_tables_with_missing_cells_are_refused(write, text, problem):
    with pytest.raises(DataError, match=problem):
        read_poses(write(text))


@pytest.mark.parametrize("header", [b"{'descr': (", b"(" * 100, b"{'descr': '<f8', 'shape': 3}"])
def test_arrays_with_a_broken_header_are_refused(tmp_path, header):
    path = tmp_path / "pose.npy"
    path.write_bytes(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match="cannot be read as an array"):
        read_poses(path)


def external(file):
    file["tracks"] = h5py.ExternalLink("elsewhere.h5", "/tracks")


def virtual(file):
    layout = h5py.VirtualLayout((5, 2, 3), np.float64)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "tracks", (5, 2, 3), np.float64)
    file.create_virtual_dataset("keypoints", layout)


def raw(file):
    file.create_dataset("keypoints", (5, 2, 3), np.float64, external=[("elsewhere.raw", 0, 1000)])


@pytest.mark.parametrize("suffix", ["h5", "slp"])
@pytest.mark.parametrize("make", [external, virtual, raw])
def test_pose_files_that_point_elsewhere_are_refused(tmp_path, make, suffix):
    path = tmp_path / f"pose.{suffix}"
    with h5py.File(path, "w") as file:
        make(file)
    with pytest.raises(DataError, match="must hold all of its data, got another file's in"):
        read_poses(path)


def test_names_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "pose.h5"
    with h5py.File(path, "w") as file:
        file[b"sp\xffikes"] = [1]
    with pytest.raises(DataError, match=r"got a file with sp.ikes"):
        read_poses(path)


def test_positions_beyond_memory_are_refused(tmp_path):
    path = tmp_path / "pose.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("keypoints", (10**9, 100, 3), np.float64, chunks=(1000, 100, 3))
    with pytest.raises(DataError, match=r"needs 9600\.0 GB of memory"):
        read_poses(path)


@pytest.fixture
def project(tmp_path):
    """Return a SLEAP project of four videos, two of one name and one without labels."""
    lengths = {"C:\\data\\one.mp4": 5, "/s1/two.mp4": 8, "/s2/two.mp4": 3, "/s2/new.mp4": 0}
    videos = [sleap_io.Video(name, open_backend=False) for name in lengths]
    skeleton, frames = sleap_io.Skeleton(["paw", "nose"]), []
    for place, (video, length) in enumerate(zip(videos, lengths.values(), strict=True)):
        track = sleap_io.Track(f"mouse{place}")
        for i in range(length):
            points = np.full((2, 2), 1.0 + 10 * i + place)
            instance = sleap_io.PredictedInstance.from_numpy(
                points, skeleton=skeleton, point_scores=np.ones(2), score=1.0, track=track
            )
            frames.append(sleap_io.LabeledFrame(video, i, [instance]))
    path = tmp_path / "project.slp"
    sleap_io.Labels(frames, videos=videos).save(str(path))
    return path


@pytest.mark.parametrize(
    ("video", "place", "length"),
    [("elsewhere/one.mp4", 0, 5), ("s1/two.mp4", 1, 8), ("s2/two.mp4", 2, 3)],
)
def test_a_project_of_several_videos_gives_the_poses_of_the_one_named(
    project, video, place, length
):
    poses = read_poses(project, Path(video))
    assert poses.tracks == (f"mouse{place}",)
    assert poses.positions[:, 0, 0, 0] == pytest.approx(1 + 10 * np.arange(length) + place)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ("x/three.mp4", r"videos: C:\\data\\one.mp4, .*; not exactly one of them is x/three.mp4"),
        ("s3/two.mp4", "not exactly one of them is s3/two.mp4"),
        ("s2/new.mp4", r"holds no labelled frame of .*new.mp4"),
        (None, "holds poses of 4 videos"),
    ],
)
def test_a_project_without_poses_of_the_video_is_refused(project, video, message):
    with pytest.raises(DataError, match=message):
        read_poses(project, None if video is None else Path(video))
