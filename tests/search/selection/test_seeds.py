"""Fits that differ in their seed alone are one setting to a rule."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psvae_tune.errors import StudyError
from psvae_tune.search.selection.candidates import N_UNSUPERVISED
from tests.support.selections import BEST_R2, BOTH, choose, trial


def test_seeds_are_averaged():
    lucky = [trial(1, 0.99, 0.1, seed=0), trial(1, 0.41, 0.1, seed=1)]
    steady = [trial(2, 0.80, 0.1, seed=0), trial(2, 0.82, 0.1, seed=1)]
    selection = choose([*lucky, *steady], BEST_R2)
    assert selection.chosen.name == "alpha=2 seed=1"  # the better seed stands for the setting
    # Deviations: .29, .29, .01, .01 with two degrees of freedom.
    spread = math.sqrt((2 * 0.29**2 + 2 * 0.01**2) / 2)
    assert (
        "The runner-up is alpha=1 (2 seeds): `val/label_r2` 0.7 against 0.81, a difference of "
        f"0.11, {0.11 / spread:.1f} times the standard deviation over seeds ({spread:.4g})."
    ) in selection.reasons


def test_fits_that_differ_in_what_is_hidden_are_averaged():
    found = {"1": (0.9, 0.3), "2": (0.7, 0.6)}
    trials = [
        replace(
            one := trial(alpha, r2, 0.1, seed=i),
            name=f"alpha={alpha} hidden={part}",
            params={**one.params, "rng_seed_model": 0, "hidden_labels": part, N_UNSUPERVISED: i},
        )
        for alpha, values in found.items()
        for i, (part, r2) in enumerate(zip(['["a"]', '["b", "c"]'], values, strict=True))
    ]
    selection = choose(trials, BEST_R2)
    assert selection.chosen.params["ps_vae.alpha"] == "2"
    assert (
        "Trials that differ only in `hidden_labels` are averaged: 4 trials of 2 settings."
    ) in selection.reasons


def test_a_setting_that_lacks_a_hidden_part_is_set_aside():
    def fit(alpha, part, r2):
        one = trial(alpha, r2, 0.1)
        return replace(
            one,
            trial_id=f"{alpha} {part}",
            name=f"alpha={alpha} hidden={part}",
            params={**one.params, "hidden_labels": part},
        )

    hard, easy = fit(1, "paw", 0.5), fit(1, "tail", 0.95)
    selection = choose([hard, easy, fit(5, "tail", 0.8)], BEST_R2)
    assert selection.chosen.params["ps_vae.alpha"] == 1
    assert any("not each part was hidden from its setting" in why for why in selection.reasons)


def test_failed_seed_does_not_count_against_its_setting():
    trials = [
        trial(1, 0.9, 0.1, seed=0),
        trial(1, math.nan, 0.1, seed=1),
        trial(2, 0.8, 0.1, seed=0),
        trial(2, 0.8, 0.1, seed=1),
    ]
    assert choose(trials, BEST_R2).chosen.name == "alpha=1 seed=0"


def test_seed_that_stands_for_a_setting_meets_the_requirements_itself():
    trials = [
        trial(1, 0.95, 0.1, seed=0, **{"val/leak_r2": 0.3}),
        trial(1, 0.90, 0.1, seed=1, **{"val/leak_r2": 0.0}),
        trial(2, 0.70, 0.1, seed=0, **{"val/leak_r2": 0.0}),
    ]
    rule = {**BEST_R2, "require": {"val/leak_r2": "<= 0.2"}}
    selection = choose(trials, rule)
    assert selection.chosen.name == "alpha=1 seed=1"
    assert (
        "Of its 2 seeds, 1 meets the requirement; of these, alpha=1 seed=1 is best in "
        "`val/label_r2` and stands for it." in selection.reasons
    )


def test_a_setting_whose_seeds_miss_what_their_mean_meets_is_no_candidate():
    # Each seed misses one bound, and the means 0.7 and 0.1 meet both.
    trials = [
        trial(1, 0.9, 0.2, seed=0),
        trial(1, 0.5, 0.0, seed=1),
        trial(2, 0.65, 0.1, seed=0),
    ]
    require = {"val/label_r2": ">= 0.6", "val/frame_mse": "<= 0.15"}
    selection = choose(trials, {**BEST_R2, "require": require})
    assert selection.chosen.name == "alpha=2 seed=0"
    with pytest.raises(StudyError) as caught:
        choose([*trials[:2], trial(2, 0.1, 9.0)], {**BEST_R2, "require": require})
    assert "the nearest is alpha=1 seed=1: `val/label_r2` is 0.5, 0.1 below 0.6" in str(
        caught.value
    )


EXTREMES, LIMITS = st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.25, 0.5, 0.75])
SEEDED = st.lists(
    st.lists(st.tuples(EXTREMES, EXTREMES), min_size=2, max_size=3), min_size=2, max_size=4
)


@settings(max_examples=300)
@given(SEEDED, LIMITS, LIMITS)
def test_requirements_equal_brute_force(table, least_r2, most_mse):
    """The mean of a setting and the chosen fit meet the bounds; the best mean is chosen."""
    trials = [
        trial(alpha, *values, seed=seed)
        for alpha, fits in enumerate(table)
        for seed, values in enumerate(fits)
    ]

    def meets(r2, mse):
        return r2 >= least_r2 and mse <= most_mse

    candidates = [
        (-np.mean([r2 for r2, _ in fits]), alpha)
        for alpha, fits in enumerate(table)
        if meets(*np.mean(fits, axis=0)) and any(meets(*values) for values in fits)
    ]
    rule = {
        "within": {"metric": "val/label_r2", "tolerance": 0},
        "then": {"ps_vae.alpha": "min"},
        "require": {"val/label_r2": f">= {least_r2}", "val/frame_mse": f"<= {most_mse}"},
    }
    if not candidates:
        with pytest.raises(StudyError, match="no trial meets the requirement"):
            choose(trials, rule)
        return
    chosen = choose(trials, rule).chosen
    _, alpha = min(candidates)
    assert chosen.params["ps_vae.alpha"] == alpha
    assert meets(chosen.metrics["val/label_r2"], chosen.metrics["val/frame_mse"])
    assert chosen.metrics["val/label_r2"] == max(r2 for r2, m in table[alpha] if meets(r2, m))


def test_trials_that_differ_only_in_the_seed_are_compared_alone():
    trials = [trial(1, 0.9, 0.1, seed=s, udr=u) for s, u in enumerate([0.6, 0.8, 0.7])]
    selection = choose(trials, {"best": "udr"})
    assert selection.chosen.name == "alpha=1 seed=1"
    told = "a difference of 0.1, 1.0 times the standard deviation"
    assert any(told in reason for reason in selection.reasons)


SEED_RULES = [
    {"best": "udr"},
    {"within": {"metric": "udr", "tolerance": 0.1}, "then": {"val/frame_mse": "min"}},
    {"within": {"metric": "val/label_r2", "tolerance": 0.1}, "then": {"udr": "max"}},
    {"pareto": BOTH, "then": {"udr": "max"}},
    {"knee": ["udr", "val/frame_mse"]},
    {"chebyshev": {"udr": 1, "val/frame_mse": 1}},
    {**BEST_R2, "require": {"udr": ">= 0.5"}},
    {
        "within": {"metric": "val/label_r2", "tolerance": "one_standard_error"},
        "then": {"val/frame_mse": "min"},
    },
]


each_seed_rule = pytest.mark.parametrize("rule", SEED_RULES, ids=str)


@each_seed_rule
def test_a_seed_that_finished_alone_is_chosen(rule):
    failed = [trial(1, 0.9, 0.1, seed=seed, completed=False) for seed in (0, 2)]
    alone = trial(1, 0.8, 0.2, seed=1)
    selection = choose([failed[0], alone, failed[1]], rule)
    assert selection.chosen == alone
    assert selection.runner_up is None
    assert "Set aside: alpha=1 seed=0 (did not complete)" in selection.reasons[0]
    empty = trial(1, 0.8, 0.2, seed=1, active=1)
    with pytest.raises(StudyError, match="no trial meets the requirement `val/active_units` all"):
        choose([empty], {**rule, "require": {"val/active_units": "all"}})


@each_seed_rule
def test_settings_of_one_finished_seed_each_are_compared_by_the_objectives(rule):
    """The objectives are two, and without `select` the knee of their front is chosen."""
    trials = [trial(1, 0.90, 0.5), trial(2, 0.88, 0.1), trial(3, 0.1, 0.05), trial(4, 0.1, 0.6)]
    trials += [trial(one.params["ps_vae.alpha"], 0.0, 1.0, 1, False) for one in trials]
    selection = choose(trials, rule)
    assert selection.chosen == trials[1]
    (told,) = [one for one in selection.reasons if "several finished seeds" in one]
    assert told.endswith("so the choice is that of a stage without `select`, by `knee`.")
    assert ("`udr`" in told) == ("udr" in str(rule))
    required = {**rule, "require": {"val/frame_mse": "<= 0.07"}}
    assert choose(trials, required).chosen == trials[2]


@pytest.mark.parametrize("rule", [*SEED_RULES, BEST_R2], ids=str)
@settings(max_examples=60)
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=3), min_size=1, max_size=4))
def test_whatever_seeds_finish_one_is_chosen(rule, finished):
    """A fit has `udr` if another seed of its setting finished, too."""
    rng = np.random.default_rng(0)
    trials = [
        trial(
            alpha,
            *rng.uniform(0.1, 1, 2),
            seed=seed,
            completed=is_finished,
            **({"udr": rng.uniform(0.5, 1)} if is_finished and sum(seeds) > 1 else {}),
        )
        for alpha, seeds in enumerate(finished)
        for seed, is_finished in enumerate(seeds)
    ]
    if any(map(any, finished)):
        assert choose(trials, rule).chosen.completed
    else:
        with pytest.raises(StudyError, match="no trial completed"):
            choose(trials, rule)


def test_one_standard_error():
    # Deviation .02 within each setting, two seeds: the error of the best mean is .02 / √2 = .0141.
    def pair(alpha, r2):
        half = 0.02 / math.sqrt(2)
        return [trial(alpha, r2 - half, 0.1, seed=0), trial(alpha, r2 + half, 0.1, seed=1)]

    rule = {
        "within": {"metric": "val/label_r2", "tolerance": "one_standard_error"},
        "then": {"ps_vae.alpha": "min"},
    }
    trials = [*pair(1, 0.885), *pair(2, 0.887), *pair(3, 0.9)]
    selection = choose(trials, rule)
    assert selection.chosen.params["ps_vae.alpha"] == 2
    assert selection.sensitivity == {
        "a tolerance of 0.9 standard errors": "alpha=3 (2 seeds)",
        "a tolerance of 1.1 standard errors": "alpha=1 (2 seeds)",
    }
