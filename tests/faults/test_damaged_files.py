"""Files of which some bytes are wrong: read, or refused with one error."""

import math
import random
import sys
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import sleap_io

from psvae_tune.data import untrusted_hdf5
from psvae_tune.data.demo import write_demo
from psvae_tune.data.importers.plan import plan_import
from psvae_tune.data.importers.read_poses import read_poses
from psvae_tune.data.importers.request import ImportRequest, Source
from psvae_tune.data.importers.write import import_session
from psvae_tune.data.quality_measures import measure_session
from psvae_tune.data.session_file import read_session, write_session
from psvae_tune.data.session_header import read_header
from psvae_tune.errors import DataError
from tests.support.damaged_files import NAMES, write_model
from tests.support.hostile import N_INPUTS, NASTY, damage, share
from tests.support.recordings import draw, path_of_square, write_csv, write_video
from tests.support.tables import OUTCOMES

pytestmark = pytest.mark.slow


def write_plain_session(path, names=NAMES):
    """Write a session as it is without compression: most bytes of it are structure."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["label_names"] = names
        for i, length in enumerate([4, 3, 5]):
            clip = f"trial_{i:04d}"
            file[f"images/{clip}"] = rng.integers(0, 256, (length, 1, 4, 6), np.uint8)
            file[f"labels/{clip}"] = rng.uniform(0, 6, (length, 2)).astype(np.float32)
            file[f"labels_masks/{clip}"] = np.ones((length, 2), np.float32)


def write_imported_session(path):
    """Write what ``data import`` writes beside frames and labels, as texts of a fixed length."""
    write_plain_session(path, np.bytes_(NAMES))
    with h5py.File(path, "a") as file:
        file.attrs["label_cameras"] = np.bytes_("[0, 1]")
        file.attrs["n_cameras"] = 2
        for i, length in enumerate([4, 3, 5]):
            file[f"labels_sc/trial_{i:04d}"] = file[f"labels/trial_{i:04d}"][()]
            file[f"time_s/trial_{i:04d}"] = np.arange(length) / 30 + i


def write_packed_session(path):
    rng = np.random.default_rng(0)
    labels = rng.uniform(0, 6, (12, 2)).astype(np.float32)
    write_session(
        path,
        rng.integers(0, 256, (12, 1, 4, 6), np.uint8),
        [4, 3, 5],
        label_names=["paw_x", "paw_y"],
        labels=labels,
        label_masks=labels > 1,
        labels_sc=labels,
    )


def make_pose_table():
    columns = pd.MultiIndex.from_product(
        [["net"], ["paw", "nose"], ["x", "y", "likelihood"]],
        names=["scorer", "bodyparts", "coords"],
    )
    return pd.DataFrame(np.random.default_rng(0).random((6, 6)), columns=columns)


def write_table_csv(path):
    make_pose_table().to_csv(path)


def write_fixed(path):
    make_pose_table().to_hdf(path, key="poses", format="fixed")


def write_table(path):
    make_pose_table().to_hdf(path, key="poses", format="table")


def write_leap(path):
    with h5py.File(path, "w") as file:
        file["positions_pred"] = np.random.default_rng(0).random((6, 2, 3))
        file["conf_pred"] = np.ones((6, 3))


def write_array(path):
    np.save(path, np.random.default_rng(0).random((6, 2, 3)))


def write_analysis(path):
    with h5py.File(path, "w") as file:
        file["tracks"] = np.random.default_rng(0).random((1, 2, 3, 6))
        file["track_occupancy"] = np.ones((6, 1), np.uint8)
        file["node_names"] = [b"a", b"b", b"c"]
        file["track_names"] = [b"fly"]
        file["point_scores"] = np.ones((1, 3, 6))
        file["instance_scores"] = np.ones((1, 6))
        file["tracking_scores"] = np.ones((1, 6))
        file["edge_inds"] = np.zeros((0, 2))
        file["edge_names"] = np.zeros((0, 2), "S1")
        for name in ("labels_path", "video_path", "provenance"):
            file[name] = "{}" if name == "provenance" else "x"
        file["video_ind"] = 0


def write_project(path):
    skeleton = sleap_io.Skeleton(["a", "b", "c"])
    videos = [
        sleap_io.Video(filename=name, open_backend=False) for name in ("video.mp4", "other.mp4")
    ]
    track = sleap_io.Track("fly")
    frames = [
        sleap_io.LabeledFrame(
            video=videos[i % 2],
            frame_idx=i,
            instances=[
                sleap_io.PredictedInstance.from_numpy(
                    np.random.default_rng(i).random((3, 2)) * 9, skeleton=skeleton, track=track
                )
            ],
        )
        for i in range(6)
    ]
    sleap_io.Labels(labeled_frames=frames).save(str(path), verbose=False)


def write_small_video(path):
    write_video(path, draw(path_of_square(30)))


def write_facemap(path):
    with h5py.File(path, "w") as file:
        for name in ("paw", "nose"):
            for coord in ("x", "y", "likelihood"):
                file[f"Facemap/{name}/{coord}"] = np.random.default_rng(0).random(6)


# What reads it, its name, what writes it, and its part of the inputs of its parser. Texts of no
# fixed length are read by another process first, which takes a hundred times longer.
KINDS = {
    "session": ("recording", "session.h5", write_plain_session, 0.02),
    "packed session": ("recording", "session.h5", write_packed_session, 0.48),
    "imported session": ("recording", "session.h5", write_imported_session, 0.5),
    "imported session, checked": ("data check", "session.h5", write_imported_session, 1),
    "DeepLabCut CSV": ("pose file", "pose.csv", write_table_csv, 0.2),
    "DeepLabCut HDF5": ("pose file", "pose.h5", write_fixed, 0.2),
    "DeepLabCut table": ("pose file", "pose.h5", write_table, 0.2),
    "Facemap": ("pose file", "pose.h5", write_facemap, 0.1),
    "LEAP": ("pose file", "pose.h5", write_leap, 0.25),
    "NumPy": ("pose file", "pose.npy", write_array, 0.15),
    "SLEAP analysis": ("pose file", "pose.h5", write_analysis, 0.02),
    "SLEAP project": ("pose file", "pose.slp", write_project, 0.05),
    "video": ("video", "video.mp4", write_small_video, 1),
    "model": ("model", "model.pt", write_model, 0.4),
}


@pytest.mark.timeout(0 if N_INPUTS else 300)
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(tmp_path, reader, kind):
    name, file_name, write, part = KINDS[kind]
    path = tmp_path / file_name
    write(path)
    assert reader.read(name, path) == "taken"
    content = path.read_bytes()
    trouble = {}
    for seed in range(share(20, part)):
        path.write_bytes(damage(content, seed))
        outcome = reader.read(name, path)
        if outcome not in OUTCOMES:
            trouble[seed] = outcome
    assert not trouble


def write_odd(path, seed):
    """Write a session whose attributes, and what else no study needs, are anything."""
    rng = random.Random(seed)
    write_imported_session(path)
    with h5py.File(path, "a") as file:
        values = [
            *[np.bytes_(text.encode(errors="replace")) for text in rng.sample(NASTY, 3)],
            *[np.bytes_(text) for text in (NAMES, "[0, 1]", "[0]", "[[0], {}]", "[-1, 1e999]")],
            *[0, 1, 2, -1, 10**9, 2**63 - 1, math.nan, -math.inf, True, 1j],
            h5py.Empty("f4"),
            np.zeros((2, 3)),
            np.zeros(4000),
            np.array([b"a", b"b"]),
            np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
            file.ref,
            file["labels"].ref,
        ]
        if rng.random() < 0.01:  # text of no fixed length, see above
            values = [rng.choice(NASTY).encode(errors="replace").replace(b"\0", b"").decode()]
        for _ in range(rng.randint(1, 3)):
            item = file[rng.choice(["/", "/", "/", "images", "time_s", "labels/trial_0001"])]
            name = rng.choice(["label_names", "label_cameras", "n_cameras", "units", "x"])
            item.attrs[name] = rng.choice(values)
        if rng.random() < 0.5:
            replace_times(file, rng)


def replace_times(file, rng):
    """Have the group of times, or one clip of it, be something else."""
    name = rng.choice(["time_s", "time_s/trial_0001"])
    del file[name]
    others = {
        "nothing": lambda: None,
        "numbers": lambda: file.create_dataset(
            name, data=[rng.choice([0, 1, 1e300, math.nan])] * 3
        ),
        "text": lambda: file.create_dataset(name, data=np.array([b"x"] * 3)),
        "table": lambda: file.create_dataset(name, data=np.zeros((3, 3))),
        "group": lambda: file.create_group(name),
        "unwritten": lambda: file.create_dataset(name, (10**12,), "f8", chunks=(10**6,)),
        "elsewhere": lambda: file.__setitem__(name, h5py.ExternalLink("/etc/passwd", "/x")),
        "link": lambda: file.__setitem__(name, h5py.SoftLink("/images/trial_0001")),
        "itself": lambda: file.__setitem__(name, h5py.SoftLink(f"/{name}")),
        "raw": lambda: file.create_dataset(name, (3,), "f8", external=[("/etc/passwd", 0, 24)]),
    }
    rng.choice(list(others.values()))()


def test_times_of_another_file_are_refused(tmp_path):
    path, other = tmp_path / "session.h5", tmp_path / "other.h5"
    write_imported_session(path)
    assert measure_session(str(path)).times is not None
    with h5py.File(other, "w") as file:
        file["x"] = np.arange(3.0)
    with h5py.File(path, "a") as file:
        del file["time_s/trial_0001"]
        file["time_s/trial_0001"] = h5py.ExternalLink(str(other), "/x")
    with pytest.raises(DataError, match="`time_s/trial_0001` must be stored in the file itself"):
        measure_session(str(path))


@pytest.mark.parametrize("cameras", ["[0]", "[0, 2]", "[[0], {}]", "nothing", "1"])
def test_cameras_that_cannot_be_count_as_one(tmp_path, cameras):
    path = tmp_path / "session.h5"
    write_imported_session(path)
    with h5py.File(path, "a") as file:
        file.attrs["label_cameras"] = np.bytes_(cameras)
    measures = measure_session(str(path))
    assert (measures.n_cameras, measures.cameras) == (1, (0, 0))


@pytest.mark.parametrize(("n_cameras", "cameras"), [(2**63 - 1, (0, 1)), (-math.inf, (0, 0))])
def test_any_number_of_cameras_can_be_claimed(tmp_path, n_cameras, cameras):
    path = tmp_path / "session.h5"
    write_imported_session(path)
    with h5py.File(path, "a") as file:
        file.attrs["n_cameras"] = n_cameras
    assert measure_session(str(path)).cameras == cameras


@pytest.mark.parametrize(("frame", "problem"), [(2**62, "GB of memory"), (-5, "from 0 on")])
def test_sleap_frames_that_no_video_has_are_refused(tmp_path, frame, problem):
    path = tmp_path / "pose.slp"
    write_project(path)
    with h5py.File(path, "a") as file:
        frames = file["frames"][()]
        frames = frames.astype([(n, "i8") for n in frames.dtype.names])
        frames["frame_idx"][-2] = frame  # the last of this video
        del file["frames"]
        file["frames"] = frames
    with pytest.raises(DataError, match=problem):
        read_poses(path, Path("video.mp4"))


@pytest.mark.timeout(0 if N_INPUTS else 300)
@pytest.mark.parametrize(("name", "part"), [("data check", 0.5), ("data check --html", 0.01)])
def test_odd_files(tmp_path, reader, name, part):
    path, trouble = tmp_path / "session.h5", {}
    for seed in range(share(10 if "html" in name else 60, part)):
        write_odd(path, seed)
        outcome = reader.read(name, path)
        if outcome not in OUTCOMES:
            trouble[seed] = outcome
    assert not trouble


def hang(content):
    """Return an HDF5 file whose first text of no fixed length is never read to its end."""
    damaged = bytearray(content)
    at = content.index(b"GCOL") + 16
    while content[at : at + 2] != b"\0\0":  # texts: number, 6 bytes, length, then 8 at a time
        at += 16 + -(-int.from_bytes(content[at + 8 : at + 16], "little") // 8) * 8
    damaged[at + 8 : at + 16] = bytes(8)  # what is free has the number 0, and now no length
    return bytes(damaged)


READERS_OF_TEXTS = {
    "session": partial(read_header, needs_labels=True),
    "SLEAP analysis": read_poses,
}


@pytest.mark.parametrize("kind", READERS_OF_TEXTS)
def test_reading_comes_to_an_end(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(untrusted_hdf5, "TIME_LIMIT_S", 2)
    _, file_name, write, _ = KINDS[kind]
    path = tmp_path / file_name
    write(path)
    READERS_OF_TEXTS[kind](path)
    path.write_bytes(hang(path.read_bytes()))
    with pytest.raises(DataError, match="its texts cannot be read within 2 s"):
        READERS_OF_TEXTS[kind](path)


def test_reading_behind_a_url_comes_to_an_end(tmp_path, monkeypatch):
    path = tmp_path / "session.h5"
    write_plain_session(path)
    assert read_header(path.as_uri(), needs_labels=True).label_names == ("paw_x", "paw_y")
    monkeypatch.setattr(untrusted_hdf5, "TIME_LIMIT_S", 2)
    path.write_bytes(hang(path.read_bytes()))
    with pytest.raises(DataError, match="its texts cannot be read within 2 s") as caught:
        read_header(path.as_uri(), needs_labels=True)
    assert caught.value.where == path.as_uri()


def replace_python(folder, monkeypatch, command):
    """Have a shell command run wherever this process starts another Python."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{command}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("kill -ABRT $$", "reading its texts ends in signal 6"),
        (
            "echo 'Traceback:\nImportError: no h5py' >&2; exit 1",
            "cannot be read in another process: ImportError: no h5py",
        ),
    ],
)
def test_a_reader_of_texts_that_fails_is_an_error(tmp_path, monkeypatch, command, message):
    write_plain_session(tmp_path / "session.h5")
    replace_python(tmp_path, monkeypatch, command)
    with pytest.raises(DataError, match=message):
        read_header(tmp_path / "session.h5", needs_labels=True)


def test_recordings_of_this_project_are_read_in_one_process(tmp_path, monkeypatch):
    write_demo(tmp_path / "demo.h5")
    video = write_video(tmp_path / "square.mp4", draw(path_of_square(60)))
    source = Source(video, write_csv(tmp_path / "square.csv", path_of_square(60)))
    import_session(plan_import(ImportRequest((source,))), tmp_path / "imported.h5")
    replace_python(tmp_path, monkeypatch, "exit 1")
    for name in ("demo.h5", "imported.h5"):
        measure_session(str(tmp_path / name))
        assert read_session(tmp_path / name, needs_labels=True).labels is not None
