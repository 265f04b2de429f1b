"""Every stored frame, and every row of what a model says of it, knows its frame and its time."""

import csv
import io

import av
import h5py
import numpy as np
import pytest

from psvae_tune.config.trial import parse_trial_config
from psvae_tune.data.frame_rows import OF_RECORDING, OF_VIDEO, name_sessions
from psvae_tune.data.importers.plan import plan_import
from psvae_tune.data.importers.request import FrameRange, ImportRequest, Source
from psvae_tune.data.importers.write import import_session
from psvae_tune.data.label_scaler import LabelScaler
from psvae_tune.data.session_file import ExtraGroup, read_session, write_session
from psvae_tune.data.video import Crop
from psvae_tune.errors import DataError
from psvae_tune.models.batch import DataShape
from psvae_tune.models.model_file import SavedModel
from psvae_tune.models.registry import build_model
from psvae_tune.results.prediction_files import from_hdf5, to_csv, to_hdf5
from psvae_tune.results.predictions import predict_recording
from tests.support.recordings import draw, path_of_square, write_csv, write_video
from tests.support.stamped_videos import read_times, write_stamped

N = 60


@pytest.fixture(scope="module")
def centres():
    return path_of_square(N)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory, centres):
    """Return a video of a variable frame rate that begins later than 0, with B-frames."""
    stamps = 7 + np.cumsum(np.random.default_rng(0).integers(1, 9, N))
    path = tmp_path_factory.mktemp("video") / "uneven.mkv"
    return write_video(path, draw(centres), stamps=stamps.tolist())


@pytest.fixture(scope="module")
def model():
    config = parse_trial_config({"model": {"model_class": "vae", "n_ae_latents": 3}}, "x").model
    network = build_model(config, DataShape(1, 32, 48)).eval()
    return SavedModel(network, LabelScaler.identity(0), {})


def run(path, *sources, **options):
    plan = plan_import(ImportRequest(sources, size=(48, 32), **options))
    import_session(plan, path)
    return plan, read_session(path, needs_labels=False)


@pytest.mark.parametrize(
    ("crop", "frames"),
    [
        (None, FrameRange()),
        (Crop(48, 32, 10, 5), FrameRange(13, 58, 4)),
        (None, FrameRange(20)),
    ],
)
def test_stored_frames_have_the_stamps_of_the_container(uneven, tmp_path, crop, frames):
    options = {"frames": frames, "clip_length": 7 if frames.step == 1 else 5}
    _, session = run(tmp_path / "s.h5", Source(uneven, crop=crop), **options)
    chosen = np.arange(N)[slice(*frames)]
    np.testing.assert_array_equal(session.frame_index, chosen)
    times = read_times(uneven)
    np.testing.assert_array_equal(session.time_s, times[chosen])
    assert times[0] > 0
    assert len(set(np.diff(times).round(6))) > 3
    with h5py.File(tmp_path / "s.h5") as file:  # laid out like the other groups
        for name in ("frame_index", "time_s"):
            assert list(file[name]) == list(file["images"])
            assert [len(file[name][c]) for c in file[name]] == list(session.header.clip_lengths)


def test_frames_that_are_left_out_at_the_ends_still_count(uneven, tmp_path, centres):
    known = np.where(np.arange(N)[:, None] < 11, np.nan, centres)
    poses = write_csv(tmp_path / "uneven.csv", known)
    _, session = run(tmp_path / "s.h5", Source(uneven, poses))
    assert session.frame_index.tolist() == list(range(11, N))
    np.testing.assert_array_equal(session.time_s, read_times(uneven)[11:])


def test_rows_of_a_video_and_of_its_recording_are_the_same(uneven, tmp_path, model):
    run(tmp_path / "uneven.h5", Source(uneven), clip_length=20)
    tables = [
        predict_recording(model, path).to_frame() for path in (uneven, tmp_path / "uneven.h5")
    ]
    for table in tables:
        assert list(table)[:5] == [
            "session",
            "clip",
            "frame_index",
            "time_s",
            "latent: unsupervised 0",
        ]
        assert set(table["session"]) == {"uneven"}
        assert table["frame_index"].tolist() == list(range(N))
        np.testing.assert_array_equal(table["time_s"], read_times(uneven))
    assert tables[1]["clip"].value_counts(sort=False).to_dict() == {
        f"trial_{i:04d}": 20 for i in range(3)
    }


def test_tables_on_disk_hold_every_digit_of_a_time(uneven, model):
    found = predict_recording(model, uneven)
    rows = list(csv.DictReader(io.StringIO(to_csv(found).decode())))
    assert [float(row["time_s"]) for row in rows] == read_times(uneven).tolist()
    assert [int(row["frame_index"]) for row in rows] == list(range(N))
    again = from_hdf5(to_hdf5(found), "x.h5")
    assert again.to_frame().equals(found.to_frame())
    assert (again.rows.index_unit, again.model) == (OF_VIDEO, found.model)


def test_a_recording_that_names_no_frames_counts_its_own_and_has_no_time(tmp_path, model):
    frames = np.random.default_rng(0).integers(0, 256, (12, 1, 32, 48), np.uint8)
    write_session(tmp_path / "plain.h5", frames, [5, 7])
    for recording in (tmp_path / "plain.h5", frames):
        found = predict_recording(model, recording)
        assert found.rows.index_unit == OF_RECORDING
        assert found.to_frame()["frame_index"].tolist() == list(range(12))
        assert found.to_frame()["time_s"].isna().all()
        assert {row["time_s"] for row in csv.DictReader(io.StringIO(to_csv(found).decode()))} == {
            ""
        }


STEADY = [33 * i for i in range(N)]


def swapped(stamps, i):
    return [*stamps[:i], stamps[i + 1], stamps[i], *stamps[i + 2 :]]


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize(
    ("stamps", "words"),
    [
        ([*STEADY[:10], STEADY[9], *STEADY[11:]], "1 of 60 time stamps repeat another"),
        (swapped(swapped(STEADY, 10), 40), "its time stamps decrease 2 times"),
    ],
)
def test_stamps_that_cannot_be_are_no_times(tmp_path, centres, model, suffix, stamps, words):
    video = write_stamped(tmp_path / f"odd.{suffix}", draw(centres), stamps)
    plan, session = run(tmp_path / "s.h5", Source(video))
    assert [note for note in plan.notes if words in note and "have no times" in note]
    assert session.time_s is None
    assert session.frame_index.tolist() == list(range(N))
    # The frames are those of the file, in its order, and none counts as damaged.
    steady = write_stamped(tmp_path / "steady.mkv", draw(centres), STEADY)
    _, expected = run(tmp_path / "steady.h5", Source(steady))
    np.testing.assert_array_equal(session.frames, expected.frames)
    np.testing.assert_array_equal(expected.time_s, np.array(STEADY) / 1000)


def test_a_video_without_stamps_has_indices_alone(tmp_path, centres, model):
    video = write_video(tmp_path / "raw.h264", draw(centres))
    with av.open(str(video)) as container:
        assert all(packet.pts is None for packet in container.demux(video=0))
    plan, session = run(tmp_path / "s.h5", Source(video))
    assert [note for note in plan.notes if "60 of 60 frames have no time stamp" in note]
    assert session.time_s is None
    assert session.frame_index.tolist() == list(range(N))
    assert predict_recording(model, video).rows.time_s is None


def test_cameras_whose_times_differ_are_named(uneven, tmp_path, centres):
    even = write_video(tmp_path / "even.mkv", draw(centres))
    plan, session = run(tmp_path / "s.h5", Source(uneven), Source(even))
    apart = abs(read_times(uneven) - read_times(even)).max()
    assert f"differ by up to {apart:.3g} s: `time_s` is that of uneven.mkv" in str(plan.notes)
    np.testing.assert_array_equal(session.time_s, read_times(uneven))
    assert "differ by" not in str(plan_import(ImportRequest((Source(even),) * 2)).notes)
    bare = Source(write_video(tmp_path / "bare.h264", draw(centres)))
    for sources in ((bare, Source(uneven), Source(even)), (Source(even), bare)):
        assert "differ by" not in str(plan_import(ImportRequest(sources)).notes)
    plan = plan_import(ImportRequest((Source(uneven), bare, Source(even))))
    assert f"differ by up to {apart:.3g} s" in str(plan.notes)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("time_s", [0, 1, np.nan, 3, 4, 5], "must have `time_s` finite, got nan in frame 2"),
        ("time_s", [0, 1, 1, 3, 4, 5], "`time_s` ascending, got 1 after 1 in frame 2"),
        ("frame_index", [0, 1, 2, 3, 5, 4], "ascending, got 4 after 5 in frame 2"),
        ("frame_index", [-1, 1, 2, 3, 4, 5], "`frame_index` 0 or more, got -1 in frame 0"),
        ("frame_index", [0, 0.5, 1, 2, 3, 4], "must be whole numbers, got float64"),
        ("time_s", [[0]] * 6, r"must have the axes \[frame\], got the shape"),
    ],
)
def test_origins_that_cannot_be_are_refused(tmp_path, name, values, words):
    frames = np.zeros((6, 1, 4, 4), np.uint8)
    write_session(
        tmp_path / "s.h5", frames, [3, 3], extra_groups={name: ExtraGroup(np.array(values))}
    )
    with pytest.raises(DataError, match=words):
        read_session(tmp_path / "s.h5", needs_labels=False)


def test_clips_of_other_lengths_than_the_frames_are_refused(tmp_path):
    write_session(tmp_path / "s.h5", np.zeros((6, 1, 4, 4), np.uint8), [3, 3])
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file["time_s/trial_0000"], file["time_s/trial_0001"] = np.arange(3), np.arange(2)
    with pytest.raises(DataError, match="`trial_0001` has 3 frames but 2 rows in `time_s`"):
        read_session(tmp_path / "s.h5", needs_labels=False)


def test_what_models_see_is_the_same_with_and_without_times(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), np.uint8)
    origins = {
        "time_s": ExtraGroup(np.arange(6) / 30),
        "frame_index": ExtraGroup(np.arange(6)),
    }
    digests = set()
    for groups in ({}, origins):
        write_session(tmp_path / "s.h5", frames, [3, 3], extra_groups=groups)
        digests.add(read_session(tmp_path / "s.h5", needs_labels=False).digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/mouse.h5"], ("mouse",)),
        (["a/mouse.h5", "b/fly.hdf5"], ("mouse", "fly")),
        (["lab/m1/data.hdf5", "lab/m2/data.hdf5"], ("m1/data", "m2/data")),
        (["s3://a/1/x/d.h5", "s3://a/2/x/d.h5"], ("1/x/d", "2/x/d")),
        (["a.h5", "a.h5"], ("0_a", "1_a")),
        (["C:\\m\\a.h5", "C:\\n\\a.h5"], ("m/a", "n/a")),
    ],
)
def test_sessions_have_names_of_their_own(paths, names):
    assert name_sessions(paths) == names
