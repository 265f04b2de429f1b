"""Videos as cameras and trackers have them: any beginning, gaps, damage, odd names."""

import json
import os
import struct
from pathlib import Path

import av
import h5py
import numpy as np
import pytest

from psvae_tune.data.importers.plan import plan_import
from psvae_tune.data.importers.request import ImportRequest, Source
from psvae_tune.data.importers.write import import_session
from psvae_tune.data.video import Crop, View, probe_video
from psvae_tune.data.video_frames import iterate_frames
from psvae_tune.errors import DataError
from tests.support.recordings import HEIGHT, WIDTH, draw, path_of_square, write_csv

N = 90
CENTRES = path_of_square(N)
FRAMES = draw(CENTRES)
VIEW = View(Crop(WIDTH, HEIGHT, 0, 0), WIDTH, HEIGHT)

CODINGS = {
    "open.mp4": ("libx264", "yuv420p", {"x264-params": "open-gop=1:keyint=12:bframes=3"}),
    "open.ts": ("libx264", "yuv420p", {"x264-params": "open-gop=1:keyint=12:bframes=3"}),
    "long.mkv": ("libx264", "yuv420p", {"g": "250"}),
    "mpeg.avi": ("mpeg4", "yuv420p", {"g": "12", "bf": "2"}),
    "jpeg.avi": ("mjpeg", "yuvj420p", {}),
    "raw.avi": ("rawvideo", "gray", {}),
    "lossless.mkv": ("ffv1", "gray", {}),
    "studio.mov": ("prores_ks", "yuv422p10le", {}),
    "web.webm": ("libvpx-vp9", "yuv420p", {"g": "20", "deadline": "realtime", "cpu-used": "8"}),
}


def encode(path, coding):
    codec, pixels, options = coding
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        for i, image in enumerate(FRAMES):
            frame = av.VideoFrame.from_ndarray(image, format="gray").reformat(format=pixels)
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def copy(source, path, change):
    """Copy the packets of a video, each as ``change`` makes it from its number and itself."""
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for i, packet in enumerate(p for p in read.demux(video=0) if p.size):
            if (changed := change(i, packet)) is not None:
                changed.stream = stream
                written.mux(changed)
    return path


def with_content(packet, content):
    other = av.Packet(content)
    other.pts, other.dts = packet.pts, packet.dts
    other.time_base, other.duration = packet.time_base, packet.duration
    other.is_keyframe = packet.is_keyframe
    return other


def read(path, numbers=None, damaged=None):
    info = probe_video(path)
    numbers = range(info.n_frames) if numbers is None else numbers
    found = iterate_frames(info, VIEW, numbers, [] if damaged is None else damaged)
    return np.stack(list(found))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def jpeg(folder) -> Path:
    return encode(folder / "camera.avi", CODINGS["jpeg.avi"])


@pytest.mark.parametrize("name", CODINGS)
def test_reading_may_begin_at_any_frame(folder, name):
    path = encode(folder / name, CODINGS[name])
    whole = read(path)
    assert len(whole) == N
    assert abs(whole[:, 0].astype(float) - FRAMES).mean() < 8
    for start in [*range(1, N - 12, 7), *range(N - 12, N)]:
        np.testing.assert_array_equal(read(path, range(start, N)), whole[start:], str(start))


@pytest.mark.parametrize("suffix", ["avi", "mp4", "mkv"])
def test_frames_that_the_camera_dropped_are_no_break(folder, jpeg, suffix):
    gone = [20, 21, 40, 70]
    path = copy(jpeg, folder / f"gaps.{suffix}", lambda i, p: None if i in gone else p)
    kept = np.delete(np.arange(N), gone)
    info = probe_video(path)
    assert (info.n_frames, info.n_declared, info.n_uneven) == (len(kept), len(kept), 3)
    assert info.steps.tolist() == kept.tolist()
    np.testing.assert_array_equal(read(path), read(jpeg)[kept])
    for rows in (kept, np.arange(N)):  # trackers that count frames, and that fill gaps
        source = Source(path, write_csv(folder / "pose.csv", CENTRES[rows]))
        plan = plan_import(ImportRequest((source,), size=(WIDTH, HEIGHT)))
        np.testing.assert_allclose(plan.arrays["labels"], CENTRES[kept], atol=1e-3)
        assert any("dropped frames: 3 of 85 steps differ" in note for note in plan.notes)


def test_an_avi_that_breaks_off_is_still_told(folder, jpeg):
    path = folder / "cut.avi"
    path.write_bytes(jpeg.read_bytes()[: jpeg.stat().st_size // 2])
    info = probe_video(path)
    assert info.n_frames < N - 20
    assert info.n_declared == N
    with pytest.raises(DataError, match=rf"breaks off: it has {info.n_frames} of {N} frames"):
        plan_import(ImportRequest((Source(path),)))


@pytest.mark.parametrize("name", ["open.mp4", "open.ts", "long.mkv", "web.webm"])
def test_a_video_that_begins_between_key_frames_begins_with_the_first_whole_one(folder, name):
    codec, pixels, options = CODINGS[name]
    whole = encode(folder / f"whole_{name}", (codec, pixels, {**options, "g": "20"}))
    path = copy(whole, folder / f"cut_{name}", lambda i, p: p if i >= 7 else None)
    info = probe_video(path)
    assert 3 < info.n_before_key < 40
    assert N - 50 < info.n_frames == info.n_declared < N - 7
    found, expected = read(path), read(whole)[-info.n_frames :]
    assert abs(found.astype(float) - expected).mean() < 1
    np.testing.assert_array_equal(read(path, range(5, info.n_frames)), found[5:])
    source = Source(path, write_csv(folder / "pose.csv", CENTRES[-info.n_frames :]))
    plan = plan_import(ImportRequest((source,), size=(WIDTH, HEIGHT)))
    np.testing.assert_allclose(plan.arrays["labels"], CENTRES[-info.n_frames :], atol=1e-3)
    assert any("begins between key frames" in note for note in plan.notes)


TIFF = b"II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x0110, 2, 4, b"cam\0", 0)
EXIF = b"\xff\xe1" + struct.pack(">H", 8 + len(TIFF)) + b"Exif\0\0" + TIFF


@pytest.mark.parametrize("suffix", ["avi", "mov", "mkv"])
def test_pictures_with_exif_data_are_read(folder, jpeg, suffix):
    path = copy(
        jpeg,
        folder / f"exif.{suffix}",
        lambda i, p: with_content(p, bytes(p)[:2] + EXIF + bytes(p)[2:]),
    )
    assert probe_video(path).turn == 0
    np.testing.assert_array_equal(read(path), read(jpeg))


@pytest.mark.parametrize(
    "name", ["2026-11-27T12:30:00.avi", "file:x.avi", "%03d.avi", "a b;c.avi"]
)
def test_any_name_of_a_file_is_a_path(folder, jpeg, monkeypatch, name):
    monkeypatch.chdir(folder)
    os.link(jpeg, name)
    np.testing.assert_array_equal(read(Path(name), range(80, 90)), read(jpeg, range(80, 90)))


def spoil(numbers):
    return lambda i, p: with_content(p, b"\x11" * p.size) if i in numbers else p


@pytest.mark.parametrize("suffix", ["avi", "mkv"])
@pytest.mark.parametrize("numbers", [range(90), range(40, 90), range(1, 90, 2), range(50, 51)])
@pytest.mark.parametrize("bad", [[50], [0], [0, 1], [30, 31, 60]])
def test_behind_a_damaged_frame_reading_goes_on(folder, jpeg, suffix, numbers, bad):
    path = copy(jpeg, folder / f"bad.{suffix}", spoil(bad))
    damaged = []
    found = read(path, numbers, damaged)
    assert damaged == [i for i in numbers if i in bad]
    good = read(jpeg, numbers)
    for row, number in enumerate(numbers):
        if number not in bad:
            np.testing.assert_array_equal(found[row], good[row], str(number))
        elif row:
            np.testing.assert_array_equal(found[row], found[row - 1])


def test_damage_within_pictures_that_build_on_each_other_is_noted(folder):
    whole = encode(folder / "good.mp4", ("libx264", "yuv420p", {"g": "12"}))
    damaged = []
    found = read(copy(whole, folder / "bad.mp4", spoil([50])), None, damaged)
    assert len(damaged) == 1
    assert len(found) == N
    far = [i for i in range(N) if not 40 <= i < 72]
    np.testing.assert_array_equal(found[far], read(whole)[far])


@pytest.mark.parametrize("bad", [range(30, 45), range(0, 90, 5), range(60, 90)])
def test_a_video_of_many_damaged_frames_is_refused(folder, jpeg, bad):
    path = copy(jpeg, folder / "bad.avi", spoil(list(bad)))
    with pytest.raises(DataError, match=r"too many damaged frames|breaks off at frame 60"):
        read(path)


def test_an_import_masks_the_labels_of_damaged_frames(folder, jpeg, tmp_path):
    path = copy(jpeg, folder / "bad.avi", spoil([30, 31, 60]))
    source = Source(path, write_csv(tmp_path / "pose.csv", CENTRES))
    plan = plan_import(ImportRequest((source,), size=(WIDTH, HEIGHT)))

    def interrupt(n_done):
        if n_done > 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_session(plan, tmp_path / "s.h5", progress=interrupt)
    (note,) = import_session(plan, tmp_path / "s.h5")
    assert "damaged frames repeat the one before, and their labels are masked: 30, 31, 60" in note
    with h5py.File(tmp_path / "s.h5") as file:
        masks = np.concatenate([file["labels_masks"][n][()] for n in sorted(file["labels_masks"])])
        assert note in json.loads(file.attrs["notes"])
    assert np.flatnonzero(~masks.any(1)).tolist() == [30, 31, 60]
    assert masks.sum() == 2 * (N - 3)
