import csv
import io
import json

import av
import h5py
import numpy as np
import pytest
import torch

from psvae_tune.results.figures.images import (
    COMPARISON,
    resize,
    sheet,
    tile_corner,
    tile_shares,
    to_colour,
    to_signed_tile,
    to_tile,
)
from psvae_tune.results.figures.movies import MARK, encode_movie, traversal_pictures
from psvae_tune.results.figures.style import BLUE, ORANGE, to_png
from psvae_tune.results.figures.traversals import (
    Traversals,
    choose_bases,
    choose_common_bases,
    latent_values,
    traverse_places,
)
from psvae_tune.results.figures.trial_figures import (
    LabelTrace,
    draw_curves,
    draw_labels,
    draw_reconstructions,
    draw_traversals,
)
from psvae_tune.results.figures.trial_files import STRIP_VALUES, FinishedTrial, make_files
from psvae_tune.results.predictions import predict_sessions
from psvae_tune.training.final_metrics import final_metrics
from tests.support.pictures import colour_at, open_picture, to_pixel
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


def panel(figure, title):
    (found,) = (axes for axes in figure.axes if axes.get_title(loc="left") == title)
    return found


def last_pixels(picture, n_rows, n_columns, height, width):
    """Return the tiles of a sheet, which ends a margin before its picture does."""
    page_height, page_width = n_rows * (height + 2) - 2, n_columns * (width + 2) - 2
    page = picture[-5 - page_height : -5, -5 - page_width : -5]

    def tile(row, column):
        y, x = tile_corner(row, column, height, width)
        return page[y : y + height, x : x + width]

    return tile


def test_a_trial_has_every_picture(demo_files):
    figures = {f"figures/{n}.png" for n in ("curves", "labels", "reconstructions", "traversals")}
    strips = {f"{COMPARISON}/strip_{base}.png" for base in range(3)}
    assert {name for name in demo_files if name.endswith(".png")} == figures | strips


def test_curves_show_the_history_the_annealing_and_the_best_epoch():
    train, val = [(1, 0.5), (2, 0.375), (3, 0.25)], [(1, 0.625), (3, 0.375)]
    history = {"train/loss": train, "val/loss": val, "val/frame_mse": val}
    figure = draw_curves(history, best_epoch=3, n_anneal_epochs=2)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["frame_mse", "loss"]
    axes = panel(figure, "loss")
    curves = {line.get_label(): line for line in axes.lines if line.get_label()[0] != "_"}
    assert [*map(tuple, curves["train"].get_xydata())] == train
    assert [*map(tuple, curves["val"].get_xydata())] == val
    (best,) = (line for line in axes.lines if line.get_linestyle() == ":")
    assert [*best.get_xdata()] == [3, 3]
    (annealing,) = axes.patches
    assert (annealing.get_x(), annealing.get_width()) == (0, 2)
    assert colour_at(figure, axes, 2, 0.375) == to_pixel(BLUE)
    assert not draw_curves(history, 3, n_anneal_epochs=0).axes[0].patches


def test_labels_show_what_was_tracked_predicted_and_lost():
    labels = np.arange(12, dtype=np.float32).reshape(6, 2)
    masks = np.ones((6, 2), bool)
    masks[2:4, 0] = False
    trace = LabelTrace(("paw", "nose"), labels, labels + 0.5, masks, {"paw": 0.25}, (0, 3))
    figure = draw_labels(trace)
    paw, nose = figure.axes
    assert paw.get_title(loc="left") == "paw   R² 0.250"
    assert nose.get_title(loc="left") == "nose   no R²"
    tracked, predicted, clip = paw.lines
    np.testing.assert_array_equal(tracked.get_ydata(), [0, 2, np.nan, np.nan, 8, 10])
    np.testing.assert_array_equal(predicted.get_ydata(), labels[:, 0] + 0.5)
    assert [*clip.get_xdata()] == [3, 3]
    (lost,) = paw.patches
    assert (lost.get_x(), lost.get_width()) == (1.5, 2)
    assert not nose.patches


def test_a_traversal_is_a_row_and_its_label_a_ring():
    rng = np.random.default_rng(0)
    n_bases, n_latents, n_values = 2, 5, 4
    frames = rng.random((n_bases, n_latents, n_values, 1, 16, 16), np.float32)
    points = np.full((n_bases, n_latents, n_values, 4), 8, np.float32)  # x, x, y, y
    points[1, 1, 2] = [3, 11, 4, 6]  # latent 1 is the x of the second point
    shown = Traversals(
        ("paw_x", "nose_x", "paw_y", "nose_y", "unsupervised 0"),
        4,
        np.tile(np.arange(n_values, dtype=np.float32), (n_latents, 1)),
        ((0, 3), (0, 7)),
        frames[:, 0, 0],
        frames,
        points,
    )
    picture = open_picture(draw_traversals(shown))
    tile = last_pixels(picture, n_latents, n_bases * (n_values + 1), 96, 96)
    expected = to_colour(resize(to_tile(frames[1, 4, 2]), 96))
    np.testing.assert_array_equal(tile(4, n_values + 1 + 2), expected)
    differences = shown.differences()
    expected = resize(to_signed_tile(differences[0, 3], np.abs(differences).max()), 96)
    np.testing.assert_array_equal(tile(3, n_values), expected)
    ring = (tile(1, n_values + 1 + 2) == to_pixel(ORANGE)).all(axis=2)
    scale = 96 / 16
    np.testing.assert_allclose(np.argwhere(ring).mean(axis=0), [6 * scale, 11 * scale], atol=1)
    assert not (tile(4, 0) == to_pixel(ORANGE)).all(axis=2).any()


@pytest.mark.parametrize("decades", [0.1, 1, 2.5, 11])
def test_an_error_that_falls_by_any_factor_can_be_read_off(decades):
    values = 0.5 * 10 ** -np.linspace(0, decades, 10)
    curves = {"val/frame_mse": [(i, float(value)) for i, value in enumerate(values, 1)]}
    figure = draw_curves(curves, 10, 0)
    to_png(figure)  # which sets the ticks
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    ticks = [tick for tick in axes.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert 2 <= len(ticks) <= 8
    numbers = [float(tick.label1.get_text().replace("\N{MINUS SIGN}", "-")) for tick in ticks]
    assert numbers == pytest.approx([tick.get_loc() for tick in ticks])


def test_frames_are_pictured_pixel_for_pixel():
    rng = np.random.default_rng(0)
    frames, frames_hat = rng.random((2, 7, 1, 16, 16), np.float32)
    content = draw_reconstructions(frames, frames_hat, [f"frame {i}" for i in range(7)], 0.1)
    tile_at = last_pixels(open_picture(content), 3, 7, 144, 144)
    limit = np.abs(frames - frames_hat).max()
    for row, tile in enumerate(
        (
            to_tile(frames[6]),
            to_tile(frames_hat[6]),
            to_signed_tile((frames - frames_hat)[6], limit),
        )
    ):
        np.testing.assert_array_equal(tile_at(row, 6)[::9, ::9], to_colour(tile))


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
    row = next(row for row in rows if row["clip"] == "trial_0003" and row["frame_index"] == "41")
    assert float(row["latent: unsupervised 1"]) == pytest.approx(latents[5, 5], rel=1e-4)
    assert float(row["label: paw_left_x"]) == pytest.approx(labels_hat[5, 0], rel=1e-4)
    seen = [row["mask: paw_left_x"] == "1" for row in rows]
    assert seen == demo_session.label_masks[:, 0].tolist()


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
    model, data = build(demo_session, model_class, n_latents, **settings)
    files = files_of(model, data, "none", {})
    description = json.loads(files[f"{COMPARISON}/traversals.json"])
    assert len(description["names"]) == n_latents
    shown = traverse_places(
        model,
        data,
        choose_common_bases([demo_session]),
        latent_values(predict_sessions(model, data, CPU), data, STRIP_VALUES),
        CPU,
    )
    height, width = to_tile(shown.base[0]).shape
    crosses = 0
    for base in range(3):
        differences = shown.differences()[base]
        strip = open_picture(files[f"{COMPARISON}/strip_{base}.png"])
        for latent in range(n_latents):
            for value in range(STRIP_VALUES):
                y, x = tile_corner(latent, value, height, width)
                tile = strip[y : y + height, x : x + width]
                is_cross = (tile == MARK).all(axis=2)
                crosses += is_cross.sum()
                frame = to_colour(to_tile(shown.frames[base, latent, value]))
                np.testing.assert_array_equal(tile[~is_cross], frame[~is_cross])
            y, x = tile_corner(latent, STRIP_VALUES, height, width)
            np.testing.assert_array_equal(
                strip[y : y + height, x : x + width],
                to_signed_tile(differences[latent], np.abs(differences).max()),
            )
    assert (crosses > 0) == (shown.points is not None)
    assert ("figures/labels.png" in files) == (description["n_supervised"] > 0)
    assert "figures/curves.png" not in files


def test_two_channels_and_44_labels(many_labels_session):
    model, data = build(many_labels_session, "ps-vae", 46, **PS_VAE)
    files = files_of(model, data)
    strip = open_picture(files[f"{COMPARISON}/strip_0.png"])
    assert strip.shape[:2] == (46 * 18 - 2, (STRIP_VALUES + 1) * 42 - 2)
    height, width = open_picture(files["figures/labels.png"]).shape[:2]
    assert (height, width) == (round(110 * (1.1 + 22 * 1.15)), 14 * 110)
    # Tiles of 2 channels, 16 by 20 pixels each, enlarged; titles and names need some room beside.
    for name, rows, columns, tile in (
        ("traversals", 46, 3 * (5 + 1), (32, 80)),
        ("reconstructions", 3, 6, (144, 360)),
    ):
        height, width = open_picture(files[f"figures/{name}.png"]).shape[:2]
        page_height, page_width = rows * (tile[0] + 2) - 2, columns * (tile[1] + 2) - 2
        assert page_height < height < page_height + 100, name
        assert page_width < width < page_width + 250, name


@pytest.mark.parametrize("width", [17, 32, 64])
def test_shares_of_a_sheet_say_where_its_tiles_are(width):
    page = sheet([[np.full((5, width), 10 * column, np.uint8) for column in range(8)]])
    tile, distance = (share * page.shape[1] for share in tile_shares(page.shape[1], 8))
    for column in range(8):
        x = round(column * distance)
        assert (page[:, x : x + round(tile)] == 10 * column).all()


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
