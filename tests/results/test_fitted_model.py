"""Latents of sessions, labels in the user's units, and frames that never were."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.config.settings import setting_names
from psvae_tune.config.trial import parse_trial_config
from psvae_tune.errors import ConfigError, DataError
from psvae_tune.models.model_file import save_model
from psvae_tune.models.pyfunc import N_FRAMES_AT_ONCE
from psvae_tune.models.registry import build_model
from psvae_tune.results.fitted_model import FittedModel
from psvae_tune.training.batches import prepare_data
from tests.support.studies import ARCHITECTURE, make_config, make_session

SETTINGS = {
    "n_ae_latents": 5, "conditional_encoder": True, "msp.alpha": 1, "beta_tcvae.beta": 1,
    "ps_vae.delta": 1, "n_background": 1, "ps_vae.alpha": 10, "ps_vae.beta": 2,
    "ps_vae.anneal_epochs": 0,
    "ae_arch_json": ARCHITECTURE,
}  # fmt: skip
SESSIONS = [
    replace(session, labels_sc=session.labels)
    for session in (make_session(0, (26,) * 12), make_session(1, (12,) * 10))
]


def load(name, tmp_path, **settings) -> FittedModel:
    """Fit nothing, but save and load a model of the two sessions."""
    known = setting_names(MODEL_CONFIGS[name])
    conditional = name in ("cond-ae", "cond-vae")
    chosen = {
        key: value
        for key, value in SETTINGS.items()
        if key in known and (key != "conditional_encoder" or conditional)
    }
    raw = make_config().model_dump(mode="json", by_alias=True)
    raw["model"] = {"model_class": name, **chosen, **settings}
    config = parse_trial_config(raw, "test")
    data = prepare_data(SESSIONS, config)
    model = build_model(config.model, data.shape)
    save_model(tmp_path / "model.pt", model, data.label_scaling)
    return FittedModel.load(tmp_path / "model.pt")


@pytest.fixture(params=MODEL_CONFIGS)
def fitted(request, tmp_path) -> FittedModel:
    return load(str(request.param), tmp_path)


@pytest.mark.parametrize("index", [0, 1])
def test_a_whole_session(fitted, index):
    session = SESSIONS[index]
    assert SESSIONS[0].header.n_frames > N_FRAMES_AT_ONCE
    seen = fitted.describe(session, index)
    said = fitted.model.predict(session.frames / 255, session.labels, session.labels_sc, index)
    np.testing.assert_allclose(seen.latents, said.mean, atol=1e-5)
    assert (seen.logvar is None) == (said.logvar is None)
    assert (seen.labels is None) == (said.labels is None)
    if said.labels is not None:
        scale = fitted.saved.label_scaler
        expected = said.labels.numpy() * scale["std"][index] + scale["mean"][index]
        np.testing.assert_allclose(seen.labels, expected, rtol=1e-4, atol=1e-4)


def test_units_there_and_back(fitted):
    labels = SESSIONS[1].labels
    scaled = fitted.saved.standardise(labels, 1)
    np.testing.assert_allclose(fitted.saved.in_units(scaled, 1), labels, rtol=1e-5)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=0.2)


@pytest.mark.parametrize("name", ["ps-vae", "msps-vae", "cond-ae-msp"])
@torch.inference_mode()
def test_a_label_that_is_set_is_what_the_latents_then_say(tmp_path, name):
    fitted = load(name, tmp_path)
    frames = SESSIONS[1].frames[:3]
    seen = fitted.describe(SESSIONS[1], 1).labels[:3]
    unchanged = fitted.set_labels(frames, np.full((3, 2), np.nan), 1)
    said = fitted.model.predict(frames / 255, session_index=1)
    np.testing.assert_allclose(unchanged, said.frames, atol=1e-4)
    wanted = np.array([[4.0, np.nan]] * 3)
    expected = fitted.model.with_labels(
        said.mean, fitted.model._tensor(fitted.saved.standardise(np.c_[[4.0] * 3, seen[:, 1]], 1))
    )
    decoded = fitted.model.decode(expected).numpy()
    np.testing.assert_allclose(fitted.set_labels(frames, wanted, 1), decoded, atol=1e-4)
    read = fitted.saved.in_units(fitted.model.predict_labels(expected).numpy(), 1)
    np.testing.assert_allclose(read, np.c_[[4.0] * 3, seen[:, 1]], rtol=1e-3)
    assert abs(decoded - unchanged).max() > 1e-4


@pytest.mark.parametrize("name", ["cond-ae", "cond-vae"])
def test_a_conditional_decoder_is_told_labels(tmp_path, name):
    fitted = load(name, tmp_path)
    frames, points = SESSIONS[0].frames[:3], SESSIONS[0].labels_sc[:3]
    labels = SESSIONS[0].labels[:3]
    said = fitted.model.predict(frames / 255, fitted.saved.standardise(labels), points, 0)
    found = fitted.set_labels(frames, labels, labels_sc=points)
    np.testing.assert_allclose(found, said.frames, atol=1e-5)
    assert not np.allclose(found, fitted.set_labels(frames, labels + 3, labels_sc=points))
    with pytest.raises(DataError, match="none may be NaN"):
        fitted.set_labels(frames, np.full((3, 2), np.nan), labels_sc=points)


def test_models_without_labels_cannot_set_them(tmp_path):
    fitted = load("vae", tmp_path)
    with pytest.raises(ConfigError, match="`vae` has no latents for labels"):
        fitted.set_labels(SESSIONS[0].frames[:2], np.zeros((2, 2)))


def test_labels_of_another_shape(tmp_path):
    with pytest.raises(DataError, match=r"must be \(3, 2\) \(frame, label\), got \(3, 1\)"):
        load("ps-vae", tmp_path).set_labels(SESSIONS[0].frames[:3], np.zeros((3, 1)))


@pytest.mark.parametrize("has_session_layers", [False, True])
def test_swapping_the_session_changes_the_background_alone(tmp_path, has_session_layers):
    fitted = load("msps-vae", tmp_path, fit_sess_io_layers=has_session_layers)
    frames, donors = SESSIONS[0].frames[:4], SESSIONS[1].frames[:50]
    found = fitted.swap_session(frames, donors, 0, 1)
    mean = fitted.describe(SESSIONS[0], 0).latents[:4]
    background = fitted.model.partition.background
    mean[:, background] = fitted.describe(SESSIONS[1], 1).latents[:50, background].mean(0)
    index = fitted.model._sessions(1, 4)
    expected = fitted.model.decode(fitted.model._tensor(mean), None, index).detach()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_models_without_background_cannot_swap(tmp_path):
    frames = SESSIONS[0].frames[:4]
    with pytest.raises(ConfigError, match="`ps-vae` has no background latents"):
        load("ps-vae", tmp_path).swap_session(frames, frames, 0, 1)


def test_samples_are_decided_by_their_seed(fitted):
    labels = SESSIONS[0].labels[:6] if fitted.model.is_conditional else None
    if not fitted.model.is_variational:
        with pytest.raises(ConfigError, match="has no prior"):
            fitted.sample(6, 0, labels)
        return
    like = SESSIONS[0].frames[:50]
    first, again, other = (fitted.sample(6, seed, labels, like) for seed in (0, 0, 1))
    assert first.shape == (6, 1, 12, 12)
    assert (first >= 0).all()
    assert (first <= 1).all()
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_samples_have_the_labels_asked_for(tmp_path):
    fitted = load("ps-vae", tmp_path)
    free, one, two = (
        fitted.sample(4, 0, labels)
        for labels in (None, np.full((4, 2), 3.0), np.full((4, 2), 8.0))
    )
    assert not np.allclose(one, two)
    assert not np.allclose(one, free)


def test_samples_need_what_has_no_prior(tmp_path):
    with pytest.raises(DataError, match="background latents are drawn from frames"):
        load("msps-vae", tmp_path).sample(2, 0)
    with pytest.raises(DataError, match="labels"):
        load("cond-vae", tmp_path).sample(2, 0)
