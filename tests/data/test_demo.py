import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from psvae_tune.cli.epilogs import WORLDS as HELP
from psvae_tune.data.demo import demo_path, session_path, write_demo
from psvae_tune.data.demo_worlds import WORLDS
from psvae_tune.data.session_file import read_session
from psvae_tune.errors import DataError
from tests.support.demo_truth import read_truth


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "demo.h5"
    write_demo(path, n_clips=10)
    return path


@pytest.fixture(scope="module")
def session(path):
    return read_session(path, needs_labels=True)


def weighted_centre(image, rows, columns):
    """Centre of the bright pixels in a part of every frame, as (x, y)."""
    y, x = np.mgrid[rows, columns]
    weight = np.clip(image[:, rows, columns] - 90.0, 0, None)
    total = weight.sum((1, 2))
    return (weight * x).sum((1, 2)) / total, (weight * y).sum((1, 2)) / total


def test_contents(session):
    assert session.header.n_frames == 800
    assert session.header.frame_shape == (1, 32, 32)
    assert session.header.label_names == ("paw_left_x", "paw_right_x", "paw_left_y", "paw_right_y")
    assert session.header.has_labels_sc
    np.testing.assert_array_equal(session.labels, session.labels_sc)


def test_labels_say_where_the_paws_are(session):
    image = session.frames[:, 0].astype(float)
    for paw, columns in enumerate((slice(0, 15), slice(16, 32))):
        for axis, centre in enumerate(weighted_centre(image, slice(18, 32), columns)):
            label = 2 * axis + paw
            valid = session.label_masks[:, label]
            assert abs(centre - session.labels[:, label])[valid].max() < 0.5


def test_masked_labels_are_wrong_in_the_file(path, session):
    with h5py.File(path) as file:
        stored = np.concatenate([file["labels"][name][()] for name in sorted(file["labels"])])
    masked = ~session.label_masks
    assert 0.01 < masked.mean() < 0.06
    np.testing.assert_array_equal(masked[:, :2], masked[:, 2:])
    image = session.frames[:, 0].astype(float)
    x, y = weighted_centre(image, slice(18, 32), slice(0, 15))
    distance = np.hypot(x - stored[:, 0], y - stored[:, 2])
    assert np.median(distance[masked[:, 0]]) > 5


def test_truth_says_how_the_jaw_and_the_whisker_move(path, session):
    names, truth = read_truth(path)
    assert names == ("jaw", "whisker")
    assert truth.shape == (session.header.n_frames, 2)
    image = session.frames[:, 0].astype(float)
    _, jaw_y = weighted_centre(image, slice(0, 17), slice(0, 15))
    assert abs(jaw_y - truth[:, 0]).max() < 0.5
    x, y = weighted_centre(image, slice(0, 18), slice(16, 32))
    angle = np.degrees(np.arctan2(y - 8.5, x - 17.0))
    assert abs(angle - truth[:, 1]).max() < 5
    assert np.ptp(truth[:, 0]) > 7
    assert np.ptp(truth[:, 1]) > 80


def test_motions_are_independent(path, session):
    valid = session.label_masks.all(1)
    motions = np.concatenate([session.labels, read_truth(path)[1]], axis=1)[valid]
    correlation = np.corrcoef(motions.T) - np.eye(6)
    # About 800 / 9 independent positions: chance correlations have a spread of about 0.1.
    assert abs(correlation).max() < 0.35


def test_seed_decides_the_recording(tmp_path):
    digests = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        write_demo(tmp_path / f"{name}.h5", seed=seed, n_clips=2, clip_length=20)
        digests.append(read_session(tmp_path / f"{name}.h5", needs_labels=True).digest)
    assert digests[0] == digests[1] != digests[2]
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "again.h5").read_bytes()


def test_size_scales_frames_and_labels(tmp_path, session):
    write_demo(tmp_path / "large.h5", n_clips=10, size=64)
    large = read_session(tmp_path / "large.h5", needs_labels=True)
    assert large.header.frame_shape == (1, 64, 64)
    np.testing.assert_allclose(large.labels[0], 2 * session.labels[0], rtol=1e-6)


def test_demo_path_generates_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PSVAE_TUNE_CACHE", str(tmp_path / "cache"))
    path = demo_path()
    stamp = path.stat().st_mtime_ns
    assert demo_path() == path
    assert path.stat().st_mtime_ns == stamp
    assert path.parent == tmp_path / "cache"
    assert demo_path(seed=1) != path


def test_processes_may_generate_at_once(tmp_path):
    code = "from psvae_tune.data.demo import demo_path; print(demo_path())"
    environment = os.environ | {"PSVAE_TUNE_CACHE": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    paths = {process.communicate()[0].decode().strip() for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert [str(entry) for entry in tmp_path.iterdir()] == list(paths)
    read_session(paths.pop(), needs_labels=True)


def test_every_seed_has_a_light_of_its_own(tmp_path):
    stills = []
    for seed in range(4):
        write_demo(tmp_path / f"{seed}.h5", seed=seed, n_clips=1, clip_length=20)
        frames = read_session(tmp_path / f"{seed}.h5", needs_labels=True).frames
        stills.append(np.median(frames, axis=0)[0].astype(float))
    # The middle of the head and of the body, between what moves.
    for row in (slice(2, 4), slice(28, 30)):
        levels = sorted(still[row, 15:17].mean() for still in stills)
        assert np.diff(levels).min() > 4


def spread(world):
    """Return the correlation of jaw and whisker, and how much the pixels vary, in a world."""
    frames = read_session(session_path(world), needs_labels=True).frames.astype(float)
    _, truth = read_truth(session_path(world))
    return abs(np.corrcoef(truth.T)[0, 1]), frames.std(axis=0).mean(), frames.mean((1, 2, 3)).std()


@pytest.mark.parametrize("world", WORLDS)
def test_a_world_is_a_recording_with_known_parts(world, monkeypatch, tmp_path):
    monkeypatch.setenv("PSVAE_TUNE_CACHE", str(tmp_path))
    path, plain = (session_path(name) for name in (f"demo:{world}:1", "demo:1"))
    names, truth = read_truth(path)
    assert names == ("jaw", "whisker", "ear")[: 2 + (world == "three")]
    session, other = read_session(path, needs_labels=True), read_session(plain, needs_labels=True)
    assert truth.shape == (session.header.n_frames, len(names))
    assert session.frames.shape == other.frames.shape
    assert (session.frames != other.frames).any()
    assert world in HELP


def test_worlds_differ_from_the_demo_as_they_say(monkeypatch, tmp_path):
    monkeypatch.setenv("PSVAE_TUNE_CACHE", str(tmp_path))
    correlation, contrast, light = spread("demo")
    assert correlation < 0.1
    assert 0.3 < spread("demo:together")[0] < 0.7
    assert spread("demo:faint")[1] < 0.8 * contrast
    assert spread("demo:flicker")[2] > 3 * light


def test_a_world_that_does_not_exist_is_refused():
    with pytest.raises(DataError, match=r"(?s)worlds are together.*did you mean 'demo:three'"):
        session_path("demo:thre")
