"""A few frames of many clips: evenly taken, the same from memory and from a file."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from psvae_tune.data import frame_sample
from psvae_tune.data.frame_sample import sample_files, sample_sessions
from psvae_tune.data.session_file import read_session, write_session
from psvae_tune.data.session_header import read_header
from psvae_tune.errors import DataError
from tests.support.studies import make_session


def write(path, session, **more):
    header = session.header
    write_session(
        path,
        session.frames,
        header.clip_lengths,
        label_names=header.label_names,
        labels=session.labels,
        label_masks=session.label_masks,
        **more,
    )
    return path


def test_small_recordings_are_taken_whole():
    session = make_session(masked=0.2)
    sample = sample_sessions([session], [range(10)])
    assert (sample.frames == session.frames).all()
    assert (sample.labels == session.labels).all()
    assert (sample.label_mask == session.label_masks).all()
    assert (np.bincount(sample.clips) == 12).all()


def test_large_ones_are_taken_evenly(monkeypatch):
    monkeypatch.setattr(frame_sample, "MAX_FRAMES", 60)
    session = make_session(lengths=(30,) * 10 + (4,))
    sample = sample_sessions([session], [range(11)])
    assert len(sample.frames) <= 60
    counts = np.bincount(sample.clips)
    assert (counts[:10] == 5).all()
    assert counts[10] == 4
    rows = np.add.outer(30 * np.arange(10), [0, 7, 14, 21, 29]).ravel()
    assert (sample.frames[:50] == session.frames[rows]).all()
    monkeypatch.setattr(frame_sample, "MAX_CLIPS", 3)
    assert set(sample_sessions([session], [range(11)]).clips) == {0, 5, 10}


def test_only_the_clips_that_are_asked_for_are_read():
    sample = sample_sessions([make_session()], [[1, 4]])
    assert set(sample.clips) == {1, 4}


def test_a_file_gives_what_a_session_gives(tmp_path):
    masks = np.random.default_rng(0).random((120, 1, 12, 12)) > 0.3
    path = write(tmp_path / "a.h5", make_session(masked=0.2), frame_masks=masks)
    session = read_session(path, needs_labels=True)
    samples = [
        sample_files([read_header(path, needs_labels=True)], [range(10)]),
        sample_sessions([session], [range(10)]),
    ]
    for name in ("frames", "clips", "label_mask", "frame_mask"):
        first, second = (getattr(sample, name) for sample in samples)
        np.testing.assert_array_equal(first, second)
    first, second = (np.where(item.label_mask, item.labels, 0) for item in samples)
    np.testing.assert_array_equal(first, second)


def test_sessions_lie_one_after_the_other_in_one_unit():
    first, second = make_session(0), make_session(1)
    floats = replace(second, frames=(second.frames / 255).astype(np.float32))
    sample = sample_sessions([first, floats], [range(10), range(3)])
    assert len(set(sample.clips)) == 13
    assert sample.frames.max() <= 1
    np.testing.assert_allclose(sample.frames[120:], floats.frames[:36])
    assert (sample.session_index == np.repeat([0, 1], [120, 36])).all()
    masked = replace(first, frame_masks=np.zeros(first.frames.shape, bool))
    hidden = sample_sessions([masked, second], [range(10), range(10)]).frame_mask
    assert not hidden[:120].any()
    assert hidden[120:].all()


def test_pixels_that_are_no_numbers_are_one_error(tmp_path):
    session = make_session()
    path = write(tmp_path / "a.h5", replace(session, frames=session.frames / np.float32(255)))
    with h5py.File(path, "a") as file:
        file["images/trial_0003"][2, 0, 1, 1] = np.nan
    with pytest.raises(DataError, match="clip `trial_0003` must have pixels in"):
        sample_files([read_header(path, needs_labels=True)], [range(10)])
