from dataclasses import replace

import numpy as np
import pytest
import torch

from psvae_tune.config.trial import parse_trial_config
from psvae_tune.errors import ConfigError, DivergedError, StorageError
from psvae_tune.training.batches import prepare_data
from psvae_tune.training.checkpoint import dump_state, load_state
from psvae_tune.training.evaluate import evaluate
from psvae_tune.training.fit import best_model, fit, start
from psvae_tune.training.step import ramp
from tests.support.studies import ARCHITECTURE, make_config, make_session

CPU = torch.device("cpu")


def begin(model=None, training=None, session=None):
    config = make_config(model, training)
    data = prepare_data([session or make_session()], config)
    return start(config, data, CPU), data, config


def run(*args, **kwargs):
    state, data, config = begin(*args, **kwargs)
    return list(fit(state, data, config)), state


@pytest.mark.parametrize(
    ("epoch", "n_epochs", "expected"),
    [(1, 0, 1), (1, 4, 0.25), (3, 4, 0.75), (4, 4, 1), (5, 4, 1), (500, 4, 1), (1, 1, 1)],
)
def test_annealing_ends_at_the_weight_that_was_asked_for(epoch, n_epochs, expected):
    """B3."""
    assert ramp(epoch, n_epochs) == expected


def test_same_seed_same_numbers():
    first, _ = run()
    second, _ = run()
    assert [report.metrics for report in first] == [report.metrics for report in second]


@pytest.mark.parametrize(
    "changed", [{"training": {"rng_seed_train": 1}}, {"model": {"rng_seed_model": 1}}]
)
def test_another_seed_is_another_fit(changed):
    first, _ = run()
    second, _ = run(**changed)
    assert first[-1].metrics != second[-1].metrics


def test_micro_batches_give_the_numbers_of_the_whole_batch():
    """Design: terms over pairs of frames are of the whole batch."""
    training = {"max_n_epochs": 2, "precision": "float32"}
    whole, _ = run(training=training)
    parts, _ = run(training={**training, "micro_batch_size": 3})
    for one, other in zip(whole, parts, strict=True):
        assert other.metrics == pytest.approx(one.metrics, rel=1e-3, abs=1e-5)


def test_micro_batches_hold_the_activations_of_a_few_frames():
    held = {}
    for size in (None, 2):
        state, data, _ = begin(training={"micro_batch_size": size})
        batch = data.batch(data.clips("train")[:1], CPU)
        n_bytes = []

        def note(tensor, n_bytes=n_bytes):
            n_bytes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            state.model.train().terms(batch, 1.0, torch.Generator())
        held[size] = sum(n_bytes)
    assert held[2] < 0.6 * held[None]


def test_micro_batches_are_refused_with_batch_normalisation():
    model = {"ae_arch_json": {**ARCHITECTURE, "ae_batch_norm": True}}
    with pytest.raises(ConfigError, match=r"training\.micro_batch_size"):
        begin(model, {"micro_batch_size": 4})


@pytest.mark.parametrize("n_before", [1, 2, 5])
def test_a_resumed_fit_equals_an_uninterrupted_one(n_before):
    """B28."""
    training = {"max_n_epochs": 7}
    straight, final = run(training=training)
    state, data, config = begin(training=training)
    for report in fit(state, data, config):
        if report.epoch == n_before:
            break
    resumed, _, _ = begin(training=training)
    load_state(resumed, dump_state(state))
    rest = list(fit(resumed, data, config))
    assert [r.metrics for r in rest] == [r.metrics for r in straight[n_before:]]
    assert resumed.best.epoch == final.best.epoch
    assert resumed.best.metrics == final.best.metrics
    for name, value in final.best.weights.items():
        torch.testing.assert_close(value, resumed.best.weights[name], rtol=0, atol=0)


def test_a_fit_learns():
    reports, _ = run(training={"max_n_epochs": 40, "learning_rate": 0.01})
    assert reports[-1].metrics["val/label_r2"] > 0.9
    assert reports[-1].metrics["val/frame_mse"] < 0.5 * reports[0].metrics["val/frame_mse"]


def test_every_epoch_takes_a_step():
    """B16: the first epoch trains too."""
    state, data, config = begin(training={"max_n_epochs": 2})
    before = {name: value.clone() for name, value in state.model.named_parameters()}
    next(fit(state, data, config))
    after = dict(state.model.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_no_epoch_of_the_annealing_is_the_best():
    """B7: while its weights rise, an epoch cannot be compared with a later one."""
    reports, state = run(model={"ps_vae.anneal_epochs": 4}, training={"max_n_epochs": 6})
    assert next(report.epoch for report in reports if report.is_best) == 4
    assert state.best.epoch >= 4


def test_the_best_epoch_is_the_best_of_its_metric():
    reports, state = run(training={"max_n_epochs": 15, "best_epoch_metric": "val/label_r2"})
    later = {r.epoch: r.metrics["val/label_r2"] for r in reports if r.epoch >= 2}
    assert state.best.epoch == max(later, key=later.get)


def test_the_test_split_is_scored_with_the_best_model():
    """B4: not with the last one."""
    state, data, config = begin(training={"max_n_epochs": 12, "learning_rate": 0.02})
    reports = list(fit(state, data, config))
    best = evaluate(best_model(state), data, "val", CPU).metrics
    assert best == {
        key: value
        for key, value in reports[state.best.epoch - 1].metrics.items()
        if key.startswith("val/")
    }


def test_validation_neither_samples_nor_keeps_gradients():
    """B15."""
    state, data, _ = begin()
    first = evaluate(state.model, data, "val", CPU)
    second = evaluate(state.model, data, "val", CPU)
    assert first.metrics == second.metrics
    frames = torch.cat([batch.frames for batch in data.iterate("val", CPU)])
    error = (state.model.predict(frames).frames - frames).square().mean()
    assert first.metrics["val/frame_mse"] == pytest.approx(error.item(), rel=1e-5)
    n_pixels = frames[0].numel()
    nll = 0.5 * n_pixels * (error.item() + np.log(2 * np.pi))
    assert first.metrics["val/frames_nll"] == pytest.approx(nll, rel=1e-5)
    assert all(parameter.grad is None for parameter in state.model.parameters())


def test_validation_comes_when_asked_and_at_both_ends():
    reports, _ = run(
        model={"ps_vae.anneal_epochs": 4}, training={"max_n_epochs": 11, "val_check_interval": 3}
    )
    assert [r.epoch for r in reports if r.is_validated] == [3, 4, 6, 9, 11]
    assert all("train/loss" in report.metrics for report in reports)
    assert all(("val/loss" in r.metrics) == r.is_validated for r in reports)


def test_a_fit_that_no_longer_improves_ends():
    training = {
        "max_n_epochs": 60,
        "enable_early_stop": True,
        "early_stop_history": 2,
        "learning_rate": 0.05,
        "min_n_epochs": 5,
    }
    reports, state = run(training=training)
    assert 5 <= len(reports) < 60
    assert state.epoch - state.best.epoch >= 2


def test_a_loss_that_is_no_longer_finite_names_its_term_and_epoch():
    state, data, config = begin(training={"max_n_epochs": 30})
    epochs = fit(state, data, config)
    next(epochs)
    with torch.no_grad():
        state.model.readout.weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"`labels_nll` is no longer finite in epoch 2"):
        next(epochs)


def test_weights_that_explode_diverge():
    with pytest.raises(DivergedError, match="no longer finite"):
        run(training={"learning_rate": 1e30, "max_n_epochs": 30})


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04"])
def test_a_broken_checkpoint_is_refused(content):
    state, _, _ = begin()
    with pytest.raises(StorageError, match="cannot be continued from"):
        load_state(state, content)


def test_a_checkpoint_of_another_model_is_refused():
    state, data, config = begin()
    next(fit(state, data, config))
    other, _, _ = begin(model={"n_ae_latents": 5})
    with pytest.raises(StorageError, match="cannot be continued from"):
        load_state(other, dump_state(state))


@pytest.mark.parametrize("name", ["ae", "cond-ae-msp"])
def test_training_and_validation_errors_are_the_same_mean(name):
    """Over the valid entries of a split, however many of them each clip has."""
    rng = np.random.default_rng(0)
    session = make_session(lengths=(4, 30, 9, 17, 5, 12, 40, 8, 11, 6), masked=0.5)
    chance = np.repeat(rng.random(10), session.header.clip_lengths)
    frame_masks = rng.random(session.frames.shape) < chance[:, None, None, None]
    session.label_masks[rng.random(len(chance)) > chance] = False
    session = replace(session, frame_masks=frame_masks)
    # No step is taken, so that all batches meet the same model.
    training = {"max_n_epochs": 1, "learning_rate": 1e-30, "precision": "float32"}
    weights = {"msp.alpha": 0.1} if name == "cond-ae-msp" else {}
    config = parse_trial_config(
        {
            "model": {"model_class": name, "n_ae_latents": 4, "ae_arch_json": ARCHITECTURE}
            | weights,
            "training": training,
        },
        "test",
    )
    data = prepare_data([session], config)
    state = start(config, data, CPU)
    (report,) = fit(state, data, config)
    (item,) = data.sessions
    for split in ("train", "val"):
        rows = np.concatenate([np.r_[session.clip(clip)] for clip in item.splits[split]])
        said = state.model.predict(session.frames[rows] / 255)
        error = (session.frames[rows] / 255 - said.frames.numpy())[frame_masks[rows]]
        found = report.metrics[f"{split}/frame_mse"]
        assert found == pytest.approx(np.mean(error**2), rel=1e-5)
        if said.labels is not None:
            error = (item.labels[rows] - said.labels.numpy())[session.label_masks[rows]]
            found = report.metrics[f"{split}/label_mse"]
            assert found == pytest.approx(np.mean(error**2), rel=1e-5)


def test_the_masked_fraction_does_not_change_what_is_compared():
    """B10: a model that predicts each label's mean explains nothing, masked or not."""
    state, data, _ = begin(session=make_session(masked=0.3))
    with torch.no_grad():
        state.model.readout.weight.zero_()
        state.model.readout.bias.zero_()
    metrics = evaluate(state.model, data, "val", CPU).metrics
    assert metrics["val/label_r2"] < 0.1
    assert np.isfinite(metrics["val/loss"])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_both_precisions_learn_the_same(precision):
    """They are different fits of one identity each, and neither is worse than the other."""
    training = {"max_n_epochs": 12, "precision": precision}
    reports, state = run(training=training)
    again, _ = run(training=training)
    assert [report.metrics for report in reports] == [report.metrics for report in again]
    exact, _ = run(training={**training, "precision": "float32"})
    assert reports[-1].metrics["val/frame_mse"] == pytest.approx(
        exact[-1].metrics["val/frame_mse"], rel=0.1
    )
    weights = state.model.state_dict().values()
    assert {value.dtype for value in weights} == {torch.float32}


def test_the_precision_is_part_of_what_a_trial_is():
    names = {
        make_config(training={"precision": name}).trial_id(["x"])
        for name in ("auto", "float32", "bfloat16")
    }
    assert len(names) == 3


def test_an_epoch_that_lacks_the_metric_is_not_the_best():
    """A single unsupervised latent has no other one to correlate with."""
    config = make_config(
        model={"n_ae_latents": 3}, training={"best_epoch_metric": "val/latent_correlation"}
    )
    data = prepare_data([make_session()], config)
    state = start(config, data, CPU)
    assert [report.is_best for report in fit(state, data, config)] == [False] * 4
    assert state.best is None


@pytest.mark.parametrize(
    ("model", "terms"),
    [
        ({"model_class": "ps-vae", "ps_vae.alpha": 80}, ("labels_nll",)),
        ({"model_class": "cond-ae-msp", "msp.alpha": 80}, ("label_mse", "projection")),
    ],
)
def test_the_loss_of_an_epoch_has_the_weight_that_has_grown_so_far(model, terms):
    name = "msp.alpha" if "msp.alpha" in model else "ps_vae.alpha"
    growth = {f"{name}_start": 5, f"{name}_anneal_epochs": 4}
    reports, state = run(model={**model, **growth}, training={"max_n_epochs": 6})
    for report in reports:
        weight = 80 * (5 / 80) ** (1 - min(1, report.epoch / 4))
        others = sum(
            value
            for key, value in report.metrics.items()
            if key in ("train/frame_mse", "train/frames_nll", "train/supervised_kl")
        )
        ramped = {"icmi": 1, "tc": state.model.config.beta, "dwkl": 1} if name[:2] == "ps" else {}
        factor = min(1, report.epoch / (state.model.config.kl_anneal_epochs or 1))
        others += sum(factor * w * report.metrics[f"train/{key}"] for key, w in ramped.items())
        grown = weight * sum(report.metrics[f"train/{term}"] for term in terms)
        assert report.metrics["train/loss"] == pytest.approx(others + grown, rel=1e-4)
    assert state.best.epoch >= 4


def test_growth_over_no_distance_changes_nothing():
    model = {"ps_vae.alpha_start": 20, "ps_vae.alpha_anneal_epochs": 3, "ps_vae.alpha": 20}
    training = {"max_n_epochs": 4}
    plain, _ = run(model={"ps_vae.alpha": 20}, training=training)
    grown, _ = run(model=model, training=training)
    assert [report.metrics for report in plain] == [report.metrics for report in grown]
