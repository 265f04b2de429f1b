"""Shorter trainings decide which trials are trained in full."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psvae_tune.config.selection_rule import parse_rule
from psvae_tune.config.trial import parse_trial_config, with_fewer_epochs
from psvae_tune.search.successive_halving import (
    count_survivors,
    epoch_divisors,
    select_survivors,
)
from psvae_tune.tracking.trial_result import TrialResult
from tests.support.studies import make_config

TWO = ["val/frame_mse", "val/label_r2"]


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


def trial(name, mse, r2=0.5, completed=True, alpha=1, seed=0):
    metrics = {"val/frame_mse": mse, "val/label_r2": r2}
    params = {"ps_vae.alpha": alpha, "rng_seed_model": seed}
    return TrialResult(str(name), str(name), params, metrics, completed)


def survivors(trials, rule, factor):
    return select_survivors(trials, parse_rule(rule), factor)


@pytest.mark.parametrize("rule", [{"knee": TWO}, {"chebyshev": dict.fromkeys(TWO, 1)}])
def test_the_ends_of_a_front_survive_with_the_choice_between_them(rule):
    front = [(1, 0.1), (2, 0.8), (3, 0.85), (4, 0.9)]
    behind = [(2, 0.4), (4, 0.5), (5, 0.8)]
    trials = [trial(i, *values, alpha=i) for i, values in enumerate([*behind, *front])]
    assert survivors(trials, rule, 3.5) == [3, 4, 6]
    assert survivors(trials, rule, 7) == [4]


@pytest.mark.parametrize(
    "broken",
    [{"completed": False}, {"mse": float("nan")}, {"mse": 0.0, "r2": float("inf")}],
    ids=["stopped", "no number", "no label R2"],
)
def test_what_did_not_finish_or_has_no_value_is_behind(broken):
    flawed = [trial(i, **{"mse": 0.0, **broken}, alpha=i) for i in (0, 2)]
    rule = {"best": "val/frame_mse", "require": {"val/label_r2": ">= 0"}}
    assert survivors([flawed[0], trial(1, 5.0, alpha=1), flawed[1]], rule, 3) == [1]
    assert len(survivors(flawed, rule, 2)) == 1


def test_without_any_that_the_rule_could_choose_the_nearest_to_it_survive():
    rule = {"best": "val/frame_mse", "require": {"val/label_r2": ">= 0.9"}}
    r2s = [0.1, 0.8, 0.4, 0.85, -3.0, -9.0]
    trials = [trial(i, 1.0, r2, alpha=i) for i, r2 in enumerate(r2s)]
    assert survivors(trials, rule, 3) == [1, 3]


def test_without_a_spread_over_seeds_the_best_survive():
    """One seed of each setting has finished, so that there is no standard error."""
    within = {"metric": "val/frame_mse", "tolerance": "one_standard_error"}
    rule = {"within": within, "then": {"ps_vae.alpha": "min"}}
    trials = [trial(i, 6.0 - i, alpha=i) for i in range(6)]
    assert survivors(trials, rule, 3) == [4, 5]


def test_seeds_of_one_setting_survive_together():
    values = {1: [0.1, 0.9], 2: [0.4, 0.4], 3: [0.2, 0.7], 4: [0.8, 0.8]}
    trials = [
        trial(f"{alpha}-{seed}", mse, alpha=alpha, seed=seed)
        for alpha, pair in values.items()
        for seed, mse in enumerate(pair)
    ]
    rule = {"best": "val/frame_mse"}
    assert survivors(trials, rule, 4) == [2, 3]
    assert survivors(trials, rule, 8) == [2, 3]
    assert survivors(trials, rule, 3) == [2, 3, 4, 5]
    assert count_survivors(8, 8, parse_rule(rule), n_seeds=2) == 2
    assert count_survivors(8, 3, parse_rule(rule), n_seeds=2) == 4
