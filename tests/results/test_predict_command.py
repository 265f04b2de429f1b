"""`predict` reads in a thread, in batches of any size, and says how far it is."""

import re

import numpy as np
import pytest

from psvae_tune.data.session_file import write_session
from psvae_tune.models.model_file import load_model, save_model
from psvae_tune.models.registry import build_model
from psvae_tune.results.predictions import predict_recording
from tests.support.logged_studies import call
from tests.support.small_models import SHAPE, make_config

N_FRAMES = 23


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    save_model(folder / "model.pt", build_model(make_config("ps-vae"), SHAPE))
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (N_FRAMES, 1, SHAPE.height, SHAPE.width), dtype=np.uint8)
    write_session(folder / "session.h5", frames, [10, N_FRAMES - 10])
    return folder


@pytest.mark.parametrize("n_at_once", [1, 7, N_FRAMES, 1000])
def test_batches_of_any_size_give_the_same_and_are_counted(folder, n_at_once):
    saved, told = load_model(folder / "model.pt"), []
    found = predict_recording(
        saved, folder / "session.h5", 0, n_at_once, lambda *done: told.append(done)
    )
    expected = predict_recording(saved, folder / "session.h5")
    np.testing.assert_allclose(found.latents, expected.latents, atol=1e-5)
    np.testing.assert_allclose(found.labels_hat, expected.labels_hat, atol=1e-5)
    ends = [*range(n_at_once, N_FRAMES, n_at_once), N_FRAMES]
    assert told == [(end, N_FRAMES) for end in ends]


def test_the_command_tells_its_speed_and_refuses_no_frames_at_a_time(folder, tmp_path):
    command = ("predict", folder / "model.pt", folder / "session.h5", "--to", tmp_path)
    done = call(*command, "--batch-size", 5)
    assert done.exit_code == 0
    assert re.search(rf"^{N_FRAMES} frames in [\d.]+ s, \d+ a second$", done.stderr, re.MULTILINE)
    assert done.stdout.split() == [
        str(tmp_path / f"session.latents.{s}") for s in ("h5", "csv", "parquet")
    ]
    assert len((tmp_path / "session.latents.csv").read_text().splitlines()) == N_FRAMES + 1
    assert call(*command, "--batch-size", 0).exit_code == 2
