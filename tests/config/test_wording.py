import pytest

from psvae_tune.config.wording import name_trial, pluralise


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
