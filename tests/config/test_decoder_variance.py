"""The variance of the pixels: its values, its part in a trial's identity, and its ranges."""

import pytest

from psvae_tune.config.model import MODEL_CONFIGS, VariationalConfig
from psvae_tune.config.study import parse_study
from psvae_tune.errors import ConfigError
from psvae_tune.models.batch import DataShape
from psvae_tune.models.registry import build_model
from tests.support.small_models import WEIGHTS
from tests.support.studies import make_config

VARIATIONAL = [n for n, config in MODEL_CONFIGS.items() if issubclass(config, VariationalConfig)]


def vary(name="ps-vae", **settings):
    model = {"model_class": name, "n_ae_latents": 8, **WEIGHTS.get(name, {})}
    return make_config(model=model | settings)


def search(space, **model):
    raw = {
        "experiment_name": "variance",
        "model": {"model_class": "ps-vae", "n_ae_latents": 6, **WEIGHTS["ps-vae"], **model},
        "training": {"max_n_epochs": 200},
        "search": {
            "space": {"decoder_variance": space},
            "objectives": {"val/frame_mse": "min"},
            "algorithm": "grid" if "grid_search" in space else "random",
        },
    }
    if "grid_search" not in space:
        raw["search"]["num_trials"] = 3
    return parse_study(raw, "study.yaml", n_labels=4)


def test_it_is_a_setting_of_every_variational_model():
    assert VARIATIONAL == ["vae", "cond-vae", "beta-tcvae", "ps-vae", "msps-vae"]


@pytest.mark.parametrize("name", VARIATIONAL)
def test_the_published_value_is_no_part_of_a_trials_identity_and_others_are(name):
    plain = vary(name)
    assert plain.model.decoder_variance == 1
    assert plain.trial_id(["x"]) == plain.trial_id(["x"], but=["decoder_variance"])
    assert plain.trial_id(["x"]) == vary(name, decoder_variance=1).trial_id(["x"])
    others = [vary(name, decoder_variance=value).trial_id(["x"]) for value in (0.5, "0.1", 2)]
    assert len({plain.trial_id(["x"]), *others}) == 4


def test_an_identity_is_what_it_was_before_the_setting():
    config = make_config(model={"model_class": "vae", "n_ae_latents": 4})
    assert config.trial_id(["x"]) == "254395772b986eab"


@pytest.mark.parametrize("value", [0, -1, "nan", float("nan"), float("inf"), "wide", None, [1]])
def test_what_is_no_variance_is_one_error(value):
    with pytest.raises(ConfigError) as error:
        vary(decoder_variance=value)
    (problem,) = error.value.problems
    assert problem.startswith("model.decoder_variance: must be a number above 0, or `auto`, got")


def test_ranges_may_search_it():
    study = search({"grid_search": [0.01, 0.1, 1]})
    assert study.stages[0].space["decoder_variance"].values == (0.01, 0.1, 1)
    assert search({"loguniform": [0.01, 1]}, decoder_variance=0.5).base.model.variance == 0.5


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ({"grid_search": [0, 1]}, "must be a number above 0"),
        ({"uniform": [-1, 1]}, "must be a number above 0"),
        ({"grid_search": ["auto", 1]}, "`auto` is one number, which stands in `model`"),
    ],
)
def test_a_range_of_what_is_no_variance_is_refused(space, problem):
    with pytest.raises(ConfigError, match=f"decoder_variance: {problem}"):
        search(space)


def test_a_model_is_built_with_a_number():
    with pytest.raises(ConfigError, match="decoder_variance must be a number when a model is"):
        build_model(vary(decoder_variance="auto").model, DataShape(1, 12, 12, 4))
    assert vary(decoder_variance="auto").params["decoder_variance"] == "auto"


def test_the_weight_on_the_labels_compares_between_variances():
    config = vary(decoder_variance=0.1, **{"ps_vae.alpha": 50})
    assert config.model.label_weight == pytest.approx(5)


def test_beta_raises_the_variance_that_a_latent_needs_where_it_weighs_the_whole_kl():
    assert vary("vae", **{"vae.beta": 3}, decoder_variance=0.5).model.least_variance == 1.5
    assert vary(decoder_variance=0.5).model.least_variance == 0.5
    assert make_config(model={"model_class": "ae", "n_ae_latents": 2}).model.least_variance is None
