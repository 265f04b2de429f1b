import hashlib
import json
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from psvae_tune.config.trial import parse_trial_config
from psvae_tune.data.importers.plan import cut_clips, plan_import
from psvae_tune.data.importers.request import FrameRange, ImportRequest, Source
from psvae_tune.data.importers.write import import_session
from psvae_tune.data.label_scaler import LabelScaler
from psvae_tune.data.session_file import read_session
from psvae_tune.data.video import Crop
from psvae_tune.errors import ConfigError, DataError, StorageError
from psvae_tune.models.batch import DataShape
from psvae_tune.models.model_file import SavedModel
from psvae_tune.models.registry import build_model
from psvae_tune.results.predictions import predict_recording
from tests.support.recordings import (
    HEIGHT,
    WIDTH,
    draw,
    path_of_square,
    turn,
    write_csv,
    write_video,
)

N = 300


@pytest.fixture(scope="module")
def centres() -> np.ndarray:
    return path_of_square(N)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, centres):
    folder = tmp_path_factory.mktemp("recording")
    write_video(folder / "square.mp4", draw(centres))
    likelihood = np.where(np.arange(N) % 10 == 3, 0.5, 0.99)
    write_csv(folder / "square.csv", centres, likelihood)
    return folder


@pytest.fixture
def source(folder):
    return Source(folder / "square.mp4", folder / "square.csv")


def run(request: ImportRequest, path):
    plan = plan_import(request)
    import_session(plan, path)
    return plan, read_session(path, needs_labels=any(s.poses for s in request.sources))


def test_a_session_holds_the_video_and_the_labels_in_its_pixels(source, tmp_path, centres):
    _plan, session = run(ImportRequest((source,), size=(48, 32)), tmp_path / "s.h5")
    assert session.header.label_names == ("paw_x", "paw_y")
    assert session.header.clip_lengths == (15,) * 20
    valid = session.label_masks
    assert (~valid).sum() == 2 * N / 10
    np.testing.assert_allclose(session.labels[valid], (centres / 2)[valid], atol=1e-3)
    # The label is where the square is seen.
    bright = session.frames[:, 0].astype(float).clip(60) - 60
    y, x = np.mgrid[:32, :48]
    seen = np.stack([(bright * x).sum((1, 2)), (bright * y).sum((1, 2))], 1)
    seen /= bright.sum((1, 2))[:, None]
    assert abs(seen - (centres / 2 - 0.5)).max() < 0.6
    with h5py.File(tmp_path / "s.h5") as file:
        assert file.attrs["fps"] == pytest.approx(30)
        sources = json.loads(file.attrs["sources"])
        guesses = np.concatenate([file["labels"][name][()] for name in sorted(file["labels"])])
        # Masked: the tracker's guess in `labels`, 0 in `labels_sc`.
        assert not (guesses == 0).any()
        places = np.concatenate([file["labels_sc"][n][()] for n in sorted(file["labels_sc"])])
        assert (places[~valid] == 0).all()
    digest = hashlib.sha256(source.video.read_bytes()).hexdigest()
    assert sources[0] == {"name": "square.mp4", "sha256": digest}


def test_a_turned_video_is_imported_as_trackers_see_it(tmp_path, centres):
    video = turn(write_video(tmp_path / "turned.mp4", draw(centres)), 90)
    seen = np.stack([HEIGHT - centres[:, 1], centres[:, 0]], 1)
    source = Source(video, write_csv(tmp_path / "turned.csv", seen))
    plan, session = run(ImportRequest((source,), size=(HEIGHT, WIDTH)), tmp_path / "s.h5")
    assert any("asks to be turned by 90 degrees" in note for note in plan.notes)
    np.testing.assert_allclose(session.labels, seen, atol=1e-3)
    rows, columns = (seen[:, axis].astype(int) for axis in (1, 0))
    assert (session.frames[np.arange(N), 0, rows, columns] > 150).all()


def test_a_model_is_shown_the_frames_of_a_video_that_an_import_stores(tmp_path, centres):
    video = turn(write_video(tmp_path / "turned.mp4", draw(centres)), 270)
    _plan, session = run(ImportRequest((Source(video),), size=(24, 32)), tmp_path / "s.h5")
    config = parse_trial_config({"model": {"model_class": "vae", "n_ae_latents": 3}}, "x").model
    saved = SavedModel(
        build_model(config, DataShape(1, 32, 24)).eval(), LabelScaler.identity(0), {}
    )
    found = predict_recording(saved, video)
    assert found.rows.clip_lengths == (N,)
    expected = predict_recording(saved, tmp_path / "s.h5")
    np.testing.assert_allclose(found.latents, expected.latents, atol=1e-6)
    assert session.header.n_labels == 0


def test_frames_and_labels_stay_together_when_some_are_taken(source, tmp_path):
    _, whole = run(ImportRequest((source,), size=(48, 32)), tmp_path / "whole.h5")
    request = ImportRequest(
        (source,), size=(48, 32), frames=FrameRange(31, 250, 3), clip_length=10
    )
    plan, part = run(request, tmp_path / "part.h5")
    np.testing.assert_array_equal(part.frames, whole.frames[31:250:3])
    np.testing.assert_array_equal(part.labels, whole.labels[31:250:3])
    assert plan.attributes["fps"] == pytest.approx(10)


def test_what_lies_outside_the_crop_is_masked(folder, tmp_path, centres):
    crop = Crop(WIDTH // 2, HEIGHT, WIDTH // 2, 0)
    source = Source(folder / "square.mp4", folder / "square.csv", crop)
    plan, session = run(ImportRequest((source,), size=(48, 64)), tmp_path / "s.h5")
    inside = centres[list(plan.frames), 0] >= WIDTH / 2
    assert 0.1 < inside.mean() < 0.9
    assert not session.label_masks[~inside].any()
    seen = session.label_masks[:, 0]
    expected = centres[list(plan.frames), 0][seen] - WIDTH / 2
    np.testing.assert_allclose(session.labels[seen, 0], expected, atol=1e-3)


def test_cameras_become_channels_and_labels_all_x_then_all_y(folder, tmp_path, centres):
    write_csv(folder / "other.csv", centres, name="tail")
    views = (
        Source(folder / "square.mp4", folder / "square.csv"),
        Source(folder / "square.mp4", folder / "other.csv", Crop(48, 32, 0, 0)),
    )
    _, session = run(ImportRequest(views, size=(48, 32)), tmp_path / "s.h5")
    assert session.frames.shape[1:] == (2, 32, 48)
    assert session.header.label_names == ("paw_x", "tail_x", "paw_y", "tail_y")
    assert (session.frames[:, 0] != session.frames[:, 1]).any()


def test_points_of_one_name_in_two_cameras_get_names_of_their_own(folder, source):
    plan = plan_import(ImportRequest((source, source)))
    names = json.loads(plan.attributes["label_names"])
    assert names == ["view0_paw_x", "view1_paw_x", "view0_paw_y", "view1_paw_y"]


def test_the_offset_says_which_row_is_which_frame(folder, tmp_path, centres):
    late = write_csv(tmp_path / "late.csv", centres[40:])
    source = Source(folder / "square.mp4", late)
    plan, session = run(
        ImportRequest((source,), label_offset=40, size=(96, 64)), tmp_path / "s.h5"
    )
    assert plan.frames == range(40, N)
    np.testing.assert_allclose(session.labels, centres[40:], atol=1e-3)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (slice(0, 240), "row i is frame i"),
        (slice(60, N), "the last row is the last frame"),
        (slice(0, N, 2), "row i is frame 2·i"),
    ],
)
def test_rows_that_are_not_as_many_as_frames_are_matched_by_what_fits(
    folder, tmp_path, centres, rows, words
):
    poses = write_csv(tmp_path / "short.csv", centres[rows])
    plan = plan_import(ImportRequest((Source(folder / "square.mp4", poses),), size=(96, 64)))
    assert any(words in note for note in plan.notes)
    valid = plan.arrays["labels_masks"] > 0
    expected = centres[list(plan.frames)]
    np.testing.assert_allclose(plan.arrays["labels"][valid], expected[valid], atol=1e-3)


def test_rows_that_fit_nowhere_are_refused(folder, tmp_path):
    other = write_csv(tmp_path / "other.csv", path_of_square(200, seed=7))
    request = ImportRequest((Source(folder / "square.mp4", other),))
    with pytest.raises(DataError, match=r"200 rows for 300 frames.*cannot be known") as caught:
        plan_import(request)
    assert "--label-offset" in caught.value.hint


def test_extra_columns_and_events_become_labels(folder, source, tmp_path):
    pupil = tmp_path / "pupil.csv"
    cells = ["" if i == 4 else str(i % 7) for i in range(N)]
    pupil.write_text("frame,pupil\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells)))
    licks = tmp_path / "licks.csv"
    licks.write_text("lick_times\n0.0\n0.034\n0.05\n9.99\n")
    request = ImportRequest((source,), extra_labels=(pupil, licks))
    _plan, session = run(request, tmp_path / "s.h5")
    assert session.header.label_names == ("paw_x", "paw_y", "pupil", "lick")
    assert session.labels[:6, 2].tolist() == [0, 1, 2, 3, 0, 5]
    assert session.label_masks[3:6, 2].tolist() == [True, False, True]
    assert np.flatnonzero(session.labels[:, 3]).tolist() == [0, 1, 299]
    assert session.labels[1, 3] == 2
    assert session.labels_sc is None
    pupil.write_text("pupil\n1\n2\n")
    with pytest.raises(DataError, match="a row for each of 300 frames, got 2"):
        plan_import(request)


def test_an_interrupted_import_goes_on_and_ends_the_same(source, tmp_path):
    plan = plan_import(ImportRequest((source,), size=(48, 32)))
    import_session(plan, tmp_path / "straight.h5")
    path = tmp_path / "s.h5"

    def interrupt(n_done: int) -> None:
        if n_done >= 150:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_session(plan, path, progress=interrupt)
    assert not path.exists()
    told = []
    import_session(plan, path, progress=told.append)
    assert told[0] == 150
    assert path.read_bytes() == (tmp_path / "straight.h5").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.h5", "straight.h5"]


@pytest.mark.parametrize(("save_every_s", "n_kept"), [(0, 135), (60, 0)])
def test_an_import_that_is_killed_goes_on_and_ends_the_same(
    folder, tmp_path, save_every_s, n_kept
):
    program = f"""
import os, signal
from pathlib import Path
from psvae_tune.data.importers import write
from psvae_tune.data.importers.plan import plan_import
from psvae_tune.data.importers.request import ImportRequest, Source
write.SAVE_EVERY_S = {save_every_s}
plan = plan_import(ImportRequest((Source(Path({str(folder / "square.mp4")!r})),), size=(48, 32)))
def die(n_done):
    if n_done >= 150:
        os.kill(os.getpid(), signal.SIGKILL)
write.import_session(plan, Path({str(tmp_path / "s.h5")!r}), progress=die)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    plan = plan_import(ImportRequest((Source(folder / "square.mp4"),), size=(48, 32)))
    told = []
    import_session(plan, tmp_path / "s.h5", progress=told.append)
    assert told[0] == n_kept
    import_session(plan, tmp_path / "straight.h5")
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "straight.h5").read_bytes()


def test_an_interrupted_import_of_something_else_is_not_gone_on_with(source, tmp_path):
    def interrupt(n_done: int) -> None:
        if n_done:
            raise KeyboardInterrupt

    path = tmp_path / "s.h5"
    with pytest.raises(KeyboardInterrupt):
        import_session(plan_import(ImportRequest((source,))), path, progress=interrupt)
    told = []
    import_session(
        plan_import(ImportRequest((source,), size=(32, 32))), path, progress=told.append
    )
    assert told[0] == 0
    assert read_session(path, needs_labels=True).header.width == 32


def test_a_full_disk_keeps_what_is_written_and_says_what_to_do(folder, tmp_path):
    # A limit on the size of files is the disk that fills up half-way.
    program = f"""
import resource, sys
from pathlib import Path
from psvae_tune.data.importers.plan import plan_import
from psvae_tune.data.importers.request import ImportRequest, Source
from psvae_tune.data.importers.write import import_session
plan = plan_import(ImportRequest((Source(Path({str(folder / "square.mp4")!r})),), size=(96, 64)))
def fill_up(n_done):
    resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, resource.RLIM_INFINITY))
try:
    import_session(plan, Path({str(tmp_path / "s.h5")!r}), progress=fill_up)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.startswith("StorageError"), done.stdout + done.stderr
    assert "cannot be written: file too large" in done.stdout
    assert "hint: what is done is kept" in done.stdout
    assert not (tmp_path / "s.h5").exists()
    plan = plan_import(ImportRequest((Source(folder / "square.mp4"),), size=(96, 64)))
    told = []
    import_session(plan, tmp_path / "s.h5", progress=told.append)
    assert told[0] == 135  # nine clips of 15 frames of 6144 bytes
    import_session(plan, tmp_path / "straight.h5")
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "straight.h5").read_bytes()


def test_a_session_in_the_way_is_kept(source, tmp_path):
    plan = plan_import(ImportRequest((source,)))
    path = tmp_path / "s.h5"
    path.write_text("precious")
    with pytest.raises(StorageError, match="exists"):
        import_session(plan, path)
    assert path.read_text() == "precious"
    import_session(plan, path, replaces=True)
    assert read_session(path, needs_labels=True).header.n_frames == N
    with pytest.raises(StorageError, match="there is no folder"):
        import_session(plan, tmp_path / "absent" / "s.h5")


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (FrameRange(0, 400), "must end at 300 at most, the frames of the video, got 400"),
        (FrameRange(300), "chooses none of the 300 frames"),
    ],
)
def test_frames_that_are_not_there_are_refused(source, frames, message):
    with pytest.raises(ConfigError, match=message):
        plan_import(ImportRequest((source,), frames=frames))


def test_cameras_of_different_lengths_are_refused(folder, source, tmp_path, centres):
    short = Source(write_video(tmp_path / "short.mp4", draw(centres[:280])))
    with pytest.raises(DataError, match=r"300 in square.mp4, 280 in short.mp4") as caught:
        plan_import(ImportRequest((source, short)))
    assert "--frames 0:280" in caught.value.hint


def test_a_crop_beyond_the_video_and_a_still_label_are_refused(folder, tmp_path):
    beyond = Source(folder / "square.mp4", crop=Crop(90, 64, 10, 0))
    with pytest.raises(ConfigError, match=r"must lie within 96x64, got 90x64\+10\+0"):
        plan_import(ImportRequest((beyond,)))
    still = write_csv(tmp_path / "still.csv", np.full((N, 2), 7.0))
    with pytest.raises(DataError, match="`paw_x` never varies"):
        plan_import(ImportRequest((Source(folder / "square.mp4", still),)))


@pytest.mark.parametrize(
    ("n_frames", "clip_length", "expected"),
    [
        (1000, None, (50,) * 20),
        (5000, None, (100,) * 50),
        (1350, 100, (100,) * 13 + (50,)),
        (1349, 100, (100,) * 12 + (149,)),
        (7, None, (1,) * 7),
    ],
)
def test_clips_hold_every_frame(n_frames, clip_length, expected):
    lengths = cut_clips(n_frames, clip_length)
    assert lengths == expected
    assert sum(lengths) == n_frames


def test_the_real_mouse_gives_the_labels_of_its_reference_file(shared, tmp_path):
    data = shared / "data" / "mirror_mouse"
    source = Source(data / "180607_004.mp4", next(data.glob("*.csv")))
    plan, session = run(ImportRequest((source,), size=(128, 128)), tmp_path / "s.h5")
    assert any("2000 rows for 1000 frames: row i is frame i" in note for note in plan.notes)
    reference = read_session(data / "mirror_mouse_128.h5", needs_labels=True)
    assert session.header.label_names == reference.header.label_names
    assert session.header.clip_lengths == reference.header.clip_lengths
    np.testing.assert_array_equal(session.label_masks, reference.label_masks)
    assert abs(session.labels - reference.labels).max() < 0.5
    assert abs(session.frames.astype(float) - reference.frames).mean() < 1


def test_the_real_flies_are_both_imported(shared, tmp_path):
    data = shared / "data" / "flies13"
    video, slp = data / "demo-flies13-preds.mp4", data / "demo-flies13-preds.slp"
    both = Source(video, slp, tracks=("all",))
    _plan, session = run(
        ImportRequest((both,), size=(64, 64), frames=FrameRange(0, 60)), tmp_path / "s.h5"
    )
    assert session.header.n_labels == 2 * 13 * 2
    assert session.header.label_names[0] == "track_0_head_x"
    with pytest.raises(DataError, match="holds 2 tracks: track_0, track_1"):
        plan_import(ImportRequest((Source(video, slp),)))
