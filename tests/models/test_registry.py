from dataclasses import replace
from typing import Any

import pytest

from psvae_tune.config.metric_catalog import METRICS
from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.errors import ConfigError
from psvae_tune.models.batch import DataShape
from psvae_tune.models.registry import MODELS, build_model
from tests.support.small_models import SHAPE, make_batch, make_config


def test_every_model_has_settings_and_every_settings_a_model() -> None:
    assert MODELS.keys() == MODEL_CONFIGS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_settings_and_model_agree_on_what_there_is(name: str) -> None:
    model = build_model(make_config(name), SHAPE)
    capabilities = model.config.capabilities
    assert ("posterior" in capabilities) == model.is_variational
    assert ("background" in capabilities) == (model.partition.n_background > 0)
    assert model.partition.n_latents == 8
    assert model.partition.n_supervised == model.config.count_supervised(SHAPE.n_labels)


@pytest.mark.parametrize("name", MODELS)
def test_every_term_is_a_metric_that_the_model_may_be_asked_for(name: str) -> None:
    model = build_model(make_config(name), SHAPE)
    offered = {
        metric
        for metric, meaning in METRICS.items()
        if meaning.requires <= model.config.capabilities
    }
    assert model.terms(make_batch(), 1.0, None).terms.keys() <= offered


MISFITS: dict[str, tuple[dict[str, Any], DataShape, str]] = {
    "more labels than latents": (
        {"model_class": "ps-vae", "n_ae_latents": 3},
        SHAPE,
        "n_ae_latents must be at least that of 4 labels, got 3",
    ),
    "more labels than latents, msp": (
        {"model_class": "cond-ae-msp", "n_ae_latents": 3},
        SHAPE,
        "n_ae_latents must be at least that of 4 labels, got 3",
    ),
    "no room for the background": (
        {"model_class": "msps-vae", "n_ae_latents": 5},
        SHAPE,
        "at least that of 4 labels and n_background 2, got 5",
    ),
    "no labels": ({"model_class": "ps-vae"}, replace(SHAPE, n_labels=0), "needs labels"),
    "half a point": (
        {"model_class": "cond-ae", "conditional_encoder": True},
        replace(SHAPE, n_labels=3),
        "got an odd number of labels (3)",
    ),
    "one session": (
        {"model_class": "msps-vae"},
        replace(SHAPE, n_sessions=1),
        "needs at least 2 sessions, got 1",
    ),
    "too few sessions": (
        {"model_class": "msps-vae", "n_sessions_per_batch": 3},
        SHAPE,
        "n_sessions_per_batch must be at most the 2 sessions there are, got 3",
    ),
    "linear session layers": (
        {"model_class": "ae", "model_type": "linear", "fit_sess_io_layers": True},
        SHAPE,
        "fit_sess_io_layers needs convolutions",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_settings_that_do_not_fit_the_data_are_one_clear_error(name: str) -> None:
    settings, shape, message = MISFITS[name]
    with pytest.raises(ConfigError) as caught:
        build_model(make_config(**settings), shape)
    assert message in str(caught.value)


def test_all_misfits_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match="2 problems"):
        build_model(make_config("msps-vae", n_ae_latents=5), replace(SHAPE, n_sessions=1))
