import pytest

from psvae_tune.config.wording import pluralise


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0 GPUs"), (1.0, "1 GPU"), (2, "2 GPUs"), (0.5, "0.5 GPUs"), (1_234_567, "1234567 GPUs")],
)
def test_only_one_thing_is_singular(number, expected):
    assert pluralise(number, "GPU") == expected
