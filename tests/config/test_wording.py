import pytest

from psvae_tune.config.stage import Stage
from psvae_tune.config.stage_settings import count_digits
from psvae_tune.config.wording import name_trial, pluralise, without_zeros


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0 GPUs"), (1.0, "1 GPU"), (2, "2 GPUs"), (0.5, "0.5 GPUs"), (1_234_567, "1234567 GPUs")],
)
def test_only_one_thing_is_singular(number, expected):
    assert pluralise(number, "GPU") == expected


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (["paw_x", "paw_y"], "paw_x,paw_y"),
        ('["paw_x", "paw_y"]', "paw_x,paw_y"),
        ((), "none"),
        ("[]", "none"),
    ],
)
def test_a_trial_is_named_by_what_it_hides(value, word):
    assert name_trial({"ps_vae.beta": 5.0, "hidden_labels": value}) == f"beta=5 hidden={word}"


def test_names_with_zeros_sort_as_numbers_do():
    values = [0.5, 7, 50, 62.5, 100, 1000]
    names = [name_trial({"ps_vae.alpha": value}, n_digits={"ps_vae.alpha": 4}) for value in values]
    assert names == sorted(names)
    assert names[2:4] == ["alpha=0050", "alpha=0062.5"]
    assert [without_zeros(name) for name in names] == [f"alpha={value:g}" for value in values]


@pytest.mark.parametrize(
    "params",
    [
        {"learning_rate": 1e-05, "rng_seed_model": 0},
        {"learning_rate": 1.5e-05, "ps_vae.alpha": 1.5e06},
        {"hidden_labels": ["007"], "ps_vae.beta": -2.0},
        {"precision": "bfloat16", "ps_vae.alpha": 0.05, "conditional_encoder": True},
    ],
)
def test_only_numbers_get_zeros_and_lose_them(params):
    name = name_trial(params, "1/3", dict.fromkeys(params, 4))
    assert without_zeros(name) == name_trial(params, "1/3")


def test_names_of_all_stages_have_the_digits_of_the_largest_value():
    domains = [
        {"ps_vae.alpha": {"grid_search": [50]}},
        {
            "ps_vae.alpha": {"grid_search": [62.5, 1000]},
            "ps_vae.beta": {"grid_search": [-10, 7.5]},
        },
        {"learning_rate": {"grid_search": [1e-4, 1e30]}, "hidden_labels": {"grid_search": [[]]}},
    ]
    stages = [
        Stage.model_validate({"name": f"s{i}", "space": space, "objectives": {"val/loss": "min"}})
        for i, space in enumerate(domains)
    ]
    assert count_digits(stages) == {
        "ps_vae.alpha": 4,
        "ps_vae.beta": 1,
        "learning_rate": 1,
        "hidden_labels": 1,
    }
