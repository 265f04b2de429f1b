"""Latents of recordings, labels in the user's units, and frames that never were."""

import doctest
from dataclasses import replace

import numpy as np
import pytest
import torch

from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.config.settings import setting_names
from psvae_tune.config.trial import parse_trial_config
from psvae_tune.data.label_scaler import LabelScaler
from psvae_tune.data.session_file import write_session
from psvae_tune.errors import ConfigError, DataError, UserError
from psvae_tune.models.encoding import N_FRAMES_AT_ONCE
from psvae_tune.models.latent_edits import with_labels
from psvae_tune.models.model_file import SavedModel, save_model
from psvae_tune.models.pyfunc import FramesToLatents
from psvae_tune.models.registry import build_model
from psvae_tune.results import fitted_encoder, fitted_model
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
    names = {"label_names": list(data.label_names)}
    save_model(tmp_path / "model.pt", model, data.label_scaler, names)
    return FittedModel.load(tmp_path / "model.pt")


@pytest.fixture(params=MODEL_CONFIGS)
def fitted(request, tmp_path) -> FittedModel:
    return load(str(request.param), tmp_path)


@pytest.mark.parametrize("index", [0, 1])
@torch.inference_mode()
def test_a_whole_session(fitted, index):
    session = SESSIONS[index]
    assert SESSIONS[0].header.n_frames > N_FRAMES_AT_ONCE
    said = fitted.model.predict(session.frames / 255, session.labels, session.labels_sc, index)
    latents = fitted.transform(session, index)
    expected = fitted.model.to_partition(said.mean)
    np.testing.assert_allclose(latents, expected, atol=1e-5)
    assert latents.shape == (session.header.n_frames, len(fitted.latent_names))
    if said.labels is None:
        with pytest.raises(ConfigError, match="predicts no labels"):
            fitted.predict_labels(session, index)
    else:
        scale = fitted.saved.label_scaler
        expected = said.labels.numpy() * scale.std[index] + scale.mean[index]
        labels = fitted.predict_labels(session, index)
        np.testing.assert_allclose(labels, expected, rtol=1e-4, atol=1e-4)


def test_the_latents_of_labels_are_the_labels(tmp_path):
    """The subspace of this model lies across the latents of its encoder."""
    fitted = load("cond-ae-msp", tmp_path)
    latents = fitted.transform(SESSIONS[0])
    labels = fitted.predict_labels(SESSIONS[0])
    assert fitted.latent_names == ("label_0", "label_1", *(f"unsupervised {i}" for i in range(3)))
    scaled = fitted.saved.label_scaler.transform(labels)
    np.testing.assert_allclose(latents[:, :2], scaled, rtol=1e-4, atol=1e-5)


def test_frames_sessions_and_files_are_the_same_recording(tmp_path):
    fitted = load("ps-vae", tmp_path)
    session = SESSIONS[1]
    header = session.header
    write_session(tmp_path / "session.h5", session.frames, header.clip_lengths)
    expected = fitted.transform(session, 1)
    for recording in (
        session.frames,
        session.frames / 255,
        (session.frames / 255).tolist(),
        tmp_path / "session.h5",
        str(tmp_path / "session.h5"),
    ):
        np.testing.assert_allclose(fitted.transform(recording, 1), expected, atol=1e-5)
        reconstructed = fitted.reconstruct(recording, 1)
        np.testing.assert_allclose(reconstructed, fitted.reconstruct(session, 1), atol=1e-5)
    said = FramesToLatents(fitted.saved).predict(session.frames, 1)
    np.testing.assert_array_equal(said["latents"], fitted.transform(session.frames, 1))
    np.testing.assert_array_equal(said["labels"], fitted.predict_labels(session.frames, 1))


def test_reconstructions_are_those_of_the_model(fitted):
    session = SESSIONS[1]
    labels = None if not fitted.model.is_conditional else session.labels
    scaled = None if labels is None else fitted.saved.label_scaler.transform(labels, 1)
    said = fitted.model.predict(session.frames / 255, scaled, session.labels_sc, 1)
    for found in (fitted.reconstruct(session, 1), fitted.reconstruct(session, 1, labels)):
        np.testing.assert_allclose(found, said.frames, atol=1e-5)


def test_a_lost_point_is_decoded_as_the_mean_as_in_the_fit(tmp_path):
    fitted = load("cond-vae", tmp_path)
    lost = np.zeros_like(SESSIONS[1].label_masks)
    session = replace(SESSIONS[1], label_masks=lost)
    mean = np.tile(fitted.saved.label_scaler.mean[1], (len(lost), 1))
    expected = fitted.reconstruct(SESSIONS[1], 1, mean)
    np.testing.assert_allclose(fitted.reconstruct(session, 1), expected, atol=1e-6)


def test_only_a_conditional_model_reconstructs_with_labels(tmp_path):
    frames = SESSIONS[0].frames[:3]
    with pytest.raises(ConfigError, match="`ps-vae` decodes without them\n\nhint: see set_labels"):
        load("ps-vae", tmp_path).reconstruct(frames, labels=np.zeros((3, 2)))
    with pytest.raises(DataError, match="`cond-ae` decodes with them, got none"):
        load("cond-ae", tmp_path, conditional_encoder=False).reconstruct(frames)


def test_a_traversal_of_a_label_is_in_the_units_of_the_user(tmp_path):
    fitted = load("ps-vae", tmp_path)
    frame = SESSIONS[1].frames[3]
    values = [2.0, 5.0, 9.0]
    found = fitted.traverse(frame, "label_1", values, 1)
    expected = [fitted.set_labels(frame[None], [[np.nan, value]], 1)[0] for value in values]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    scale = fitted.saved.label_scaler
    usual = scale.mean[1, 1] + scale.std[1, 1] * np.linspace(-2, 2, 5)
    expected = fitted.traverse(frame, "label_1", usual, 1)
    np.testing.assert_allclose(
        fitted.traverse(frame, "label_1", session_index=1), expected, atol=1e-5
    )


def test_a_traversal_moves_one_latent(fitted):
    session = SESSIONS[1]
    labels = session.labels[3] if fitted.model.is_conditional else None
    points = session.labels_sc[3] if fitted.model.config.conditional_encoder else None
    latents = fitted.transform(session, 1)[3]
    name = fitted.latent_names[-1]
    given = session.frames[3], name, [latents[-1], latents[-1] + 1]
    found = fitted.traverse(*given, 1, labels, points)
    np.testing.assert_allclose(found[0], fitted.reconstruct(session, 1)[3], atol=1e-5)
    assert abs(found[1] - found[0]).max() > 1e-4
    by_column = fitted.traverse(given[0], len(latents) - 1, given[2], 1, labels, points)
    np.testing.assert_array_equal(by_column, found)


@pytest.mark.parametrize(
    ("latent", "values", "problem"),
    [
        ("labl_1", None, "none of this name, got 'labl_1'\n\nhint: did you mean 'label_1'"),
        ("?", None, "got '\\?'\n\nhint: the latents are label_0, label_1, unsupervised 0"),
        (5, None, "must be from 0 to 4, got 5"),
        (-1, None, "must be from 0 to 4, got -1"),
        (0, [], "values: must be finite numbers in a row"),
        (0, [0, np.nan], "values: must be finite numbers in a row"),
        (0, 1.0, "values: must be finite numbers in a row"),
    ],
)
def test_what_cannot_be_traversed(tmp_path, latent, values, problem):
    with pytest.raises(UserError, match=problem):
        load("ps-vae", tmp_path).traverse(SESSIONS[0].frames[0], latent, values)


@pytest.mark.parametrize(
    ("recording", "problem"),
    [
        (np.zeros((12, 12)), r"network built for \(frame, 1, 12, 12\), got \(12, 12\)"),
        (np.zeros((2, 3, 12, 12)), r"got \(2, 3, 12, 12\)"),
        (np.full((2, 1, 12, 12), 7.5), "floats must be in \\[0, 1\\], got 7.5 to 7.5"),
        (np.full((2, 1, 12, 12), np.nan), "got NaN"),
        (np.zeros((2, 1, 12, 12), int), "must be uint8 or floats in \\[0, 1\\], got int64"),
        (np.zeros((0, 1, 12, 12)), "must be at least one, got none"),
        ([[0.0], [0.0, 1.0]], "are no array"),
        (None, "must be frames, a session or a path, got NoneType"),
        ("absent.mp4", "absent.mp4: no such file"),
    ],
)
def test_what_is_no_recording(tmp_path, recording, problem):
    fitted = load("ps-vae", tmp_path)
    for use in (fitted.transform, fitted.predict_labels, fitted.reconstruct):
        with pytest.raises(DataError, match=problem):
            use(recording)


def test_a_session_that_the_fit_did_not_have(tmp_path):
    with pytest.raises(DataError, match="session_index: must be 0 to 1, got 2 to 2"):
        load("msps-vae", tmp_path).transform(SESSIONS[0], 2)


def test_latents_without_names_are_numbered(tmp_path):
    fitted = load("msps-vae", tmp_path)
    save_model(tmp_path / "model.pt", fitted.model)
    names = FittedModel.load(tmp_path / "model.pt").latent_names
    assert names == ("label 0", "label 1", "background 0", "unsupervised 0", "unsupervised 1")


def test_the_examples(tmp_path, demo_session):
    config = make_config({"n_ae_latents": 6})
    data = prepare_data([demo_session], config)
    path = tmp_path / "model.pt"
    names = {"label_names": list(data.label_names)}
    save_model(path, build_model(config.model, data.shape), data.label_scaler, names)
    two = replace(data.shape, n_sessions=2)
    settings = {"model_class": "msps-vae", "n_background": 1, "ps_vae.delta": 1}
    pair = build_model(make_config({**settings, "n_ae_latents": 6}).model, two)
    known = {
        "np": np,
        "path": path,
        "session": demo_session,
        "model": FittedModel.load(path),
        "pair": FittedModel(SavedModel(pair, LabelScaler.identity(4), {})),
    }
    found = [doctest.testmod(part, extraglobs=known) for part in (fitted_encoder, fitted_model)]
    n_failed, n_tried = map(sum, zip(*found, strict=True))
    assert n_tried > 10
    assert not n_failed


def test_units_there_and_back(fitted):
    labels = SESSIONS[1].labels
    scaled = fitted.saved.label_scaler.transform(labels, 1)
    np.testing.assert_allclose(fitted.saved.label_scaler.inverse(scaled, 1), labels, rtol=1e-5)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=0.2)


@pytest.mark.parametrize("name", ["ps-vae", "msps-vae", "cond-ae-msp"])
@torch.inference_mode()
def test_a_label_that_is_set_is_what_the_latents_then_say(tmp_path, name):
    fitted = load(name, tmp_path)
    frames = SESSIONS[1].frames[:3]
    seen = fitted.predict_labels(SESSIONS[1], 1)[:3]
    unchanged = fitted.set_labels(frames, np.full((3, 2), np.nan), 1)
    said = fitted.model.predict(frames / 255, session_index=1)
    np.testing.assert_allclose(unchanged, said.frames, atol=1e-4)
    wanted = np.array([[4.0, np.nan]] * 3)
    expected = with_labels(
        fitted.model,
        said.mean,
        torch.tensor(fitted.saved.label_scaler.transform(np.c_[[4.0] * 3, seen[:, 1]], 1)),
    )
    decoded = fitted.model.decode(expected).numpy()
    np.testing.assert_allclose(fitted.set_labels(frames, wanted, 1), decoded, atol=1e-4)
    read = fitted.saved.label_scaler.inverse(fitted.model.predict_labels(expected).numpy(), 1)
    np.testing.assert_allclose(read, np.c_[[4.0] * 3, seen[:, 1]], rtol=1e-3)
    assert abs(decoded - unchanged).max() > 1e-4


@pytest.mark.parametrize("name", ["cond-ae", "cond-vae"])
def test_a_conditional_decoder_is_told_labels(tmp_path, name):
    fitted = load(name, tmp_path)
    frames, points = SESSIONS[0].frames[:3], SESSIONS[0].labels_sc[:3]
    labels = SESSIONS[0].labels[:3]
    said = fitted.model.predict(
        frames / 255, fitted.saved.label_scaler.transform(labels), points, 0
    )
    found = fitted.set_labels(frames, labels, labels_sc=points)
    np.testing.assert_allclose(found, said.frames, atol=1e-5)
    assert not np.allclose(found, fitted.set_labels(frames, labels + 3, labels_sc=points))
    with pytest.raises(DataError, match="none may be NaN"):
        fitted.set_labels(frames, np.full((3, 2), np.nan), labels_sc=points)


@pytest.mark.parametrize(
    ("points", "problem"),
    [
        (None, "a conditional encoder needs them, got none"),
        (np.zeros((2, 2)), r"must be \(3, 2\) \(frame, label\), got \(2, 2\)"),
        (np.zeros((3, 4)), r"must be \(3, 2\) \(frame, label\), got \(3, 4\)"),
        ([["left"]], "must be numbers"),
    ],
)
def test_a_conditional_encoder_needs_a_place_for_every_label(tmp_path, points, problem):
    fitted = load("cond-ae", tmp_path)
    with pytest.raises(DataError, match=f"labels_sc: {problem}"):
        fitted.set_labels(SESSIONS[0].frames[:3], np.zeros((3, 2)), labels_sc=points)


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
    mean = fitted.transform(SESSIONS[0], 0)[:4]
    background = fitted.model.partition.background
    mean[:, background] = fitted.transform(SESSIONS[1], 1)[:50, background].mean(0)
    index = torch.full((4,), 1)
    expected = fitted.model.decode(torch.from_numpy(mean), None, index).detach()
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
