"""Poses of NWB files as SLEAP and movement (for VAME) write them, and files that are hostile."""

import shutil
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest

from psvae_tune.data.importers.plan import plan_import
from psvae_tune.data.importers.read_poses import read_poses
from psvae_tune.data.importers.request import ImportRequest, Source
from psvae_tune.errors import DataError, PsvaeTuneError
from tests.support.hostile import damage
from tests.support.recordings import draw, path_of_square, write_video
from tests.support.stamped_videos import read_times

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of pynwb
N = 60


@pytest.fixture(scope="module")
def centres():
    return path_of_square(N)


@pytest.fixture(scope="module")
def video(tmp_path_factory, centres):
    stamps = np.cumsum(np.random.default_rng(0).integers(1, 4, N)).tolist()
    path = tmp_path_factory.mktemp("video") / "mouse.mkv"
    return write_video(path, draw(centres), stamps=stamps)


def write_poses(path, poses, software="DeepLabCut", **options):
    """Write poses: by track, by keypoint, (times, places, confidence)."""
    from ndx_pose import PoseEstimation, PoseEstimationSeries, Skeleton, Skeletons
    from pynwb import NWBHDF5IO, NWBFile

    file = NWBFile("x", "1", datetime(2020, 1, 1, tzinfo=UTC))
    module = file.create_processing_module("behavior", "processed")
    nodes = sorted({keypoint for series in poses.values() for keypoint in series})
    skeleton = Skeleton(name="s", nodes=nodes)
    module.add(Skeletons(skeletons=[skeleton]))
    for track, keypoints in poses.items():
        series = []
        for name, (times, places, confidence) in keypoints.items():
            clock = {"timestamps": times}
            if isinstance(times, float):
                clock = {"rate": times, "starting_time": 0.0}
            elif series and times is keypoints[next(iter(keypoints))][0]:
                clock = {"timestamps": series[0]}
            series.append(
                PoseEstimationSeries(
                    name=name, data=places, confidence=confidence, reference_frame="r", **clock
                )
            )
        module.add(
            PoseEstimation(
                name=track,
                pose_estimation_series=series,
                source_software=software,
                skeleton=skeleton,
                **options,
            )
        )
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path


def labels_of(video, path, **options):
    plan = plan_import(ImportRequest((Source(video, path, **options),), size=(96, 64)))
    return plan, plan.arrays["labels"], plan.arrays["labels_masks"] > 0


@pytest.mark.parametrize("clock", ["stamps", "rate", "session clock"])
def test_a_pose_of_every_frame_is_read_in_its_order(tmp_path, video, centres, clock):
    times = {"stamps": read_times(video), "rate": 30.0, "session clock": np.arange(N) / 30 + 99.5}
    sure = np.where(np.arange(N) % 10 == 3, 0.5, 0.99)
    keypoints = {"paw": (times[clock], centres, sure), "ear": (times[clock], centres + 1, sure)}
    path = write_poses(tmp_path / "x.nwb", {"mouse": keypoints})
    plan, labels, masks = labels_of(video, path)
    assert plan.attributes["label_names"] == '["ear_x", "paw_x", "ear_y", "paw_y"]'
    np.testing.assert_array_equal(masks[:, 1], sure > 0.9)
    np.testing.assert_allclose(labels[:, [1, 3]], centres, atol=1e-4)
    np.testing.assert_allclose(labels[:, [0, 2]], centres + 1, atol=1e-4)


@pytest.mark.parametrize("step_s", [None, 2])
def test_rows_that_a_tracker_left_out_are_placed_by_their_times(tmp_path, video, centres, step_s):
    if step_s is not None:  # a time-lapse, whose times look like numbers of frames
        stamps = [30 * step_s * i for i in range(N)]
        video = write_video(tmp_path / "lapse.mkv", draw(centres), stamps=stamps)
    times, rng = read_times(video), np.random.default_rng(1)
    seen = {name: np.flatnonzero(rng.random(N) < 0.6) for name in ("paw", "ear")}
    keypoints = {
        name: (times[rows], centres[rows] + (name == "ear"), None) for name, rows in seen.items()
    }
    path = write_poses(tmp_path / "x.nwb", {"PoseEstimation": keypoints})
    plan, labels, masks = labels_of(video, path)
    frames = np.array(plan.frames)
    for column, name in ((0, "ear"), (1, "paw")):
        there = np.isin(frames, seen[name])
        np.testing.assert_array_equal(masks[:, column], there)
        expected = (centres + (name == "ear"))[frames[there], 0]
        np.testing.assert_allclose(labels[there, column], expected, atol=1e-4)


@pytest.mark.parametrize("has_times", [False, True])
def test_the_export_of_sleap_is_placed_by_frame(tmp_path, video, centres, has_times):
    """SLEAP numbers frames where it knows no times, and leaves out what it did not see."""
    import sleap_io as sio
    from sleap_io.io.nwb_predictions import write_nwb

    skeleton, tracks = sio.Skeleton(["paw", "ear"], name="fly"), [sio.Track("a"), sio.Track("b")]
    movie, rng = sio.Video(filename=str(video)), np.random.default_rng(2)
    positions = np.stack([[centres, centres + 1], [centres + 2, centres + 3]]).swapaxes(1, 2)
    positions[rng.random(positions.shape[:3]) < 0.3] = np.nan  # (track, frame, keypoint, 2)
    frames = [
        sio.LabeledFrame(
            video=movie,
            frame_idx=i,
            instances=[
                sio.PredictedInstance.from_numpy(
                    np.column_stack([places[i], [0.4, 0.4]]), skeleton, score=0.4, track=track
                )
                for track, places in zip(tracks, positions, strict=True)
            ],
        )
        for i in range(N)
    ]
    labels = sio.Labels(frames, videos=[movie], skeletons=[skeleton], tracks=tracks)
    labels.provenance["sleap_version"] = "1.3"
    about = {"video_timestamps": read_times(video)} if has_times else None
    write_nwb(labels, str(tmp_path / "x.nwb"), pose_estimation_metadata=about)
    found = read_poses(tmp_path / "x.nwb", video)
    assert (found.tracks, sorted(found.keypoints)) == (("a", "b"), ["ear", "paw"])
    order = [found.keypoints.index(name) for name in ("paw", "ear")]
    seen = found.positions[:, :, order].transpose(1, 0, 2, 3)
    np.testing.assert_allclose(seen, positions[:, : seen.shape[1]], atol=1e-4)
    assert seen.shape[1] == N or np.isnan(positions[:, seen.shape[1] :]).all()
    assert labels_of(video, tmp_path / "x.nwb", tracks=("a",))[2].any()  # of any score


def test_animals_and_videos_are_chosen_by_name(tmp_path, video, centres):
    pose = {"paw": (read_times(video), centres, None)}
    path = write_poses(tmp_path / "x.nwb", {"track=a": pose, "track=b": pose})
    with pytest.raises(DataError, match="holds 2 tracks: a, b"):
        labels_of(video, path)
    assert labels_of(video, path, tracks=("b",))[1].shape == (N, 2)
    with h5py.File(path, "a") as file:
        for name, of in (("track=a", video.name), ("track=b", "C:\\v\\other.mp4")):
            file[f"processing/behavior/{name}/original_videos"] = [of]
    assert read_poses(path, video).tracks == ("a",)
    other = shutil.copy(video, tmp_path / "other.mp4")
    assert read_poses(path, other).tracks == ("b",)
    with pytest.raises(DataError, match=r"poses of 2 videos: mouse.mkv, other.mp4, not of x.mp4"):
        read_poses(path, tmp_path / "x.mp4")


def test_what_a_model_predicted_is_no_pose(tmp_path, video, centres):
    pose = {"paw": (read_times(video), centres, None)}
    path = write_poses(tmp_path / "x.nwb", {"psvae_pose": pose}, software="psvae_tune")
    with pytest.raises(DataError, match=r"must hold a PoseEstimation .* 1 that psvae_tune pred"):
        read_poses(path, video)


def put(name, value):
    def edit(file):
        place = f"processing/behavior/mouse/{name}"
        if place in file:
            del file[place]
        if value is not None:
            file[place] = value

    return edit


def empty(file):
    """Leave no row of the pose."""
    for name, shape in (("data", (0, 2)), ("timestamps", (0,)), ("confidence", (0,))):
        put(f"paw/{name}", np.zeros(shape))(file)


def attribute(name, key, value):
    return lambda file: file[f"processing/behavior/mouse/{name}"].attrs.__setitem__(key, value)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (put("paw/data", np.zeros((N, 3))), "must hold x and y of each frame, got the shape"),
        (put("paw/data", np.zeros(N)), "must hold x and y of each frame, got the shape"),
        (put("paw/data", np.array([b"x"] * N)), "must be numbers, got"),
        (put("paw/data", None), "cannot be read as NWB"),
        (put("paw/timestamps", None), "cannot be read as NWB"),
        (put("paw/timestamps", np.zeros(3)), "a time and a confidence for each of 60"),
        (put("paw/timestamps", np.full(N, np.nan)), "must have finite times"),
        (put("paw/timestamps", h5py.SoftLink("/absent")), "cannot be read as NWB"),
        (put("paw/timestamps", h5py.ExternalLink("/etc/passwd", "/x")), "another file's"),
        (put("paw/confidence", np.zeros((N, 2))), "a time and a confidence for each of 60"),
        (put("paw", None), "holds no keypoint"),
        (empty, "must hold positions of its keypoints, got no row"),
        (attribute("paw/data", "unit", "meters"), "must be in pixels of the video, got 'meters'"),
        (attribute("paw/data", "conversion", "x"), "cannot be read as NWB"),
        (attribute("", "neurodata_type", "Other"), "must hold a PoseEstimation .* got none"),
    ],
)
def test_poses_that_cannot_be_are_one_error(tmp_path, video, centres, edit, words):
    pose = {"paw": (read_times(video), centres, np.ones(N))}
    path = write_poses(tmp_path / "x.nwb", {"mouse": pose})
    with h5py.File(path, "a") as file:
        edit(file)
    with pytest.raises(DataError, match=words):
        read_poses(path, video)


def test_a_damaged_file_is_taken_or_refused(tmp_path, centres):
    content = write_poses(
        tmp_path / "x.nwb", {"mouse": {"paw": (30.0, centres, np.ones(N))}}
    ).read_bytes()
    path, outcomes = tmp_path / "damaged.nwb", set()
    for seed in range(5):
        path.write_bytes(damage(content, seed))
        try:
            read_poses(path)
            outcomes.add("taken")
        except PsvaeTuneError:
            outcomes.add("refused")
    assert "refused" in outcomes
