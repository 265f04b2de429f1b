"""Which number format `auto` takes."""

import pytest
import torch

from psvae_tune.training import precision
from psvae_tune.training.precision import DTYPES, measure_seconds, pick_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("gain", "expected"), [(0.5, "float32"), (1.1, "float32"), (1.3, "bfloat16")]
)
def test_auto_takes_bfloat16_where_it_is_clearly_quicker(monkeypatch, gain, expected):
    seconds = {"float32": 0.01 * gain, "bfloat16": 0.01}
    monkeypatch.setattr(precision, "measure_seconds", lambda device: seconds)
    assert pick_dtype("auto", CPU) == DTYPES[expected]
    for name, dtype in DTYPES.items():
        assert pick_dtype(name, CPU) == dtype


def test_a_process_measures_once():
    assert measure_seconds(CPU) is measure_seconds(CPU)
    assert all(seconds > 0 for seconds in measure_seconds(CPU).values())
