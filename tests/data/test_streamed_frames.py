"""Recordings larger than memory: their clips stay in the file, and everything else is as ever."""

import os
import pickle
import subprocess
import sys
from functools import partial

import h5py
import numpy as np
import pytest
import torch

from psvae_tune.config.trial import parse_trial_config
from psvae_tune.data.memory_limits import left_in_groups
from psvae_tune.data.session_file import read_session, write_session
from psvae_tune.errors import DataError
from psvae_tune.training.batches import cache_on_device, prefetch, prepare_data
from psvae_tune.training.evaluate import evaluate
from psvae_tune.training.fit import fit, start
from tests.support.recordings import set_value, store_float_frames
from tests.support.studies import make_config, make_session


def read_both(path):
    return [read_session(path, needs_labels=True, in_memory=kept) for kept in (True, False)]


@pytest.mark.parametrize("edit", [lambda file: None, store_float_frames(0.25)])
def test_a_session_left_in_its_file_is_the_same_session(make_file, edit):
    whole, stored = read_both(make_file(edit))
    assert stored.digest == whole.digest
    assert stored.header == whole.header
    # As another process gets it.
    stored = pickle.loads(pickle.dumps(stored))
    for name in ("frames", "frame_masks"):
        array, left = getattr(whole, name), getattr(stored, name)
        assert left.shape == array.shape
        assert left.nbytes == 0
        for rows in (slice(0, 2), slice(5, 9), slice(3, 11), slice(None), slice(13, 99)):
            np.testing.assert_array_equal(left[rows], array[rows])
            assert left[rows].dtype == array.dtype
        for row in (0, 4, 5, 14):
            np.testing.assert_array_equal(left[row], array[row])
    for name in ("labels", "label_masks", "labels_sc"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(whole, name))


def test_a_session_left_in_its_file_is_checked_like_any_other(make_file):
    def spoil(file):
        file["labels/trial_0000"][3] = np.nan
        file["masks/trial_0001"][0] = 2
        store_float_frames(254)(file)

    with pytest.raises(DataError) as caught:
        read_session(make_file(spoil), needs_labels=True, in_memory=False)
    assert len(caught.value.problems) == 4


def test_a_file_that_was_changed_since_is_refused(make_file):
    path = make_file(lambda file: file.__delitem__("masks"))
    stored = read_session(path, needs_labels=True, in_memory=False)
    with h5py.File(path, "r+") as file:
        set_value("images/trial_0001", (0, 0, 0, 0), 7)(file)
    assert stored.frames[:2].shape == (2, 1, 4, 6)
    with pytest.raises(DataError, match="`images/trial_0001` is not what it was") as caught:
        stored.frames[stored.clip(1)]
    assert caught.value.where == str(path)


def metrics_of(session, room=0):
    config = parse_trial_config(
        {
            "model": {
                "model_class": "ps-vae",
                "n_ae_latents": session.header.n_labels + 2,
                "ps_vae.alpha": 100,
                "ps_vae.beta": 2,
                "ps_vae.anneal_epochs": 1,
                "ae_arch_json": {
                    "ae_encoding_n_channels": [4, 8],
                    "ae_encoding_kernel_size": [5, 5],
                    "ae_encoding_stride_size": [4, 2],
                },
            },
            "training": {"max_n_epochs": 2, "learning_rate": 1e-3},
        },
        "test",
    )
    device = torch.device("cpu")
    data = cache_on_device(prepare_data([session], config), device, room)
    assert all((item.resident is not None) == (room > 0) for item in data.sessions)
    state = start(config, data, device)
    epochs = [report.metrics for report in fit(state, data, config)]
    return [*epochs, evaluate(state.model, data, "test", device).metrics]


def test_the_numbers_are_the_same_bit_for_bit(tmp_path):
    made = make_session(masked=0.2)
    write_session(
        tmp_path / "session.h5",
        made.frames,
        made.header.clip_lengths,
        label_names=made.header.label_names,
        labels=made.labels,
        label_masks=made.label_masks,
        frame_masks=np.random.default_rng(0).random(made.frames.shape) < 0.9,
    )
    whole, stored = read_both(tmp_path / "session.h5")
    expected = metrics_of(whole)
    assert metrics_of(stored) == expected
    assert metrics_of(whole, room=10**9) == expected
    assert metrics_of(stored, room=10**9) == expected


def test_what_is_read_ahead_comes_in_order_and_with_its_errors(make_file):
    path = make_file(lambda file: file.__delitem__("masks"))
    config, cpu = make_config(data={"trial_splits": "1;1;1;0"}), torch.device("cpu")
    whole, stored = (prepare_data([session], config) for session in read_both(path))
    with h5py.File(path, "r+") as file:
        set_value("images/trial_0001", (0, 0, 0, 0), 7)(file)
    brought = prefetch(partial(stored.batch, [(0, clip)], cpu) for clip in (2, 0, 1))
    for clip in (2, 0):
        assert next(brought).frames.equal(whole.batch([(0, clip)], cpu).frames)
    with pytest.raises(DataError, match="`images/trial_0001` is not what it was"):
        next(brought)


@pytest.mark.slow
def test_the_numbers_of_a_real_recording_are_the_same_bit_for_bit(shared_data):
    whole, stored = read_both(shared_data / "mirror_mouse/mirror_mouse_64.h5")
    assert metrics_of(stored) == metrics_of(whole)


PROGRAM = """
import resource, sys
from pathlib import Path

import numpy as np
import torch
from tests.support.studies import make_config, make_session
from psvae_tune.training.batches import prepare_data
from psvae_tune.data.session_file import read_session
from psvae_tune.errors import DataError
from psvae_tune.training.fit import fit, start

def train(session):
    config = make_config(training={"max_n_epochs": 2, "train_frac": 0.1})
    data = prepare_data([session], config)
    state = start(config, data, torch.device("cpu"))
    return [report.metrics["val/frame_mse"] for report in fit(state, data, config)]

path, left = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
train(make_session(lengths=(20,) * 20, size=64))  # loads whatever is loaded once
np.linalg.eigvalsh(np.eye(500) @ np.eye(500))  # which a model without active latents does not do
for line in Path("/proc/self/status").read_text().splitlines():
    if line.startswith("VmData:"):
        limit = int(line.split()[1]) * 1024 + left
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    read_session(path, needs_labels=True, in_memory=True)
except DataError as error:
    print(error.problems[0])
session = read_session(path, needs_labels=True)
print(type(session.frames).__name__, *train(session))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit that is kept")
def test_a_process_trains_on_several_times_what_its_memory_holds(tmp_path):
    left, n_clips = 64 * 2**20, 1000
    clip = make_session(lengths=(20,), size=64)
    frames = clip.frames.astype(np.float32) / 255
    with h5py.File(tmp_path / "large.h5", "w") as file:
        for name in (f"trial_{index:04d}" for index in range(n_clips)):
            file[f"images/{name}"] = frames
            file[f"labels/{name}"] = clip.labels
    assert n_clips * frames.nbytes > 4 * left
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "large.h5", str(left)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refusal, result = done.stdout.splitlines()
    assert refusal.startswith("needs 0.3 GB of memory, got a machine with 0.1")
    kind, first, second = result.split()
    assert kind == "StoredFrames"
    assert float(second) < float(first)


def test_groups_leave_what_the_strictest_of_them_leaves(tmp_path):
    """As in a container of the second kind of groups, and as in one of the first."""
    second, first = tmp_path / "second", tmp_path / "first"
    for folder, numbers in ((second / "slurm/job_7", (900, 500, 100)), (second, (None, 0, 0))):
        limit, usage, idle = numbers
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit or 'max'}\n")
        (folder / "memory.current").write_text(f"{usage}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {idle}\n")
    (tmp_path / "table").write_text("0::/slurm/job_7\n")
    assert list(left_in_groups(tmp_path / "table", second)) == [500]
    (first / "memory").mkdir(parents=True)
    (first / "memory/memory.limit_in_bytes").write_text("700\n")
    (first / "memory/memory.usage_in_bytes").write_text("600\n")
    (first / "memory/memory.stat").write_text("total_inactive_file 50\n")
    (tmp_path / "table").write_text("3:cpuset:/docker/ab\n4:memory:/docker/ab\n0::/\n")
    assert list(left_in_groups(tmp_path / "table", first)) == [150]
