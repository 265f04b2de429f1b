"""Shorter trainings decide which trials are trained in full."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psvae_tune.config.trial import parse_trial_config, with_fewer_epochs
from psvae_tune.search.stage_journal import TrialEnd
from psvae_tune.search.successive_halving import epoch_divisors, select_survivors
from tests.support.studies import make_config

TWO = {"val/frame_mse": "min", "val/label_r2": "max"}


@pytest.mark.parametrize(
    ("n_points", "factor", "expected"),
    [(1, 3, []), (2, 3, []), (3, 3, [3]), (4, 3, [3]), (16, 4, [16, 4]), (27, 3, [27, 9, 3])],
)
def test_more_points_begin_shorter(n_points, factor, expected):
    assert epoch_divisors(n_points, factor) == expected


@given(st.integers(1, 300), st.sampled_from([1.5, 2.0, 3.0, 4.0]))
def test_the_last_cut_leaves_few_and_the_first_training_is_not_absurdly_short(n_points, factor):
    left = n_points
    for reduction in epoch_divisors(n_points, factor):
        assert reduction <= n_points * (1 + 1e-9)
        left = int(np.ceil(left / factor))
    assert 1 <= left <= np.ceil(factor) + 1


def test_the_annealing_is_shortened_with_the_rest():
    config = make_config(training={"max_n_epochs": 90, "min_n_epochs": 30})
    config = config.with_params({"ps_vae.anneal_epochs": 45})
    shorter = with_fewer_epochs(config, 9)
    assert shorter.training.max_n_epochs == 10
    assert shorter.training.min_n_epochs == 3
    assert shorter.model.n_anneal_epochs == 5
    changed = {name for name, value in config.params.items() if shorter.params[name] != value}
    assert changed == {"max_n_epochs", "min_n_epochs", "ps_vae.anneal_epochs"}


def test_no_annealing_stays_none_and_an_epoch_is_left():
    model = {"model_class": "ae", "n_ae_latents": 2}
    config = parse_trial_config({"model": model, "training": {"max_n_epochs": 4}}, "test")
    assert with_fewer_epochs(config, 9).training.max_n_epochs == 1
    assert make_config().with_params({"ps_vae.anneal_epochs": 0}).model.n_anneal_epochs == 0
    without = make_config(model={"ps_vae.anneal_epochs": 0})
    assert with_fewer_epochs(without, 2).model.n_anneal_epochs == 0


def ended(mse, r2, outcome="finished"):
    return TrialEnd("stage", outcome, "", 3, {"val/frame_mse": mse, "val/label_r2": r2})


def test_the_front_survives():
    front = [ended(1, 0.1), ended(2, 0.5), ended(3, 0.9)]
    behind = [ended(2, 0.4), ended(3, 0.5), ended(4, 0.8)]
    assert select_survivors([*behind, *front], TWO, 2, [0] * 6) == [3, 4, 5]


@pytest.mark.parametrize(
    "broken",
    [
        ended(0, 1, "failed"),
        ended(0, 1, "stopped"),
        ended(float("nan"), 1),
        TrialEnd("stage", "finished", "", 3, {}),
    ],
)
def test_what_did_not_finish_or_has_no_value_is_behind(broken):
    assert select_survivors([broken, ended(5, 0.1), broken], TWO, 3, [0] * 3) == [1]


def test_one_objective_is_ordered_by_its_values():
    ends = [TrialEnd("stage", "finished", "", 3, {"val/a": v}) for v in (3, 1, 2, 5, 4, 6)]
    assert select_survivors(ends, {"val/a": "min"}, 3, [0] * 6) == [1, 2]
    assert select_survivors(ends, {"val/a": "max"}, 3, [0] * 6) == [3, 5]
    assert select_survivors(ends, {"val/a": "min"}, 3, [0, 0.5, 0, 0, 0, 0]) == [0, 2]
    assert select_survivors(ends, {"val/a": "min"}, 3, [3, 0.5, 2, 0, 9, np.inf]) == [1, 3]
