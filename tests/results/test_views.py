"""A model takes of a video the part that it was fitted on."""

import json
import logging

import h5py
import numpy as np
import pytest

import psvae_tune as pt
from psvae_tune.data.importers.plan import plan_import
from psvae_tune.data.importers.request import ImportRequest, Source
from psvae_tune.data.importers.write import import_session
from psvae_tune.data.recorded_view import RecordedView, from_plain, to_plain
from psvae_tune.data.session_header import read_header
from psvae_tune.data.video import Crop
from psvae_tune.errors import DataError, StorageError
from psvae_tune.models.model_file import load_model, save_model
from tests.support.recordings import HEIGHT, WIDTH, draw, path_of_square, turn, write_video

N = 60
FRAMES = draw(path_of_square(N))
CONFIG = {
    "model_class": "vae",
    "n_ae_latents": 2,
    "max_n_epochs": 1,
    "trial_splits": "8;1;1;0",
    "ae_arch_json": {
        "ae_encoding_n_channels": [2, 4],
        "ae_encoding_kernel_size": [5, 5],
        "ae_encoding_stride_size": [2, 2],
    },
}


def record(video, path, crop=None, **options):
    """Import a video and fit a model on it."""
    plan = plan_import(ImportRequest((Source(video, crop=crop),), **options))
    import_session(plan, path)
    return pt.fit(path, CONFIG).model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    write_video(folder / "mouse.mp4", FRAMES)
    return folder


@pytest.mark.parametrize("degrees", [0, 90])
@pytest.mark.parametrize("is_colour", [False, True])
@pytest.mark.parametrize("crop", [None, Crop(40, 30, 11, 7)])
def test_a_video_is_cut_as_the_recording_was(folder, tmp_path, degrees, is_colour, crop):
    video = turn(write_video(tmp_path / "mouse.mp4", FRAMES), degrees)
    model = record(video, tmp_path / "s.h5", crop, size=(24, 16), is_colour=is_colour)
    expected = model.transform(tmp_path / "s.h5")
    np.testing.assert_allclose(model.transform(video), expected, atol=1e-6)
    save_model(tmp_path / "model.pt", model.model, extra=model.saved.extra)
    kept = pt.load_model(tmp_path / "model.pt")
    np.testing.assert_allclose(kept.transform(video), expected, atol=1e-6)


def test_a_recording_notes_its_views(folder, tmp_path):
    crop = Crop(40, 30, 11, 7)
    sources = (Source(folder / "mouse.mp4", crop=crop), Source(folder / "mouse.mp4"))
    import_session(plan_import(ImportRequest(sources, size=(16, 16))), tmp_path / "s.h5")
    assert read_header(tmp_path / "s.h5", needs_labels=False).views == (
        RecordedView((WIDTH, HEIGHT), (40, 30, 11, 7), False),
        RecordedView((WIDTH, HEIGHT), (WIDTH, HEIGHT, 0, 0), False),
    )


@pytest.mark.parametrize("crop", [None, Crop(40, 30, 11, 7)])
def test_a_video_of_other_frames_is_refused_unless_it_is_the_same_picture(folder, tmp_path, crop):
    model = record(folder / "mouse.mp4", tmp_path / "s.h5", crop, size=(24, 16))
    larger = write_video(tmp_path / "larger.mp4", FRAMES.repeat(2, axis=1).repeat(2, axis=2))
    wider = write_video(tmp_path / "wider.mp4", FRAMES[:, :32])
    with pytest.raises(DataError, match=f"must have frames of {WIDTH}x{HEIGHT}, of which.*96x32"):
        model.transform(wider)
    if crop is None:
        assert model.transform(larger).shape == (N, 2)
    else:
        with pytest.raises(DataError, match=r"was fitted on 40x30\+11\+7, got 192x128") as caught:
            model.transform(larger)
        assert "data import" in caught.value.hint


def test_a_model_of_two_cameras_takes_no_video(folder, tmp_path):
    sources = (Source(folder / "mouse.mp4"), Source(folder / "mouse.mp4"))
    import_session(plan_import(ImportRequest(sources, size=(24, 16))), tmp_path / "s.h5")
    model = pt.fit(tmp_path / "s.h5", CONFIG).model
    with pytest.raises(DataError, match="a video has 1 channel, the model was fitted on 2"):
        model.transform(folder / "mouse.mp4")


@pytest.mark.parametrize(("size", "is_told"), [((24, 16), False), ((16, 16), True)])
def test_stretched_frames_are_told_where_the_view_is_not_known(
    folder, tmp_path, caplog, size, is_told
):
    model = record(folder / "mouse.mp4", tmp_path / "s.h5", size=size)
    del model.saved.extra["views"]
    with caplog.at_level(logging.WARNING):
        model.transform(folder / "mouse.mp4")
    assert ("stretched to 16x16" in caplog.text) == is_told


WRONG = [
    *(5, None, {}, [5], [None], [{}], [[]]),
    *[
        [{"video_size": size, "crop": crop, "is_colour": colour}]
        for size, crop, colour in [
            ([9, 9], [9, 9, 0], False),
            ([9], [9, 9, 0, 0], False),
            ([9, 9], [9, 9, 1, 0], False),
            ([9, 9], [0, 9, 0, 0], False),
            ([9, 9], [9, 9, -1, 0], False),
            ([9, 9], [9.0, 9, 0, 0], False),
            ([True, 9], [1, 9, 0, 0], False),
            ([1e30, 9], [1, 9, 0, 0], False),
            ([9, 9], [9, 9, 0, 0], "no"),
            ("99", "9900", False),
        ]
    ],
]


@pytest.mark.parametrize("raw", WRONG, ids=repr)
def test_views_that_are_none_are_not_taken(folder, tmp_path, raw):
    with pytest.raises(ValueError, match="must be a"):
        from_plain(raw)
    import_session(
        plan_import(ImportRequest((Source(folder / "mouse.mp4"),), size=(16, 16))),
        tmp_path / "s.h5",
    )
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file.attrs["views"] = np.bytes_(json.dumps(raw))
    assert read_header(tmp_path / "s.h5", needs_labels=False).views == ()


@pytest.fixture(scope="module")
def model(folder):
    return record(folder / "mouse.mp4", folder / "s.h5", size=(16, 16))


@pytest.mark.parametrize("raw", [5, *([item] for item in WRONG)], ids=repr)
def test_a_model_of_wrong_views_is_refused(model, tmp_path, raw):
    save_model(tmp_path / "model.pt", model.model, extra={"views": raw})
    with pytest.raises(StorageError, match="views must be"):
        load_model(tmp_path / "model.pt")


def test_views_come_back():
    views = (RecordedView((9, 8), (3, 4, 5, 4), True), RecordedView((9, 8), (9, 8, 0, 0), False))
    assert from_plain(json.loads(json.dumps(to_plain(views)))) == views
    assert [view.is_whole for view in views] == [False, True]
