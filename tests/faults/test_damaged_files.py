"""Files of which some bytes are wrong: read, or refused with one error."""

from functools import partial

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hostile import N_INPUTS, damage
from studies import make_config, make_session

from psvae_tune.batches import prepare_data
from psvae_tune.data import caution
from psvae_tune.data.hdf5 import read_header, write_session
from psvae_tune.data.pose import read_poses
from psvae_tune.errors import DataError
from psvae_tune.models.saved import save_model
from psvae_tune.train import start

N_EACH = N_INPUTS or 30


def write_plain_session(path):
    """Write a session as it is without compression: most bytes of it are structure."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["label_names"] = '["paw_x", "paw_y"]'
        for i, length in enumerate([4, 3, 5]):
            clip = f"trial_{i:04d}"
            file[f"images/{clip}"] = rng.integers(0, 256, (length, 1, 4, 6), np.uint8)
            file[f"labels/{clip}"] = rng.uniform(0, 6, (length, 2)).astype(np.float32)
            file[f"labels_masks/{clip}"] = np.ones((length, 2), np.float32)


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


def write_csv(path):
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


def write_model(path):
    state = start(
        make_config(), prepare_data([make_session()], make_config()), torch.device("cpu")
    )
    scaler = {"mean": [[1.0, 2.0]], "std": [[1.0, 2.0]]}
    save_model(path, state.model, scaler, {"label_names": ["paw_x", "paw_y"]})


KINDS = {
    "session": ("recording", "session.h5", write_plain_session),
    "packed session": ("recording", "session.h5", write_packed_session),
    "DeepLabCut CSV": ("pose file", "pose.csv", write_csv),
    "DeepLabCut HDF5": ("pose file", "pose.h5", write_fixed),
    "DeepLabCut table": ("pose file", "pose.h5", write_table),
    "LEAP": ("pose file", "pose.h5", write_leap),
    "NumPy": ("pose file", "pose.npy", write_array),
    "SLEAP analysis": ("pose file", "pose.h5", write_analysis),
    "model": ("model", "model.pt", write_model),
}


@pytest.mark.timeout(0 if N_INPUTS else 300)
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(tmp_path, reader, kind):
    name, file_name, write = KINDS[kind]
    path = tmp_path / file_name
    write(path)
    assert reader.read(name, path) == "accepted"
    content = path.read_bytes()
    trouble = {}
    for seed in range(N_EACH):
        path.write_bytes(damage(content, seed))
        outcome = reader.read(name, path)
        if outcome not in ("accepted", "refused"):
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


@pytest.mark.parametrize("kind", ["session", "SLEAP analysis"])
def test_reading_comes_to_an_end(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(caution, "TIME_LIMIT_S", 2)
    _, file_name, write = KINDS[kind]
    read = read_poses if kind == "SLEAP analysis" else partial(read_header, needs_labels=True)
    path = tmp_path / file_name
    write(path)
    read(path)
    path.write_bytes(hang(path.read_bytes()))
    with pytest.raises(DataError, match="its texts cannot be read within 2 s"):
        read(path)


def test_a_reader_that_dies_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(caution, "_REHEARSAL", "import os; os.abort()")
    write_plain_session(tmp_path / "session.h5")
    with pytest.raises(DataError, match="reading its texts ends in signal 6"):
        read_header(tmp_path / "session.h5", needs_labels=True)
