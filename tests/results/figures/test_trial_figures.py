import csv
import io
import json

import av
import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from psvae_tune.results.figures.images import (
    COMPARISON,
    sheet,
    tile_corner,
    to_colour,
    to_signed_tile,
    to_tile,
)
from psvae_tune.results.figures.movies import encode_movie, traversal_pictures
from psvae_tune.results.figures.style import to_png
from psvae_tune.results.figures.traversals import (
    Traversals,
    choose_bases,
    choose_common_bases,
    latent_values,
    traverse_places,
)
from psvae_tune.results.figures.trial_figures import draw_curves, draw_reconstructions
from psvae_tune.results.figures.trial_files import FinishedTrial, make_files
from psvae_tune.results.predictions import predict_sessions
from psvae_tune.training.final_metrics import final_metrics
from tests.support.small_trials import CPU, build

HISTORY = {"train/loss": [(1, 3.0), (2, 2.0)], "val/frame_mse": [(1, 0.2), (2, 0.1)]}
PS_VAE = {"ps_vae.alpha": 10.0, "ps_vae.beta": 1.0, "ps_vae.anneal_epochs": 1}


def files_of(model, data, movie_format="mp4", history=HISTORY):
    metrics = final_metrics(model, data, CPU)
    trial = FinishedTrial(model, data, CPU, metrics, history, 2, 1)
    return {name: make() for name, make in make_files(trial, movie_format)}


@pytest.fixture(scope="module")
def ps_vae(demo_session):
    return build(demo_session, "ps-vae", 6, **PS_VAE)


@pytest.fixture(scope="module")
def demo_files(ps_vae):
    return files_of(*ps_vae)


def open_picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_every_picture_of_a_trial_shows_something(demo_files):
    pictures = {name for name in demo_files if name.endswith(".png")}
    for name in ("curves", "labels", "reconstructions", "traversals"):
        assert f"figures/{name}.png" in pictures
    for name in pictures:
        assert open_picture(demo_files[name]).std() > 5, name


@pytest.mark.parametrize("decades", [0.1, 1, 2.5, 11])
def test_an_error_that_falls_by_any_factor_can_be_read_off(decades):
    values = 0.5 * 10 ** -np.linspace(0, decades, 10)
    curves = {"val/frame_mse": [(i, float(value)) for i, value in enumerate(values, 1)]}
    picture = open_picture(to_png(draw_curves(curves, 10, 0)))
    ticks = (picture[60:-60, 10:70] < 128).all(axis=2).any(axis=1)
    n_numbers = int(np.diff(ticks.astype(int)).clip(0).sum())
    assert 2 <= n_numbers <= 8


def test_frames_are_pictured_pixel_for_pixel():
    rng = np.random.default_rng(0)
    frames, frames_hat = rng.random((2, 7, 1, 16, 16), np.float32)
    content = draw_reconstructions(frames, frames_hat, [f"frame {i}" for i in range(7)], 0.1)
    picture = open_picture(content)[-5 - 3 * 144 - 2 * 2 : -5, -5 - 144 : -5]
    limit = np.abs(frames - frames_hat).max()
    for row, tile in enumerate(
        (
            to_tile(frames[6]),
            to_tile(frames_hat[6]),
            to_signed_tile((frames - frames_hat)[6], limit),
        )
    ):
        y, x = tile_corner(row, 0, 144, 144)
        found = picture[y : y + 144 : 9, x : x + 144 : 9]
        np.testing.assert_array_equal(found, to_colour(tile))


@pytest.mark.parametrize("name", ["traversals", "reconstructions"])
def test_movies_are_of_a_kind_that_browsers_play(demo_files, name):
    with av.open(io.BytesIO(demo_files[f"movies/{name}.mp4"])) as movie:
        stream = movie.streams.video[0]
        assert stream.codec_context.name in ("h264", "vp9")
        assert stream.codec_context.pix_fmt == "yuv420p"
        frames = [frame.to_ndarray(format="rgb24") for frame in movie.decode(stream)]
    assert len(frames) > 5
    assert any((frame != frames[0]).any() for frame in frames)


def test_a_movie_of_odd_size_keeps_its_picture():
    rng = np.random.default_rng(0)
    tile = np.repeat(np.repeat(rng.integers(0, 255, (3, 5, 1), np.uint8), 15, 0), 15, 1)
    picture = np.repeat(tile, 3, axis=2)
    with av.open(io.BytesIO(encode_movie([picture] * 3, "mp4"))) as movie:
        frame = next(movie.decode(video=0)).to_ndarray(format="rgb24")
    assert frame.shape == (46, 76, 3)
    assert np.abs(frame[:45, :75].astype(int) - picture).mean() < 4


def test_a_caption_shows_all_of_its_letters():
    """An underscore lies lower than any letter."""
    frame = np.zeros((1, 1, 64, 64), np.float32)
    values = np.zeros((1, 1), np.float32)
    shown = Traversals(("_",), 0, values, ((0, 0),), frame, frame[:, None, None], None)
    (picture,) = traversal_pictures(shown)
    caption = picture[:-128]
    assert (caption < 128).any()
    assert (caption[-1] == 255).all()


def test_a_gif_on_request(ps_vae):
    files = files_of(*ps_vae, "gif")
    assert files["movies/traversals.gif"].startswith(b"GIF8")
    assert not any(name.endswith(".mp4") for name in files)


def test_no_movies_on_request(ps_vae):
    assert not any(name.startswith("movies/") for name in files_of(*ps_vae, "none"))


def test_latents_have_the_layout_of_the_recording_and_equal_those_of_the_model(
    ps_vae, demo_session, demo_files
):
    model, _ = ps_vae
    frames = demo_session.frames[demo_session.clip(3)] / np.float32(255)
    latents = model.predict(frames).mean.numpy()
    with h5py.File(io.BytesIO(demo_files["latents/session_0.h5"])) as file:
        assert tuple(file["latents"]) == demo_session.header.clip_names
        assert json.loads(file["latents"].attrs["names"])[-1] == "unsupervised 1"
        np.testing.assert_allclose(file["latents/trial_0003"][()], latents, atol=1e-5)
        labels_hat = file["labels_hat/trial_0003"][()]
    rows = list(csv.DictReader(io.StringIO(demo_files["latents/session_0.csv"].decode())))
    assert len(rows) == 120
    row = next(row for row in rows if row["clip"] == "trial_0003" and row["frame"] == "5")
    assert float(row["latent: unsupervised 1"]) == pytest.approx(latents[5, 5], rel=1e-4)
    assert float(row["label: paw_left_x"]) == pytest.approx(labels_hat[5, 0], rel=1e-4)


def test_a_traversal_changes_one_latent_only(ps_vae):
    model, data = ps_vae
    predictions = predict_sessions(model, data, CPU)
    values = latent_values(predictions, data)
    seen = traverse_places(model, data, [(0, 17)], values, CPU)
    (base,) = predictions[0].latents[[17]]
    for latent in (0, 5):
        z = base.copy()
        z[latent] = values[latent, 3]
        expected = model.decode(torch.from_numpy(z[None])).detach()
        np.testing.assert_allclose(seen.frames[0, latent, 3], expected[0], atol=1e-5)


def test_the_point_of_a_traversed_label_is_where_the_label_is(ps_vae):
    model, data = ps_vae
    predictions = predict_sessions(model, data, CPU)
    seen = traverse_places(model, data, [(0, 17)], latent_values(predictions, data), CPU)
    # The labels of the demo are pixels already, so points are labels in the user's units.
    scaled = seen.values[1] * model.readout.weight[1].item() + model.readout.bias[1].item()
    expected = data.label_scaler.mean[0, 1] + data.label_scaler.std[0, 1] * scaled
    np.testing.assert_allclose(seen.points[0, 1, :, 1], expected, rtol=1e-3)


def test_common_base_frames_depend_on_the_recording_alone(ps_vae, demo_session):
    model, data = ps_vae
    other, _ = build(demo_session, "ps-vae", 6, **PS_VAE, rng_seed_model=1)
    chosen = [choose_bases(predict_sessions(item, data, CPU)) for item in (model, other)]
    assert chosen[0] != chosen[1]
    assert len(choose_common_bases([demo_session])) == 3


@pytest.mark.parametrize(
    ("model_class", "n_latents", "settings"),
    [
        ("ae", 1, {}),
        ("ps-vae", 4, PS_VAE),
        ("ps-vae", 5, PS_VAE),
        ("cond-vae", 2, {}),
        ("cond-ae", 2, {"conditional_encoder": True}),
        ("cond-ae-msp", 5, {"msp.alpha": 0.1}),
        ("beta-tcvae", 2, {"beta_tcvae.beta": 2.0}),
    ],
)
def test_models_of_every_kind_have_figures(demo_session, model_class, n_latents, settings):
    files = files_of(*build(demo_session, model_class, n_latents, **settings), "none", {})
    description = json.loads(files[f"{COMPARISON}/traversals.json"])
    assert len(description["names"]) == n_latents
    assert open_picture(files["figures/traversals.png"]).std() > 5
    assert ("figures/labels.png" in files) == (description["n_supervised"] > 0)
    assert "figures/curves.png" not in files


def test_two_channels_and_44_labels(many_labels_session):
    model, data = build(many_labels_session, "ps-vae", 46, **PS_VAE)
    files = files_of(model, data)
    strip = open_picture(files[f"{COMPARISON}/strip_0.png"])
    assert strip.shape[:2] == (46 * 18 - 2, 5 * 42 - 2)
    for name in ("labels", "traversals", "reconstructions"):
        height, width = open_picture(files[f"figures/{name}.png"]).shape[:2]
        assert 300 < height < 4000
        assert 300 < width < 4000


def test_a_frame_becomes_a_tile_with_its_channels_side_by_side():
    frame = np.stack([np.zeros((2, 3)), np.ones((2, 3))])
    np.testing.assert_array_equal(to_tile(frame), [[0, 0, 0, 255, 255, 255]] * 2)


def test_signs_of_a_difference_differ_in_colour():
    below, zero, above = to_signed_tile(np.array([[[-1.0, 0.0, 1.0]]]), 1.0)[0]
    assert below[2] > below[0]
    assert above[0] > above[2]
    assert zero.tolist() == [255, 255, 255]


def test_tiles_lie_where_the_sheet_says():
    tiles = [[np.full((4, 3), 10 * i + j, np.uint8) for j in range(3)] for i in range(2)]
    page = sheet(tiles)
    for i in range(2):
        for j in range(3):
            y, x = tile_corner(i, j, 4, 3)
            assert (page[y : y + 4, x : x + 3] == 10 * i + j).all()
