"""Scores of what needs no network, against the same by other means."""

from dataclasses import replace

import numpy as np
import pytest

from psvae_tune.data.session_file import read_session, write_session
from psvae_tune.training.baselines import measure_baselines
from psvae_tune.training.batches import prepare_data
from tests.support.studies import make_config, make_session


def frames_of(session, config, split):
    """Return the pixels of a split, (frame, pixel), and their rows."""
    (item,) = prepare_data([session], config).sessions
    rows = np.concatenate([np.r_[session.clip(clip)] for clip in item.splits[split]])
    return session.frames[rows].reshape(len(rows), -1) / 255.0, rows


def test_frames_are_rebuilt_by_the_mean_and_the_components_of_training_frames():
    session, config = make_session(), make_config()
    (train, _), (val, _) = (frames_of(session, config, split) for split in ("train", "val"))
    found = measure_baselines([session], config)
    mean = train.mean(axis=0)
    assert found["mean_frame_mse"] == pytest.approx(((val - mean) ** 2).mean(), rel=1e-5)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2][: config.model.n_ae_latents]
    rebuilt = mean + (val - mean) @ axes.T @ axes
    assert found["pca_frame_mse"] == pytest.approx(((val - rebuilt) ** 2).mean(), rel=1e-3)
    assert found["n_unsupervised"] == 2


def test_labels_that_follow_from_pixels_are_read_and_others_are_not():
    session = make_session(lengths=(20,) * 20)
    rng = np.random.default_rng(0)
    session.labels[:, 1] = rng.random(len(session.labels))
    found = measure_baselines([session], make_config())
    assert found["ridge_label_r2/label_0"] > 0.8
    assert found["ridge_label_r2/label_1"] < 0.2
    mean = np.mean([found["ridge_label_r2/label_0"], found["ridge_label_r2/label_1"]])
    assert found["ridge_label_r2"] == pytest.approx(mean, abs=0.1)


def test_a_regression_on_labels_with_components_of_the_rest_beats_components_alone():
    """A scene in which labels drive what few components cannot catch."""
    rng = np.random.default_rng(0)
    session = make_session(lengths=(20,) * 20)
    patterns = np.linalg.qr(rng.standard_normal((144, 6)))[0].T
    labels = rng.standard_normal((400, 2)).astype(np.float32)
    hidden = rng.standard_normal((400, 1))
    factors = np.concatenate([labels, labels**2 - 1, hidden, 0 * hidden], axis=1)
    pixels = 0.5 + 0.1 * factors @ patterns
    session = replace(
        session,
        frames=pixels.clip(0, 1).astype(np.float32).reshape(400, 1, 12, 12),
        labels=labels,
        header=replace(session.header, has_float_frames=True),
    )
    found = measure_baselines([session], make_config(model={"n_ae_latents": 3}))
    assert found["n_unsupervised"] == 1
    assert found["residual_pca_frame_mse"] < 0.05 * found["pca_frame_mse"]
    fewer = measure_baselines([session], make_config(model={"n_ae_latents": 2}))
    assert fewer["residual_pca_frame_mse"] == pytest.approx(0.01 / 144, rel=0.3)


def test_masked_pixels_and_labels_do_not_count():
    session = make_session(masked=0.3, lengths=(20,) * 10)
    mask = np.random.default_rng(0).random(session.frames.shape) > 0.2
    masked = replace(
        session, frame_masks=mask, header=replace(session.header, has_frame_masks=True)
    )
    spoilt = replace(
        masked,
        frames=np.where(mask, session.frames, 255).astype(np.uint8),
        labels=np.where(session.label_masks, session.labels, 1e6).astype(np.float32),
    )
    config = make_config()
    found = measure_baselines([masked], config)
    assert measure_baselines([spoilt], config) == pytest.approx(found)
    (train, rows), (val, val_rows) = (frames_of(session, config, s) for s in ("train", "val"))
    seen, val_seen = (mask[r].reshape(len(r), -1) for r in (rows, val_rows))
    mean = (train * seen).sum(axis=0) / seen.sum(axis=0)
    error = ((val - mean) ** 2)[val_seen].mean()
    assert found["mean_frame_mse"] == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("name", ["ae", "vae", "cond-ae"])
def test_every_model_has_them_and_labels_help_where_they_are(name):
    config = make_config(model={"model_class": name, "n_ae_latents": 3})
    found = measure_baselines([make_session()], config)
    assert found["n_unsupervised"] == 3
    bare = replace(
        make_session(), labels=None, label_masks=None,
        header=replace(make_session().header, label_names=()),
    )  # fmt: skip
    if name != "cond-ae":
        assert set(measure_baselines([bare], config)) == {
            "mean_frame_mse",
            "n_unsupervised",
            "pca_frame_mse",
        }


def test_components_find_a_hidden_label_that_the_others_do_not_tell():
    """A scene in which the first label drives two patterns, and the second another one."""
    rng = np.random.default_rng(0)
    session = make_session(lengths=(20,) * 20)
    patterns = np.linalg.qr(rng.standard_normal((144, 3)))[0].T
    labels = rng.standard_normal((400, 2)).astype(np.float32)
    factors = np.stack([labels[:, 0], labels[:, 0] ** 2 - 1, labels[:, 1]], axis=1)
    frames = (0.5 + 0.1 * factors @ patterns).clip(0, 1).astype(np.float32)
    session = replace(
        session,
        frames=frames.reshape(400, 1, 12, 12),
        labels=labels,
        header=replace(session.header, has_float_frames=True),
    )
    config = make_config(model={"n_ae_latents": 3})
    found = measure_baselines([session], config, [["label_1"]])
    assert found["components_hidden_correlation"] > 0.99
    assert found["components_hidden_correlation/label_1"] > 0.99
    assert found["components_hidden_r2"] > 0.99
    assert found["components_hidden_gain"] > 0.9
    both = measure_baselines([session], config, [["label_1"], ["label_0"]])
    other = measure_baselines([session], config, [["label_0"]])
    for key, score in both.items():
        scores = [part[key] for part in (found, other) if key in part]
        assert score == pytest.approx(np.mean(scores))

    copied = replace(session, labels=np.stack([labels[:, 0], labels[:, 0] ** 2], axis=1))
    told = measure_baselines([copied], config, [["label_1"]])
    assert told["components_hidden_gain"] == pytest.approx(0, abs=0.05)


def test_labels_that_are_hidden_from_every_trial_are_not_regressed_on():
    session = make_session(lengths=(20,) * 20)
    hiding = make_config(data={"hidden_labels": ["label_1"]})
    first = replace(
        session,
        labels=session.labels[:, :1],
        label_masks=session.label_masks[:, :1],
        header=replace(session.header, label_names=("label_0",)),
    )
    found = measure_baselines([session], hiding, [["label_1"]])
    without = measure_baselines([first], make_config())
    assert without.items() <= found.items()
    assert {key for key in found if "hidden" in key} >= {"components_hidden_gain"}


def test_frames_that_tell_nothing_have_the_scores_that_there_are():
    session, config = make_session(), make_config()
    grey = replace(session, frames=np.full_like(session.frames, 90))
    found = measure_baselines([grey], config)
    assert found == {"n_unsupervised": 2, "mean_frame_mse": pytest.approx(0, abs=1e-12)}
    header = replace(session.header, has_frame_masks=True)
    hidden = replace(session, frame_masks=np.zeros(session.frames.shape, bool), header=header)
    assert measure_baselines([hidden], config) == {"n_unsupervised": 2}


def test_a_label_that_one_clip_alone_has_is_not_read():
    session = make_session(masked=0.1)
    config = make_config()
    (item,) = prepare_data([session], config).sessions
    first = session.clip(item.splits.train[0])
    session.label_masks[:, 1] = False
    session.label_masks[first, 1] = True
    found = measure_baselines([session], config)
    assert found["ridge_label_r2"] == pytest.approx(found["ridge_label_r2/label_0"])
    assert "ridge_label_r2/label_1" not in found


def test_labels_that_are_hidden_from_a_model_are_hidden_from_the_regressions():
    session = make_session()
    config = make_config(data={"hidden_labels": ["label_1"]})
    found = measure_baselines([session], config)
    assert found["n_unsupervised"] == 3
    assert "ridge_label_r2/label_0" in found
    assert "ridge_label_r2/label_1" not in found


def test_two_sessions_and_streamed_frames(tmp_path):
    paths = [tmp_path / f"{seed}.h5" for seed in range(2)]
    for seed, path in enumerate(paths):
        session = make_session(seed)
        names, lengths = session.header.label_names, session.header.clip_lengths
        write_session(path, session.frames, lengths, label_names=names, labels=session.labels)
    both = [read_session(path, needs_labels=True) for path in paths]
    streamed = [read_session(path, needs_labels=True, in_memory=False) for path in paths]
    config = make_config()
    found = measure_baselines(both, config)
    assert measure_baselines(streamed, config) == found
    assert found["ridge_label_r2"] > 0.5


def test_a_single_training_clip_has_no_regression():
    session = make_session(lengths=(12,) * 3)
    found = measure_baselines([session], make_config(data={"trial_splits": "1;1;1;0"}))
    assert "pca_frame_mse" in found
    assert "ridge_label_r2" not in found
