"""A plan takes its numbers from the recordings, and tells mistakes of the file first."""

import copy

import pytest

from psvae_tune.data.demo import write_demo
from psvae_tune.errors import ConfigError, DataError
from psvae_tune.study.plan import make_plan

RAW = {
    "experiment_name": "x",
    "model": {
        "model_class": "ps-vae",
        "n_ae_latents": "n_labels + 2",
        "ps_vae.alpha": 1,
        "ps_vae.beta": 1,
        "ps_vae.anneal_epochs": 2,
    },
    "training": {"max_n_epochs": 3},
    "search": {
        "space": {"ps_vae.alpha": {"grid_search": [1, 2]}},
        "objectives": {"val/frame_mse": "min"},
    },
}


def raw_with(*sessions, **model):
    raw = copy.deepcopy(RAW)
    raw["data"] = {"sessions": [str(session) for session in sessions]}
    raw["model"] |= model
    return raw


@pytest.fixture
def session(tmp_path):
    path = tmp_path / "session.h5"
    write_demo(path, n_clips=10, clip_length=5, size=16)
    return path


def test_a_plan_knows_the_frames_of_each_split(session):
    plan = make_plan(raw_with(session), "f.yaml")
    assert plan.count_split_frames() == {"train": 40, "val": 5, "test": 5}
    assert plan.study.base.model.n_ae_latents == 6
    assert plan.contents["model"]["n_ae_latents"] == 6


def test_mistakes_of_the_file_come_before_those_of_the_recording(tmp_path):
    raw = raw_with(tmp_path / "absent.h5", **{"ps_vae.betta": 1})
    with pytest.raises(ConfigError, match="did you mean"):
        make_plan(raw, "f.yaml")
    with pytest.raises(DataError, match="no such file"):
        make_plan(raw_with(tmp_path / "absent.h5"), "f.yaml")


def test_too_few_clips_are_told_before_anything_is_read(tmp_path):
    path = tmp_path / "short.h5"
    write_demo(path, n_clips=9, clip_length=5, size=16)
    with pytest.raises(DataError, match=r"10 clips"):
        make_plan(raw_with(path), "f.yaml")


def test_sessions_must_go_together(session, tmp_path):
    other = tmp_path / "other.h5"
    write_demo(other, n_clips=10, clip_length=5, size=20)
    with pytest.raises(DataError, match=r"frames must be \(1, 16, 16\)"):
        make_plan(raw_with(session, other), "f.yaml")


def test_a_model_for_several_sessions_needs_them(session):
    model = {"model_class": "msps-vae", "ps_vae.delta": 1, "n_background": 1}
    raw = raw_with(session, **model, n_ae_latents="n_labels + 3")
    with pytest.raises(ConfigError, match="needs at least 2 sessions, got 1"):
        make_plan(raw, "f.yaml")


def test_labels_that_a_model_needs_must_be_there(tmp_path, session):
    with pytest.raises(ConfigError, match="must be at least 4 for 4 labels, got 3"):
        make_plan(raw_with(session, n_ae_latents=3), "f.yaml")
