from pathlib import Path

import av
import numpy as np
import pytest

from psvae_tune.data.video import Crop, View, probe_video
from psvae_tune.data.video_frames import iterate_frames
from psvae_tune.errors import DataError
from tests.support.recordings import (
    HEIGHT,
    WIDTH,
    draw,
    path_of_square,
    show_as,
    turn,
    write_video,
)

FULL = Crop(WIDTH, HEIGHT, 0, 0)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return draw(path_of_square(60))


@pytest.fixture(scope="module")
def video(frames, tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "square.mp4", frames)


def read(path: Path, view: View, numbers: range) -> np.ndarray:
    return np.stack(list(iterate_frames(probe_video(path), view, numbers, [])))


def test_a_video_is_described(video):
    info = probe_video(video)
    assert (info.n_frames, info.width, info.height, info.n_uneven) == (60, WIDTH, HEIGHT, 0)
    assert info.fps == pytest.approx(30)
    assert info.times[:3] == pytest.approx([0, 1 / 30, 2 / 30])


def test_frames_come_back_as_they_were_drawn(video, frames):
    stored = read(video, View(FULL, WIDTH, HEIGHT), range(60))
    assert stored.shape == (60, 1, HEIGHT, WIDTH)
    assert abs(stored[:, 0].astype(float) - frames).mean() < 3


@pytest.mark.parametrize("numbers", [range(37, 60), range(5, 50, 7), range(59, 60)])
def test_any_frames_are_those_of_reading_all(video, numbers):
    view = View(FULL, 48, 32)
    np.testing.assert_array_equal(
        read(video, view, numbers), read(video, view, range(60))[numbers]
    )


def test_frames_are_cut_at_odd_places_and_sized(video, frames):
    crop = Crop(31, 21, 33, 17)
    stored = read(video, View(crop, 31, 21), range(10))[:, 0]
    expected = frames[:10, 17 : 17 + 21, 33 : 33 + 31]
    assert abs(stored.astype(float) - expected).mean() < 4
    halved = read(video, View(FULL, WIDTH // 2, HEIGHT // 2), range(1))[0, 0].astype(float)
    means = frames[0].reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean((1, 3))
    assert abs(halved - means).mean() < 4


@pytest.mark.parametrize(("degrees", "n_quarters"), [(90, -1), (180, 2), (270, 1)])
def test_frames_are_those_that_are_shown(tmp_path, frames, degrees, n_quarters):
    video = turn(write_video(tmp_path / "turned.mp4", frames), degrees)
    expected = np.rot90(frames, n_quarters, axes=(1, 2))
    height, width = expected.shape[1:]
    info = probe_video(video)
    assert (info.width, info.height) == (width, height)
    stored = read(video, View(Crop(width, height, 0, 0), width, height), range(60))[:, 0]
    assert abs(stored.astype(float) - expected).mean() < 3
    cut = read(video, View(Crop(31, 21, 13, 17), 31, 21), range(5))[:, 0]
    assert abs(cut.astype(float) - expected[:5, 17 : 17 + 21, 13 : 13 + 31]).mean() < 4


@pytest.mark.parametrize(
    "matrix", [(0.87, 0.5, -0.5, 0.87), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0)]
)
def test_a_video_shown_at_a_slant_or_mirrored_is_refused(tmp_path, frames, matrix):
    video = show_as(write_video(tmp_path / "odd.mp4", frames[:5]), *matrix)
    with pytest.raises(DataError, match="mirrored, or not turned by a right angle"):
        probe_video(video)


def test_how_a_video_is_turned_is_known_although_its_first_frame_is_damaged(tmp_path, frames):
    video = turn(write_video(tmp_path / "turned.mp4", frames), 90.1)
    with av.open(str(video)) as container:
        first = next(packet for packet in container.demux() if packet.size)
        begin, size = first.pos, first.size
    content = bytearray(video.read_bytes())
    content[begin : begin + size] = bytes(size)
    video.write_bytes(content)
    info = probe_video(video)
    assert (info.turn, info.width, info.height) == (90, HEIGHT, WIDTH)
    view = View(Crop(HEIGHT, WIDTH, 0, 0), HEIGHT, WIDTH)
    assert len(read(video, view, range(info.n_frames))) == 60 - info.n_before_key == 48


def test_colour_has_three_channels_of_a_grey_video(video):
    colour = read(video, View(FULL, 32, 32, is_colour=True), range(2))
    assert colour.shape == (2, 3, 32, 32)
    assert abs(colour[:, 0].astype(int) - colour[:, 2]).max() <= 2


def test_frames_dropped_by_the_camera_are_counted(tmp_path, frames):
    stamps = [i + (i >= 20) + 2 * (i >= 40) for i in range(60)]
    info = probe_video(write_video(tmp_path / "gaps.mp4", frames, stamps=stamps))
    assert (info.n_frames, info.n_uneven) == (60, 2)
    assert info.fps == pytest.approx(30)


def test_a_video_that_breaks_off_says_where(tmp_path, frames):
    rng = np.random.default_rng(0)
    noisy = np.clip(frames + rng.normal(0, 20, frames.shape), 0, 255).astype(np.uint8)
    options = {"movflags": "faststart"}
    whole = write_video(tmp_path / "whole.mp4", noisy, options=options).read_bytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(whole[: len(whole) // 2])
    info = probe_video(broken)
    assert 10 < info.n_frames < info.n_declared == 60
    with pytest.raises(DataError, match=r"breaks off at frame \d+ of 60"):
        list(iterate_frames(info, View(FULL, 32, 32), range(60), []))


def test_what_is_no_video_is_refused(tmp_path, video):
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[:300])
    for path in (text, cut):
        with pytest.raises(DataError, match="cannot be read as a video"):
            probe_video(path)
    with pytest.raises(DataError, match="no such file"):
        probe_video(tmp_path / "absent.mp4")
    with pytest.raises(DataError, match="got a folder"):
        probe_video(tmp_path)


def test_sound_alone_holds_no_video(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), format="s16", layout="mono"
        )
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(DataError, match="holds no video"):
        probe_video(path)
