from collections import Counter

import numpy as np
import pytest
import torch

from psvae_tune.errors import DataError
from psvae_tune.training.batches import cache_on_device, device_cache_bytes, prepare_data
from tests.support.studies import make_config, make_session

CPU = torch.device("cpu")


def prepare(sessions, **sections):
    return prepare_data(sessions, make_config(**sections))


def test_a_batch_is_a_clip_in_unit_range_with_scaled_labels():
    session = make_session()
    data = prepare([session])
    batch = data.batch([(0, 3)], CPU)
    frames = session.frames[36:48]
    torch.testing.assert_close(batch.frames, torch.tensor(frames / 255, dtype=torch.float32))
    item = data.sessions[0]
    train = np.concatenate([session.labels[session.clip(clip)] for clip in item.splits.train])
    expected = (session.labels[36:48] - train.mean(0)) / train.std(0)
    np.testing.assert_allclose(batch.labels, expected, rtol=1e-4, atol=1e-5)
    assert batch.label_mask is None
    assert batch.session_index is None


def test_shared_memory_may_be_read_only():
    session = make_session()
    for array in (session.frames, session.labels, session.label_masks):
        array.flags.writeable = False
    batch = prepare([session]).batch([(0, 0)], CPU)
    batch.frames.zero_()
    assert session.frames.any()


def test_recordings_that_stay_on_a_device_make_the_same_batches_of_their_own():
    data = prepare([make_session(0), make_session(1, masked=0.3)])
    n_bytes = 2 * 120 * 12 * 12
    assert cache_on_device(data, CPU, n_bytes - 1) is data
    assert cache_on_device(data, CPU, device_cache_bytes(CPU)) is data
    kept = cache_on_device(data, CPU, n_bytes)
    for clips in ([(0, 0)], [(1, 9)], [(0, 3), (1, 4)]):
        one, two = data.batch(clips, CPU), kept.batch(clips, CPU)
        for name in one.__slots__:
            expected, found = getattr(one, name), getattr(two, name)
            assert found is expected is None or found.equal(expected), name
            if found is not None:
                found.zero_()
        assert kept.batch(clips, CPU).frames.equal(one.frames)


def test_recordings_stay_where_they_are_if_the_device_is_full(monkeypatch):
    def refuse(*arguments, **settings):
        raise torch.OutOfMemoryError

    data = prepare([make_session()])
    monkeypatch.setattr(torch, "empty", refuse)
    assert cache_on_device(data, CPU, 10**9) is data


def test_what_stands_under_a_mask_does_not_matter():
    """Masked entries neither move the statistics nor reach a model as outliers."""
    session = make_session(masked=0.2)
    data = prepare([session])
    session.labels[~session.label_masks] = 1e6
    other = prepare([session])
    for clip in range(10):
        one, two = data.batch([(0, clip)], CPU), other.batch([(0, clip)], CPU)
        torch.testing.assert_close(one.labels, two.labels)
        assert one.labels[one.label_mask == 0].eq(0).all()


def test_an_epoch_holds_every_training_clip_once():
    data = prepare([make_session(lengths=(5,) * 23)])
    batches = data.training_batches(np.random.default_rng(0))
    assert sorted(clip for batch in batches for clip in batch) == data.clips("train")
    again = data.training_batches(np.random.default_rng(0))
    assert batches == again
    assert batches != data.training_batches(np.random.default_rng(1))


@pytest.mark.parametrize("counts", [(10, 10), (10, 30), (10, 20, 40)])
def test_batches_of_several_sessions_lose_no_clip(counts):
    """B23: with sessions of unequal numbers of clips none is skipped and nothing spins."""
    sessions = [make_session(seed, (5 + seed,) * n) for seed, n in enumerate(counts)]
    model = {"model_class": "msps-vae", "ps_vae.delta": 1, "n_background": 1, "n_ae_latents": 5}
    data = prepare(sessions, model=model)
    batches = data.training_batches(np.random.default_rng(0))
    flat = [clip for batch in batches for clip in batch]
    assert sorted(flat) == data.clips("train")
    for batch in batches:
        assert len({session for session, _ in batch}) == len(batch)
    n_mixed = sum(len(batch) == 2 for batch in batches)
    per_session = Counter(session for session, _ in flat)
    most = max(per_session.values())
    assert n_mixed == min(len(flat) // 2, len(flat) - most)


def test_a_session_without_masks_is_valid_beside_one_with():
    sessions = [make_session(0), make_session(1, masked=0.3)]
    batch = prepare(sessions).batch([(0, 0), (1, 0)], CPU)
    assert batch.label_mask[:12].eq(1).all()
    assert batch.label_mask[12:].eq(0).any()
    assert batch.session_index.tolist() == [0] * 12 + [1] * 12


def test_labels_are_scaled_by_session():
    sessions = [make_session(0), make_session(1)]
    sessions[1].labels[:] *= 100
    data = prepare(sessions)
    for item in data.sessions:
        train = np.concatenate([item.labels[item.session.clip(c)] for c in item.splits.train])
        np.testing.assert_allclose(train.std(0), 1, rtol=1e-4)


def test_statistics_go_with_the_model():
    data = prepare([make_session(), make_session(1)])
    assert data.label_scaler.mean.shape == (2, 2)
    scaler = prepare([make_session()], data={"label_scaling": "none"}).label_scaler
    assert scaler.to_dict() == {
        "mean": [[0, 0]],
        "std": [[1, 1]],
    }


def test_the_fraction_of_training_clips():
    data = prepare([make_session(lengths=(5,) * 40)], training={"train_frac": 0.5})
    assert len(data.clips("train")) == 16
    assert len(data.clips("val")) == 4


def test_too_few_clips():
    with pytest.raises(DataError, match="10"):
        prepare([make_session(lengths=(5,) * 9)])


def test_a_number_of_training_clips_is_taken_from_every_session():
    """B24: the second session gets the number asked for, not what the first made of it."""
    sessions = [make_session(0, (5,) * 10), make_session(1, (5,) * 30)]
    data = prepare(sessions, training={"train_frac": 4})
    assert [len(item.splits.train) for item in data.sessions] == [4, 4]
