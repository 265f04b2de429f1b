"""Latents leave a study as clips, and a model of sequences reads them."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import psvae_tune as pt
from psvae_tune.cli.commands import main
from psvae_tune.data.demo import write_demo
from psvae_tune.errors import StorageError
from tests.support.logged_studies import log_study

pytestmark = pytest.mark.slow
N_CLIPS, N_FRAMES = 12, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences")
    write_demo(folder / "mouse.h5", n_clips=N_CLIPS, clip_length=N_FRAMES)
    log_study(folder, folder / "mouse.h5", "study")
    return folder


def export(folder, *options):
    call = ["export", "study", "--output", folder, "--sequences", *options]
    return CliRunner().invoke(main, [str(part) for part in call])


def test_a_file_has_the_latents_of_each_clip(folder, tmp_path):
    done = export(folder, file := tmp_path / "latents.npz")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{file}\n"
    (found,) = pt.open_study("study", output=folder).predictions()
    with np.load(file) as arrays:
        assert arrays["columns"].tolist() == list(found.latent_names)
        names = [name for name in arrays if name != "columns"]
        assert names == [f"mouse/trial_{clip:04d}" for clip in range(N_CLIPS)]
        joined = np.concatenate([arrays[name] for name in names])
    assert joined.dtype == np.float32
    np.testing.assert_array_equal(joined, found.latents)


def test_sessions_stand_in_one_file(folder, tmp_path):
    (found,) = pt.open_study("study", output=folder).predictions()
    other = replace(found, rows=replace(found.rows, session="rat"), latents=-found.latents)
    pt.write_sequences([found, other], file := tmp_path / "both.npz")
    with np.load(file) as arrays:
        assert len(arrays) == 1 + 2 * N_CLIPS
        np.testing.assert_array_equal(arrays["rat/trial_0003"], -arrays["mouse/trial_0003"])


def test_a_file_that_exists_or_is_of_another_kind_is_refused(folder, tmp_path):
    (tmp_path / "old.npz").write_bytes(b"kept")
    for name, words in (("old.npz", "exists already"), ("latents.npy", "must end in .npz")):
        done = export(folder, tmp_path / name)
        assert done.exit_code == 2
        assert words in done.output
    assert (tmp_path / "old.npz").read_bytes() == b"kept"
    (found,) = pt.open_study("study", output=folder).predictions()
    with pytest.raises(StorageError, match="cannot be written"):
        pt.write_sequences([found], tmp_path / "old.npz/latents.npz")


def test_sessions_that_a_file_cannot_tell_apart_are_refused(folder, tmp_path):
    (found,) = pt.open_study("study", output=folder).predictions()
    other = replace(found, rows=replace(found.rows, session="rat"), latent_names=("a",))
    for sessions, words in (
        ([], "sessions of different names, got"),
        ([found, found], "sessions of different names, got"),
        ([found, other], "sessions of one model"),
    ):
        with pytest.raises(StorageError, match=words):
            pt.write_sequences(sessions, tmp_path / "latents.npz")
    assert not list(tmp_path.iterdir())


def test_a_hidden_markov_model_divides_the_clips(folder, tmp_path, root):
    export(folder, file := tmp_path / "latents.npz")
    call = [sys.executable, "-m", "tests.benchmarks.segmentation", str(file), "--states", "2"]
    done = subprocess.run(call, cwd=root, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    n_states, likely, n_visited, length = done.stdout.splitlines()[-1].strip("| ").split(" | ")
    assert n_states == "2"
    assert np.isfinite(float(likely))
    assert 1 <= int(n_visited) <= 2
    assert 1 <= int(length) <= N_FRAMES
