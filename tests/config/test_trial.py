import pytest
from hypothesis import given
from hypothesis import strategies as st

from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.config.trial import parse_trial_config
from psvae_tune.errors import ConfigError

MODEL = {
    "model_class": "ps-vae",
    "n_ae_latents": 6,
    "ps_vae.alpha": 100,
    "ps_vae.beta": 1,
    "ps_vae.anneal_epochs": 10,
}


def parse(model=None, training=None, data=None):
    return parse_trial_config(
        {"model": {**MODEL, **(model or {})}, "training": training or {}, "data": data or {}}, "f"
    )


def problems(**sections):
    with pytest.raises(ConfigError) as caught:
        parse(**sections)
    return caught.value.problems


def test_settings_go_by_their_published_names():
    params = parse(training={"learning_rate": 0.01}).params
    assert params["ps_vae.alpha"] == 100
    assert params["learning_rate"] == 0.01
    assert params["n_ae_latents"] == 6


def test_every_problem_is_told_with_its_place():
    found = problems(
        model={"ps_vae.betta": 3, "n_ae_latents": "many", "conditional_encoder": True},
        training={"max_n_epoch": 3},
        data={"trial_splits": "8;1"},
    )
    places = [problem.partition(": ")[0] for problem in found]
    assert sorted(places) == [
        "data.trial_splits",
        "model.conditional_encoder",
        "model.n_ae_latents",
        "model.ps_vae.betta",
        "training.max_n_epoch",
    ]
    assert any("did you mean `ps_vae.beta`?" in problem for problem in found)


@pytest.mark.parametrize("name", [None, 3, [], {}, ["ae"]])
def test_a_model_that_is_no_name(name):
    (problem,) = problems(model={"model_class": name})
    assert problem.startswith("model.model_class: not a known model, got ")


def test_unknown_model_names_the_nearest():
    (problem,) = problems(model={"model_class": "ps_vae"})
    assert problem == "model.model_class: not a known model, got 'ps_vae'; did you mean `ps-vae`?"


@pytest.mark.parametrize(
    ("sections", "place"),
    [
        ({"training": {"max_n_epochs": 9}}, "training.max_n_epochs"),
        ({"training": {"min_n_epochs": 201}}, "training.min_n_epochs"),
        ({"training": {"best_epoch_metric": "val/loss"}}, "training.best_epoch_metric"),
        ({"training": {"best_epoch_metric": "val/projection"}}, "training.best_epoch_metric"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate"),
        ({"model": {"ps_vae.alpha": float("inf")}}, "model.ps_vae.alpha"),
        ({"model": {"rng_seed_model": -1}}, "model.rng_seed_model"),
        ({"model": {"ae_arch_json": {"ae_encoding_n_channels": [4]}}}, "model.ae_arch_json"),
    ],
)
def test_contradictions_and_bad_values(sections, place):
    (problem,) = problems(**sections)
    assert problem.startswith(f"{place}: ")


def test_a_model_without_bias_needs_centred_labels():
    model = {"model_class": "cond-ae-msp", "n_ae_latents": 6, "msp.alpha": 1}
    with pytest.raises(ConfigError, match="needs centred labels"):
        parse_trial_config({"model": model, "data": {"label_scaling": "none"}}, "f")


def test_a_null_architecture_is_the_published_one():
    assert parse(model={"ae_arch_json": None}) == parse()


def test_identity_holds_every_setting_but_those_without_effect():
    """B27: the published identity leaves out annealing, epochs and architecture."""
    base = parse()
    digests = ["a"]
    changed = [
        parse(model={"ps_vae.anneal_epochs": 11}),
        parse(training={"max_n_epochs": 201}),
        parse(training={"rng_seed_train": 1}),
        parse(data={"rng_seed_data": 1}),
        parse(model={"ae_arch_json": {"ae_padding_type": "valid"}}),
    ]
    prints = {config.trial_id(digests) for config in [base, *changed]}
    assert len(prints) == len(changed) + 1
    assert base.trial_id(["b"]) not in prints
    same = parse(training={"checkpoint_every": 3}, data={"sessions": ["elsewhere.h5"]})
    assert same.trial_id(digests) == base.trial_id(digests)


@given(st.floats(0, 1e6), st.integers(0, 2**32 - 1))
def test_params_change_only_what_they_name(alpha, seed):
    base = parse()
    changed = base.with_params({"ps_vae.alpha": alpha, "rng_seed_model": seed})
    expected = {**base.params, "ps_vae.alpha": alpha, "rng_seed_model": seed}
    assert changed.params == expected
    assert changed.with_params({"ps_vae.alpha": 100, "rng_seed_model": 0}) == base


def test_params_are_validated_where_they_enter():
    with pytest.raises(ConfigError, match=r"ps_vae\.alpha"):
        parse().with_params({"ps_vae.alpha": -1})


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        parse().training.learning_rate = 1


@pytest.mark.parametrize("name", MODEL_CONFIGS)
def test_every_model_has_its_name(name):
    assert MODEL_CONFIGS[name].model_fields["model_class"].annotation.__args__ == (name,)
