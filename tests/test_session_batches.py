"""Batches of one and of several sessions."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from psvae_tune.batches import PreparedData, prepare_data
from psvae_tune.config import parse_trial_config
from psvae_tune.data.hdf5 import read_session, write_session

CPU = torch.device("cpu")


def make_config(n_sessions_per_batch: int = 2, **data):
    model = {
        "model_class": "msps-vae", "n_ae_latents": 5, "n_background": 1, "ps_vae.alpha": 1,
        "ps_vae.beta": 1, "ps_vae.delta": 1, "n_sessions_per_batch": n_sessions_per_batch,
    }  # fmt: skip
    return parse_trial_config({"model": model, "training": {}, "data": data}, "config")


def write(path: Path, clip_lengths: list[int], offset: float, masked: bool = False) -> None:
    rng = np.random.default_rng(int(offset))
    n_frames = sum(clip_lengths)
    frames = np.full((n_frames, 1, 4, 4), offset, np.uint8)
    masks = rng.random((n_frames, 2)) > 0.2
    write_session(
        path,
        frames,
        clip_lengths,
        label_names=("x", "y"),
        labels=offset + (1 + offset) * rng.standard_normal((n_frames, 2)).astype(np.float32),
        label_masks=masks if masked else None,
        frame_masks=(rng.random(frames.shape) > 0.2) if masked else None,
    )


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """Three sessions of unequal numbers of clips, of unequal lengths; one has masks."""
    folder = tmp_path_factory.mktemp("sessions")
    write(folder / "a.h5", [3] * 10, 1)
    write(folder / "b.h5", [4] * 20 + [2] * 10, 2, masked=True)
    write(folder / "c.h5", [5] * 20, 3)
    return [read_session(folder / f"{name}.h5", needs_labels=True) for name in "abc"]


@pytest.mark.parametrize("n_sessions_per_batch", [2, 3])
def test_every_training_clip_once_an_epoch(sessions, n_sessions_per_batch):
    data = prepare_data(sessions, make_config(n_sessions_per_batch))
    batches = data.training_batches(np.random.default_rng(0))
    seen = Counter(pair for batch in batches for pair in batch)
    assert seen == Counter(data.clips("train"))
    for batch in batches:
        assert len({session for session, _ in batch}) == len(batch) <= n_sessions_per_batch


def test_unequal_sessions_are_paired_while_they_can_be(sessions):
    data = prepare_data(sessions, make_config(2))
    # 8, 24 and 16 training clips: 24 pairs need every clip of the longest beside another.
    batches = data.training_batches(np.random.default_rng(0))
    assert [len(batch) for batch in batches] == [2] * 24
    together = prepare_data(sessions, make_config(3)).training_batches(np.random.default_rng(0))
    assert sorted(len(batch) for batch in together) == [1] * 8 + [2] * 8 + [3] * 8


def test_the_order_is_drawn(sessions):
    data = prepare_data(sessions, make_config())
    first, again, other = (data.training_batches(np.random.default_rng(s)) for s in (0, 0, 1))
    assert first == again != other


def test_a_batch_holds_clips_with_their_sessions_and_masks(sessions):
    data = prepare_data(sessions, make_config())
    batch = data.batch([(0, 0), (1, 25)], CPU)
    assert batch.frames.shape == (5, 1, 4, 4)
    assert batch.session_index.tolist() == [0, 0, 0, 1, 1]
    assert batch.frames.flatten(1).mean(1).tolist() == pytest.approx([1 / 255] * 3 + [2 / 255] * 2)
    assert batch.label_mask[:3].all()
    assert batch.frame_mask[:3].all()
    rows = sessions[1].clip(25)
    assert (batch.label_mask[3:].numpy() == sessions[1].label_masks[rows]).all()
    assert (batch.frame_mask[3:].numpy() == sessions[1].frame_masks[rows]).all()


def test_labels_are_standardised_session_by_session(sessions):
    data = prepare_data(sessions, make_config())
    for item in data.sessions:
        rows = np.concatenate([np.r_[item.session.clip(clip)] for clip in item.splits.train])
        valid = item.session.label_masks[rows]
        labels = np.where(valid, item.labels[rows], np.nan)
        np.testing.assert_allclose(np.nanmean(labels, axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(np.nanstd(labels, axis=0), 1, atol=1e-5)
        assert (item.labels[~item.session.label_masks] == 0).all()
    means = np.array(data.label_scaling["mean"])
    assert means.shape == (3, 2)
    assert np.ptp(means[:, 0]) > 0.5


def test_train_frac_above_one_is_the_same_number_in_every_session(sessions):
    raw = make_config().model_dump(mode="json", by_alias=True)
    raw["training"]["train_frac"] = 4
    data = prepare_data(sessions, parse_trial_config(raw, "config"))
    assert [len(item.splits.train) for item in data.sessions] == [4, 4, 4]


def test_one_session_has_no_session_index(sessions):
    data = PreparedData(prepare_data(sessions[:1], make_config()).sessions)
    assert data.batch([(0, 0)], CPU).session_index is None
    assert data.shape.n_sessions == 1
