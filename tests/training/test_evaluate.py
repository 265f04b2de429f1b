"""Metrics of whole splits: of every model, under masks, and session by session."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.config.trial import parse_trial_config
from psvae_tune.data.demo import demo_path, write_demo
from psvae_tune.data.session_file import read_session
from psvae_tune.metrics.label_prediction import label_mse, label_r2
from psvae_tune.metrics.latent_dependence import (
    find_active,
    gaussian_tc,
    hsic,
    latent_correlation,
)
from psvae_tune.models.encoding import encode
from psvae_tune.models.losses import LOG_2PI, triplet_loss
from psvae_tune.models.model import Model
from psvae_tune.models.registry import build_model
from psvae_tune.training.batches import PreparedData, prepare_data
from psvae_tune.training.evaluate import Evaluation, evaluate
from psvae_tune.training.final_metrics import final_metrics
from psvae_tune.training.unsupervised_latents import (
    LATENT_STEP,
    N_LATENT_CLIPS,
    UnsupervisedLatents,
    pick_clips_beside,
    score_latents,
)
from tests.support.demo_truth import read_truth

CPU = torch.device("cpu")
N_LABELS = 4
SETTINGS = {
    "n_ae_latents": 8, "conditional_encoder": True, "msp.alpha": 1, "beta_tcvae.beta": 1,
    "ps_vae.alpha": 1, "ps_vae.beta": 1, "ps_vae.delta": 3, "n_background": 2,
    "ae_arch_json": {
        "ae_encoding_n_channels": [2, 4],
        "ae_encoding_kernel_size": [3, 3],
        "ae_encoding_stride_size": [2, 4],
    },
}  # fmt: skip


def make_config(name: str):
    known = {field.alias or key for key, field in MODEL_CONFIGS[name].model_fields.items()}
    settings = {key: value for key, value in SETTINGS.items() if key in known}
    if not name.startswith("cond-") or name.endswith("msp"):
        settings.pop("conditional_encoder", None)
    return parse_trial_config({"model": {"model_class": name, **settings}}, "config")


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """Two recordings with label masks; the first has frame masks as well."""
    folder = tmp_path_factory.mktemp("sessions")
    found = []
    for seed in range(2):
        write_demo(
            folder / f"{seed}.h5", seed=seed, n_clips=10 + 2 * seed, clip_length=10, size=16
        )
        found.append(read_session(folder / f"{seed}.h5", needs_labels=True))
    rng = np.random.default_rng(0)
    masks = [rng.random(item.labels.shape) > 0.25 for item in found]
    found = [replace(item, label_masks=mask) for item, mask in zip(found, masks, strict=True)]
    frame_masks = rng.random(found[0].frames.shape) > 0.25
    return [replace(found[0], frame_masks=frame_masks), found[1]]


@pytest.fixture(scope="module")
def demo():
    """The movements of the parts of the demo that no tracker follows, and its session."""
    return read_truth(demo_path())[1], read_session(demo_path(), needs_labels=True)


def build(name: str, sessions) -> tuple[Model, PreparedData]:
    config = make_config(name)
    data = prepare_data(sessions, config)
    model = build_model(config.model, data.shape)
    with torch.no_grad():  # far from the start, where some terms vanish
        for index, parameter in enumerate(model.parameters()):
            rng = torch.Generator().manual_seed(index)
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=rng))
    return model, data


@pytest.fixture(params=MODEL_CONFIGS)
def name(request) -> str:
    return str(request.param)


def predict(model: Model, data: PreparedData, split: str, index: int):
    """What a model says of the clips of one session, with the frames and their mask."""
    item = data.sessions[index]
    rows = np.concatenate([np.r_[item.session.clip(clip)] for clip in item.splits[split]])
    frames = (item.session.frames[rows] / 255).astype(np.float32)
    said = model.predict(frames, item.labels[rows], item.session.labels_sc[rows], index)
    masks = item.session.frame_masks
    valid = np.ones(frames.shape, bool) if masks is None else masks[rows]
    return said, (frames - said.frames.numpy())[valid], rows


def test_frame_mse_is_of_valid_pixels_pooled_and_by_session(name, sessions):
    model, data = build(name, sessions)
    found = evaluate(model, data, "val", CPU).metrics
    errors = [predict(model, data, "val", index)[1] for index in range(2)]
    for index, error in enumerate(errors):
        assert found[f"val/frame_mse/session_{index}"] == pytest.approx(
            np.mean(error**2), rel=1e-4
        )
    pooled = np.mean(np.concatenate(errors) ** 2)
    assert found["val/frame_mse"] == pytest.approx(pooled, rel=1e-4)


def test_labels_are_scored_where_they_are_valid_pooled_and_by_session(name, sessions):
    model, data = build(name, sessions)
    found = evaluate(model, data, "val", CPU).metrics
    if "labels_hat" not in model.config.capabilities:
        assert not any("label" in key for key in found)
        return
    said = []
    for index, item in enumerate(data.sessions):
        prediction, _, rows = predict(model, data, "val", index)
        given = item.labels[rows], prediction.labels.numpy(), item.session.label_masks[rows]
        said.append(given)
        r2 = label_r2(*given)
        assert found[f"val/label_r2/session_{index}"] == pytest.approx(r2.mean, rel=1e-4)
        error = (given[0] - given[1])[given[2]]
        assert found[f"val/label_mse/session_{index}"] == pytest.approx(
            np.mean(error**2), rel=1e-4
        )
    together = [np.concatenate(parts) for parts in zip(*said, strict=True)]
    assert found["val/label_r2"] == pytest.approx(label_r2(*together).mean, rel=1e-4)
    assert found["val/label_mse"] == pytest.approx(label_mse(*together), rel=1e-4)


def test_nothing_depends_on_masked_labels(name, sessions):
    model, data = build(name, sessions)
    spoilt = [
        replace(
            item,
            labels=np.where(item.label_masks, item.labels, 1e6).astype(np.float32),
        )
        for item in sessions
    ]
    _, other = build(name, spoilt)
    found = final_metrics(model, data, CPU)
    assert found == final_metrics(model, other, CPU)
    without = [replace(item, label_masks=np.ones_like(item.label_masks)) for item in spoilt]
    unmasked = final_metrics(model, build(name, without)[1], CPU)
    touched = {key for key, value in found.items() if unmasked[key] != value}
    assert {"val/leak_r2", "test/leak_r2"} & touched
    if "labels_hat" in model.config.capabilities:
        per_label = {f"test/label_r2/{label}" for label in data.label_names}
        assert {"val/label_r2", "val/label_mse", *per_label} <= touched
    if "labels_nll" in found:
        assert "val/labels_nll" in touched


def test_likelihoods_count_valid_entries_for_all(sessions):
    model, data = build("ps-vae", sessions[:1])
    model.net.logvar.weight.data.zero_()
    model.net.logvar.bias.data.fill_(-60.0)  # draws are the means
    found = evaluate(model, data, "val", CPU).metrics
    n_pixels = data.shape.height * data.shape.width
    # One validation clip, so the mean over clips is that of the clip.
    expected = 0.5 * n_pixels * (found["val/frame_mse"] + LOG_2PI)
    assert found["val/frames_nll"] == pytest.approx(expected, rel=1e-5)
    expected = 0.5 * N_LABELS * (found["val/label_mse"] + LOG_2PI)
    assert found["val/labels_nll"] == pytest.approx(expected, rel=1e-5)


def test_label_masks_count_where_another_session_has_none(sessions):
    plain = sessions[0].header
    without = replace(sessions[0], header=replace(plain, has_label_masks=False))
    model, data = build("msps-vae", [without, sessions[1]])
    seen: Evaluation = evaluate(model, data, "val", CPU)
    second = seen.targets.session_index == 1
    item = data.sessions[1]
    rows = np.concatenate([np.r_[item.session.clip(clip)] for clip in item.splits.val])
    assert (seen.targets.label_mask[second] == item.session.label_masks[rows]).all()
    assert (seen.targets.label_mask[~second] == 1).all()


def test_triplet_loss_compares_sessions_although_clips_come_one_by_one(sessions):
    model, data = build("msps-vae", sessions)
    seen = evaluate(model, data, "val", CPU)
    rng = torch.Generator().manual_seed(0)
    background = torch.from_numpy(seen.mean[:, model.partition.background])
    expected = triplet_loss(background, torch.from_numpy(seen.targets.session_index), rng)
    assert seen.metrics["val/triplet"] == pytest.approx(float(expected), rel=1e-5)
    assert expected > 0
    rows = model.terms(data.batch([(0, 0)], CPU), 1.0, None).terms
    weighted = sum(rows[term].weight * seen.metrics[f"val/{term}"] for term in rows)
    assert seen.metrics["val/loss"] == pytest.approx(weighted, rel=1e-5)


def test_latents_are_compared_over_the_split_and_training_clips(name, sessions):
    model, data = build(name, sessions)
    places = data.clips("val") + data.clips("train")  # fewer than `N_LATENT_CLIPS`
    means, logvars = [], []
    for index, clip in places:
        item = data.sessions[index]
        rows = item.session.clip(clip)
        frames = (item.session.frames[rows] / 255).astype(np.float32)
        said = model.predict(frames, item.labels[rows], item.session.labels_sc[rows], index)
        means.append(
            model.to_partition(said.mean.clone())[
                ::LATENT_STEP, model.partition.unsupervised
            ].detach()
        )
        if said.logvar is not None:
            logvars.append(said.logvar[::LATENT_STEP, model.partition.unsupervised])
    mean = torch.cat(means).numpy()
    found = evaluate(model, data, "val", CPU).metrics
    if logvars:
        is_active = find_active(mean, torch.cat(logvars).numpy())
        assert found["val/active_units"] == is_active.sum()
        mean = mean[:, is_active]
    assert found["val/latent_correlation"] == pytest.approx(latent_correlation(mean), rel=1e-4)
    assert found["val/gaussian_tc"] == pytest.approx(gaussian_tc(mean), rel=1e-3)


def test_a_collapsed_latent_is_compared_with_none():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(200, 3))
    mean[:, 2] = 1e-3 * mean[:, 0]  # a KL of 5e-7, a correlation of 1
    logvar = np.zeros((200, 3))
    logvar[:, :2] = -2

    def score(columns):
        return score_latents(UnsupervisedLatents(mean[:, columns], logvar[:, columns], (200,)))

    assert score([0, 1, 2]) == score([0, 1])
    assert score([0, 1])["latent_correlation"] < 0.2
    nothing = {"latent_correlation": None, "gaussian_tc": None, "active_units": 1}
    assert score([0, 2]) == nothing
    assert score([2]) == nothing | {"active_units": 0}


@pytest.mark.parametrize("seed", range(10))
def test_true_parts_of_the_demo_are_independent_whatever_the_split(seed, demo):
    """Over the two validation clips alone, the correlation is .008 to .26 by the seed."""
    truth, session = demo
    config = parse_trial_config(
        {"model": {"model_class": "ae", "n_ae_latents": 2}, "data": {"rng_seed_data": seed}}, ""
    )
    data = prepare_data([session], config)
    train = data.clips("train")
    beside = [train[i] for i in pick_clips_beside(data, "val")]
    clips = [clip for _, clip in data.clips("val") + beside]
    parts = [truth[session.clip(clip)][::LATENT_STEP] for clip in clips]
    latents = UnsupervisedLatents(np.concatenate(parts), None, tuple(map(len, parts)))
    found = score_latents(latents)
    assert found["latent_correlation"] < 0.1
    assert found["gaussian_tc"] < 0.005
    assert hsic(latents.active) < 0.005


def test_training_clips_beside_a_split_are_spread_and_counted(sessions):
    _, data = build("ae", sessions)
    assert len(pick_clips_beside(data, "train")) == 0
    for split in ("val", "test"):
        assert list(pick_clips_beside(data, split)) == list(range(len(data.clips("train"))))
    many = replace(data, sessions=data.sessions * 10)
    beside = pick_clips_beside(many, "val")
    assert len(beside) + len(many.clips("val")) == N_LATENT_CLIPS
    assert len(set(beside)) == len(beside)
    sessions_beside = [many.clips("train")[i][0] for i in beside]
    per_session = np.bincount(sessions_beside, minlength=20)
    assert per_session.min() >= 1
    assert np.ptp(per_session) <= 2


def test_training_frames_that_are_encoded_already_give_the_same(name, sessions):
    model, data = build(name, sessions)
    train = encode(model, data.iterate("train", CPU))
    for split in ("train", "val"):
        anew = evaluate(model, data, split, CPU).metrics
        assert evaluate(model, data, split, CPU, train).metrics == pytest.approx(anew, rel=1e-4)


def test_scoring_draws_no_gradients_and_changes_nothing(name, sessions):
    model, data = build(name, sessions)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    first, again = (evaluate(model, data, "val", CPU).metrics for _ in range(2))
    assert first == again
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
