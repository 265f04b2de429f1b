"""Weights that grow from a start: their sizes, what is refused, and what else depends on them."""

import numpy as np
import pytest

from psvae_tune.config.stage_settings import max_anneal_epochs
from psvae_tune.config.study import parse_study
from psvae_tune.config.trial import with_fewer_epochs
from psvae_tune.config.warm_up import WarmUp
from psvae_tune.errors import ConfigError
from tests.support.studies import make_config

MODELS = {
    "ps_vae.alpha": {"model_class": "ps-vae", "ps_vae.alpha": 1000, "ps_vae.beta": 1},
    "msp.alpha": {"model_class": "cond-ae-msp", "msp.alpha": 1000},
    "ps_vae.delta": {
        "model_class": "msps-vae",
        "ps_vae.alpha": 5,
        "ps_vae.beta": 1,
        "ps_vae.delta": 1000,
        "n_background": 1,
        "n_ae_latents": 5,
    },
}
"""A model for each weight that may grow."""


def warmed(name, start=10, n_epochs=4, **training):
    model = {**MODELS[name], f"{name}_start": start, f"{name}_anneal_epochs": n_epochs}
    return make_config(model=model, training={"max_n_epochs": 8, **training})


def test_a_weight_grows_by_the_same_factor_in_every_epoch_and_ends_at_its_value():
    item = WarmUp("ps_vae.alpha", ("labels_nll",), weight=1000, start=10, n_epochs=5)
    weights = np.array([10, *(1000 * item.factor(epoch) for epoch in range(1, 6))])
    assert weights[1:] / weights[:-1] == pytest.approx([100 ** (1 / 5)] * 5)
    assert item.factor(5) == item.factor(6) == 1
    assert WarmUp("ps_vae.alpha", (), weight=0, start=None, n_epochs=0).factor(1) == 1


@pytest.mark.parametrize("name", MODELS)
def test_what_cannot_grow_is_refused_before_training(name):
    with pytest.raises(
        ConfigError, match=rf"{name}_start: must be at most {name} \(1000\), got 2"
    ):
        warmed(name, start=2000)
    with pytest.raises(ConfigError, match=f"{name}_start: needs {name}_anneal_epochs"):
        warmed(name, n_epochs=0)
    with pytest.raises(ConfigError, match=f"{name}_anneal_epochs: needs {name}_start"):
        warmed(name, start=None)
    with pytest.raises(ConfigError, match="max_n_epochs: must be at least the 9 epochs"):
        warmed(name, n_epochs=9)
    for start in (0, -1, float("nan"), float("inf"), "ten"):
        with pytest.raises(ConfigError, match=f"{name}_start"):
            warmed(name, start=start)


@pytest.mark.parametrize("name", MODELS)
def test_a_trial_without_growth_is_what_it_was_and_one_with_it_another(name):
    plain = make_config(model=MODELS[name], training={"max_n_epochs": 8})
    settings = [f"{name}_start", f"{name}_anneal_epochs"]
    assert plain.trial_id(["x"]) == plain.trial_id(["x"], but=settings)
    ids = {
        config.trial_id(["x"])
        for config in (plain, warmed(name), warmed(name, start=20), warmed(name, n_epochs=5))
    }
    assert len(ids) == 4


@pytest.mark.parametrize("name", MODELS)
def test_shorter_schedules_and_rungs_wait_for_the_growth(name):
    config = warmed(name, n_epochs=6)
    assert config.model.n_anneal_epochs == 6
    assert with_fewer_epochs(config, 2).model.n_anneal_epochs == 3
    raw = {
        "experiment_name": "warm",
        "data": {"sessions": ["demo"] * (2 if name == "ps_vae.delta" else 1)},
        "model": {"n_ae_latents": 8, **MODELS[name], f"{name}_start": 10},
        "training": {"max_n_epochs": 200},
        "search": {
            "space": {f"{name}_anneal_epochs": {"grid_search": [110, 150]}},
            "objectives": {"val/frame_mse": "min"},
        },
    }
    raw["model"][f"{name}_anneal_epochs"] = 20
    study = parse_study(raw, "warm", n_labels=4)
    assert max_anneal_epochs(study.stages[0], study.base) == 150


def test_a_value_that_a_start_does_not_go_with_is_named_with_the_start():
    raw = {
        "experiment_name": "warm",
        "data": {"sessions": ["demo"]},
        "model": {
            "n_ae_latents": 6,
            **MODELS["ps_vae.alpha"],
            "ps_vae.alpha_start": 20,
            "ps_vae.alpha_anneal_epochs": 5,
        },
        "training": {"max_n_epochs": 200},
        "search": {
            "space": {"ps_vae.alpha": {"grid_search": [100, 10]}},
            "objectives": {"val/frame_mse": "min"},
        },
    }
    with pytest.raises(ConfigError, match=r"alpha_start: must be at most ps_vae.alpha \(10\)"):
        parse_study(raw, "warm", n_labels=4)
