"""What a trial has once: whether labels have latents of their own, and where latents act."""

import numpy as np
import pytest
import torch

from psvae_tune.config.metric_catalog import METRICS
from psvae_tune.config.trial import parse_trial_config
from psvae_tune.metrics.label_prediction import leak_r2, predict_by_ridge
from psvae_tune.metrics.latent_dependence import latent_correlation
from psvae_tune.models.registry import build_model
from psvae_tune.training.batches import prepare_data
from psvae_tune.training.evaluate import evaluate
from psvae_tune.training.final_metrics import final_metrics
from tests.support.studies import ARCHITECTURE, make_session

CPU = torch.device("cpu")
MODELS = {
    "ae": {},
    "cond-ae": {},
    "cond-vae": {"vae.beta": 1},
    "ps-vae": {"ps_vae.alpha": 10, "ps_vae.beta": 1},
    "msps-vae": {"ps_vae.alpha": 10, "ps_vae.beta": 1, "ps_vae.delta": 1, "n_background": 1},
}


def build(name, n_latents=6, n_sessions=1, **model):
    raw = {"model_class": name, "n_ae_latents": n_latents, "ae_arch_json": ARCHITECTURE}
    config = parse_trial_config({"model": raw | MODELS[name] | model}, "test")
    data = prepare_data([make_session(seed) for seed in range(n_sessions)], config)
    model = build_model(config.model, data.shape).eval()
    if model.is_variational:
        model.net.logvar.bias.data.fill_(-4.0)  # latents of an untrained model are not active
    return model, data


def collapse(model):
    """Shrink what the latents say of a frame until their KL is about 5e-7."""
    model.net.mean.weight.data *= 1e-3
    model.net.mean.bias.data *= 1e-3
    model.net.logvar.weight.data.zero_()
    model.net.logvar.bias.data.zero_()
    return model


@pytest.mark.parametrize("name", MODELS)
def test_every_end_metric_that_a_model_has_is_there(name):
    model, data = build(name, n_sessions=2)
    found = final_metrics(model, data, CPU)
    offered = {"recorded_labels", "sessions"} | model.config.capabilities
    for key, metric in METRICS.items():
        if metric.is_at_end:
            for split in ("val", "test"):
                assert (f"{split}/{key}" in found) == (metric.requires <= offered), key
                assert f"{split}/{key}" not in evaluate(model, data, split, CPU).metrics
    for split in ("val", "test"):
        assert 0 <= found[f"{split}/traversal_overlap"] <= 1
        assert 0 <= found[f"{split}/traversal_concentration"] <= 1


def test_a_single_latent_overlaps_with_none():
    found = final_metrics(*build("ps-vae", n_latents=3), CPU)
    assert "val/traversal_overlap" not in found
    assert "val/traversal_concentration" in found


def test_without_unsupervised_latents_nothing_is_traversed():
    found = final_metrics(*build("ps-vae", n_latents=2), CPU)
    assert not any("traversal" in key for key in found)


def test_collapsed_latents_are_not_measured():
    """Their tiny signal tells the labels, if it is scaled up."""
    model, data = build("msps-vae", n_sessions=2)
    found = final_metrics(collapse(model), data, CPU)
    seen = evaluate(model, data, "train", CPU)
    z = seen.mean[:, model.partition.unsupervised]
    assert latent_correlation(z) > 0.1
    labels_hat = predict_by_ridge(z, seen.targets.labels, z)
    assert leak_r2(seen.targets.labels, labels_hat) > 0.1
    assert found["val/active_units"] == 0
    dependence = ("latent_correlation", "gaussian_tc", "hsic", "traversal_overlap")
    assert not any(f"{split}/{name}" in found for split in ("val", "test") for name in dependence)
    for split in ("val", "test"):
        assert found[f"{split}/leak_r2"] == 0.0
        assert found[f"{split}/session_accuracy_u"] == 0.5


def test_metrics_that_choose_have_sampling_errors():
    model, data = build("msps-vae", n_sessions=2)
    found = final_metrics(model, data, CPU)
    assert found == final_metrics(model, data, CPU)
    chooses = {key for key in METRICS if f"val/{key}" in found}
    # The triplet loss compares the clips of a split with each other.
    assert {key for key in METRICS if f"val/{key}_error" in found} == chooses - {"triplet"}
    assert not any(key.startswith("test/") and key.endswith("_error") for key in found)
    seen = evaluate(model, data, "val", CPU)
    by_clip = seen.squared_error / seen.n_valid_pixels
    expected = by_clip.std(ddof=1) / np.sqrt(len(by_clip))
    # 25 resamples give the error to 14 %.
    assert found["val/frame_mse_error"] == pytest.approx(expected, rel=0.45)


def test_a_latent_that_is_active_in_some_resamples_alone_gives_no_error():
    """The KL of the second latent is just under 0.01, so a resample may have a pair."""
    model, data = build("cond-vae", n_latents=2)
    model.net.logvar.weight.data[1], model.net.logvar.bias.data[1] = 0.0, 0.0
    kl = 0.5 * (evaluate(model, data, "val", CPU).latents.mean[:, 1] ** 2).mean()
    model.net.mean.weight.data[1] *= (0.0095 / kl) ** 0.5
    model.net.mean.bias.data[1] *= (0.0095 / kl) ** 0.5
    found = final_metrics(model, data, CPU)
    assert found["val/active_units"] == 1
    assert found["val/active_units_error"] > 0
    for name in ("latent_correlation", "gaussian_tc", "hsic"):
        assert f"val/{name}" not in found
        assert f"val/{name}_error" not in found


def test_a_single_validation_clip_has_no_error_of_frames():
    found = final_metrics(*build("ps-vae"), CPU)
    assert "val/frame_mse" in found
    assert "val/frame_mse_error" not in found
    assert found["val/latent_correlation_error"] > 0  # it is taken over training clips as well


def test_latents_that_change_one_half_each_do_not_overlap():
    """The two unsupervised latents are wired to the left and the right half of the frame."""
    model, data = build("ae", n_latents=2)

    def decode(z, labels=None, session_index=None, like=None):
        halves = z[:, [0] * 6 + [1] * 6].abs()
        return halves[:, None, None, :].expand(-1, 1, 12, -1)

    model.decode = decode
    found = final_metrics(model, data, CPU)
    assert found["val/traversal_overlap"] == pytest.approx(0)
    # Each acts evenly on 72 of 144 pixels.
    expected = 1 - np.log(72) / np.log(144)
    assert found["val/traversal_concentration"] == pytest.approx(expected)
