"""NWB files: made, added to without a change of the rest, judged by nwbinspector, refused."""

import json
import logging
import sys
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest

from psvae_tune.data.frame_rows import OF_VIDEO, FrameRows
from psvae_tune.errors import DataError, StorageError
from psvae_tune.results.nwb_file import write_nwb
from psvae_tune.results.nwb_series import find_points
from psvae_tune.results.prediction_files import write_predictions
from psvae_tune.results.predictions import Predictions

# pynwb and nwbinspector, which the project cannot mend.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
N = 60
EVEN = np.arange(N) / 30
UNEVEN = 1.4 + np.cumsum(np.random.default_rng(0).uniform(0.01, 0.05, N))
NAMES = ("paw_x", "nose_x", "pupil", "paw_y", "nose_y")
MODEL = {"run_id": "4f1e", "study": "s", "settings": {"ps_vae.alpha": 50}}


def make(times=UNEVEN, seed=0, names=NAMES):
    rng = np.random.default_rng(seed)
    rows = FrameRows(
        "mouse", ("trial_0000", "trial_0001"), (40, N - 40), np.arange(N) + 7, times, OF_VIDEO
    )
    labels = rng.random((N, len(names))).astype(np.float32) if names else None
    latents = rng.random((N, 3)).astype(np.float32)
    return Predictions(rows, ("a", "b", "c"), names, latents, labels, None, MODEL)


@pytest.fixture
def lab_file(tmp_path):
    """Return the file of a session that a laboratory has filled with licks and another pose."""
    from ndx_pose import PoseEstimation, PoseEstimationSeries, Skeleton, Skeletons
    from pynwb import NWBHDF5IO, NWBFile, TimeSeries
    from pynwb.file import Subject

    file = NWBFile(
        session_description="walking",
        identifier="1",
        session_start_time=datetime(2020, 1, 1, tzinfo=UTC),
        subject=Subject(subject_id="m1", sex="F", age="P90D", species="Mus musculus"),
    )
    file.add_acquisition(
        TimeSeries(name="lick", data=np.arange(9.0), unit="V", rate=10.0, description="licks")
    )
    for start in (0.5, 1.5):
        file.add_trial(start_time=start, stop_time=start + 0.25)
    skeleton = Skeleton(name="other", nodes=["tail"])
    series = PoseEstimationSeries(
        name="tail", data=np.zeros((9, 2)), reference_frame="corner", rate=10.0
    )
    module = file.create_processing_module("behavior", "processed")
    module.add(Skeletons(skeletons=[skeleton]))
    module.add(PoseEstimation(pose_estimation_series=[series], skeleton=skeleton))
    path = tmp_path / "lab.nwb"
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path


@pytest.fixture
def opened():
    """Return a function that opens a file with pynwb until the test ends."""
    from pynwb import NWBHDF5IO

    ios = []

    def read(path):
        ios.append(NWBHDF5IO(str(path), "r"))
        return ios[-1].read()

    yield read
    for io in ios:
        io.close()


def contents(path):
    """Return every value and attribute of an HDF5 file, by name."""
    found = {}

    def note(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]
        for key, value in item.attrs.items():
            found[f"{name}@{key}"] = value

    with h5py.File(path) as file:
        file.visititems(note)
        found |= {f"@{key}": value for key, value in file.attrs.items()}
        return {name: repr(value) for name, value in found.items() if "HDF5 object" not in name}


def findings(path):
    from nwbinspector import Importance, inspect_nwbfile

    return [
        item
        for item in inspect_nwbfile(nwbfile_path=str(path))
        if item.importance.value > Importance.BEST_PRACTICE_SUGGESTION.value
    ]


@pytest.mark.parametrize("times", [EVEN, UNEVEN, EVEN + 3 * (EVEN > 1)])
@pytest.mark.parametrize("names", [NAMES, (), ("pupil",), ("paw_x", "paw_y")])
def test_a_new_file_says_what_the_model_said(tmp_path, opened, times, names):
    found, path = make(times, names=names), tmp_path / "new.nwb"
    write_nwb(found, path)
    module = opened(path).processing["behavior"]
    latents = module["psvae_latents"]
    np.testing.assert_array_equal(latents.data[:], found.latents)
    np.testing.assert_array_equal(module["psvae_frame_index"].data[:], found.rows.frame_index)
    about = json.loads(latents.comments)
    assert about["columns"] == ["a", "b", "c"]
    assert MODEL.items() <= about.items()
    series = {"psvae_latents": latents, "psvae_frame_index": module["psvae_frame_index"]}
    if "pupil" in names:
        series["psvae_labels"] = module["psvae_labels"]
        column = found.labels_hat[:, [names.index("pupil")]]
        np.testing.assert_array_equal(module["psvae_labels"].data[:], column)
    if "paw_x" in names:
        pose = module["psvae_pose"]
        series |= pose.pose_estimation_series
        assert sorted(pose.skeleton.nodes[:]) == sorted(pose.pose_estimation_series)
        places = found.labels_hat[:, [names.index("paw_x"), names.index("paw_y")]]
        np.testing.assert_array_equal(pose["paw"].data[:], places)
        assert pose.scorer == MODEL["run_id"]
    for item in series.values():
        np.testing.assert_allclose(item.get_timestamps()[:], times, rtol=0, atol=1e-9)
        assert item.description


@pytest.mark.parametrize("times", [EVEN, UNEVEN])
def test_nwbinspector_has_no_more_than_suggestions(tmp_path, lab_file, times):
    assert not findings(lab_file)
    for path in (tmp_path / "new.nwb", lab_file):
        write_nwb(make(times), path)
        assert not findings(path)


def test_what_a_file_held_stays_as_it_was(lab_file, opened):
    before = contents(lab_file)
    lab_file.chmod(0o640)
    write_nwb(make(), lab_file)
    after = contents(lab_file)
    assert {name: after.get(name) for name in before} == before
    assert all(
        "psvae" in name or name.startswith("specifications") for name in after.keys() - before
    )
    assert lab_file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in lab_file.parent.iterdir()] == ["lab.nwb"]
    assert list(opened(lab_file).trials["start_time"][:]) == [0.5, 1.5]


def test_predictions_are_replaced_only_when_asked(lab_file, opened):
    write_nwb(make(seed=0), lab_file)
    first = lab_file.read_bytes()
    with pytest.raises(StorageError, match=r"holds psvae_latents, .*psvae_skeleton already") as e:
        write_nwb(make(seed=1), lab_file)
    assert "--overwrite" in e.value.hint
    assert lab_file.read_bytes() == first
    second = make(EVEN, seed=1, names=("ear_x", "ear_y"))
    write_predictions(second, lab_file, replaces=True)
    module = opened(lab_file).processing["behavior"]
    np.testing.assert_array_equal(module["psvae_latents"].data[:], second.latents)
    assert list(module["psvae_pose"].pose_estimation_series) == ["ear"]
    assert "psvae_labels" not in module.data_interfaces
    assert set(module["Skeletons"].skeletons) == {"other", "psvae_skeleton"}
    assert not findings(lab_file)


def test_a_link_to_a_file_is_followed(lab_file, tmp_path, opened):
    link = tmp_path / "link.nwb"
    link.symlink_to(lab_file)
    write_nwb(make(), link)
    assert link.is_symlink()
    assert "psvae_latents" in opened(lab_file).processing["behavior"].data_interfaces


def test_what_a_new_file_cannot_know_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        write_nwb(make(), tmp_path / "new.nwb")
    assert "correct session_start_time, which is 1970-01-01" in caplog.text


def spoil(path, version=None, mode=None, content=None):
    if version is not None:
        with h5py.File(path, "a") as file:
            file.attrs["nwb_version"] = version
    if content is not None:
        path.write_bytes(content)
    if mode is not None:
        path.chmod(mode)


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"mode": 0o440}, StorageError, "is read-only"),
        ({"version": "3.0.0"}, StorageError, "must be of NWB schema version 2, got '3.0.0'"),
        ({"content": b"plain text"}, DataError, "must be an HDF5 file, got something else"),
        ({"content": b"\x89HDF\r\n\x1a\n"}, DataError, "cannot be opened|is cut short"),
    ],
)
def test_a_file_that_cannot_be_added_to_is_refused_and_kept(lab_file, how, error, words):
    spoil(lab_file, **how)
    before = lab_file.read_bytes()
    with pytest.raises(error, match=words):
        write_nwb(make(), lab_file)
    assert lab_file.read_bytes() == before
    assert [path.name for path in lab_file.parent.iterdir()] == ["lab.nwb"]


def test_files_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "x.nwb"
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(StorageError, match="version 2, got 'none'"):
        write_nwb(make(), path)
    with h5py.File(path, "a") as file:
        file["nwb_version"] = "NWB-1.0.6"
    with pytest.raises(StorageError, match=r"version 2, got 'NWB-1\.0\.6'"):
        write_nwb(make(), path)
    with h5py.File(path, "w") as file:
        file.attrs["nwb_version"] = "2.7.0"
    with pytest.raises(StorageError, match="cannot be used as an NWB file"):
        write_nwb(make(), path)
    with pytest.raises(StorageError, match=r"cannot be written: .*x\.nwb is no folder"):
        write_nwb(make(), path / "absent" / "y.nwb")


def test_absent_folders_are_made(tmp_path, opened):
    write_nwb(make(), tmp_path / "a" / "b" / "x.nwb")
    assert "behavior" in opened(tmp_path / "a" / "b" / "x.nwb").processing


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (None, "holds no times of its frames, which x.nwb needs"),
        (np.concatenate([EVEN[30:], EVEN[:30]]), "order of time for x.nwb, got 0 s after"),
    ],
)
def test_frames_without_times_are_refused(tmp_path, times, words):
    with pytest.raises(DataError, match=words):
        write_nwb(make(times), tmp_path / "x.nwb")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["pynwb", "ndx_pose"])
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(StorageError, match=f"missing: {package}") as error:
        write_nwb(make(), tmp_path / "x.nwb")
    assert error.value.hint == "pip install 'psvae-tune[nwb]'"


def test_names_that_nwb_refuses_are_changed_and_told(tmp_path, opened):
    stems = ("paw/left", "paw:left", "a:b/c", "paw_left")
    found = make(names=tuple(f"{stem}_{axis}" for axis in "xy" for stem in stems))
    write_nwb(found, tmp_path / "x.nwb")
    pose = opened(tmp_path / "x.nwb").processing["behavior"]["psvae_pose"]
    assert set(pose.skeleton.nodes[:]) == set(pose.pose_estimation_series)
    assert len(pose.pose_estimation_series) == len(stems)
    for column, stem in enumerate(stems):
        (series,) = (
            item
            for item in pose.pose_estimation_series.values()
            if f"Place of {stem} that" in item.description
        )
        np.testing.assert_array_equal(series.data[:], found.labels_hat[:, [column, column + 4]])
    assert not findings(tmp_path / "x.nwb")


def test_points_are_labels_of_two_axes():
    names = ("paw_x", "tail_x", "_x", "pupil", "paw_y", "_y", "ear_y")
    assert find_points(names) == {"paw": [0, 4]}
