"""Early stopping leaves alone whatever the rule of a stage could still choose."""

import itertools
import math

import numpy as np
import pytest

from psvae_tune.config.selection_rule import parse_rule, total_shortfall
from psvae_tune.config.stage import Stage
from psvae_tune.search.progress import TrialReport, to_result
from psvae_tune.search.schedulers import MedianStop, ParetoAsha
from psvae_tune.search.selection.possible import EPOCH, could_be_chosen, prospect
from psvae_tune.search.selection.select import select
from psvae_tune.search.successive_halving import (
    count_survivors,
    epoch_divisors,
    select_survivors,
)
from psvae_tune.tracking.trial_result import N_UNSUPERVISED, TrialResult
from tests.support.selections import GOALS

MSE, R2, CORRELATION = "val/frame_mse", "val/label_r2", "val/latent_correlation"
SMALLEST = {"then": {"ps_vae.alpha": "min"}}
RULES = {
    "best": {"best": MSE},
    "within": {"within": {"metric": R2, "tolerance": 0.05}, **SMALLEST},
    "within, frames": {"within": {"metric": MSE, "tolerance": 0.2}, "then": {CORRELATION: "min"}},
    "within, ties": {
        "within": {"metric": MSE, "tolerance": 0.2},
        "then": {"n_ae_latents": "min", "ps_vae.alpha": "max"},
    },
    "knee": {"knee": [MSE, R2]},
    "pareto": {"pareto": [MSE, R2, CORRELATION], **SMALLEST},
    "chebyshev": {"chebyshev": {MSE: 1, R2: 2}},
    "required": {"best": CORRELATION, "require": {R2: ">= 0.6", "val/active_units": "all"}},
    "within, required": {
        "within": {"metric": R2, "tolerance": 0.3},
        **SMALLEST,
        "require": {MSE: "<= 0.012"},
    },
}
each_rule = pytest.mark.parametrize("rule", [parse_rule(raw) for raw in RULES.values()], ids=RULES)


def draw(rng, n_trials):
    """Return trials of a trade-off, with noise: more alpha, better labels, worse frames."""
    alphas = rng.permutation(n_trials) + 1
    part = alphas / n_trials
    noise = rng.normal(0, 0.1, (3, n_trials))
    columns = {
        MSE: (0.01 * (1 + 0.5 * part + noise[0])).round(4),
        R2: (1 - np.exp(-3 * part) + noise[1]).round(2),
        CORRELATION: np.abs(noise[2]).round(2),
        "val/active_units": rng.choice([1, 2, 2, 2], n_trials),
    }
    return [
        TrialResult(
            trial_id=f"{row:03}",
            name=f"alpha={alphas[row]}",
            params={
                "ps_vae.alpha": int(alphas[row]),
                "n_ae_latents": int(rng.integers(4, 7)),
                "rng_seed_model": 0,
                N_UNSUPERVISED: 2,
            },
            metrics={key: float(column[row]) for key, column in columns.items()},
            completed=True,
        )
        for row in range(n_trials)
    ]


def shortfall(trial, rule):
    return total_shortfall(rule.require, trial.metrics, 2)


def stand(trial):
    return {**trial.params, **trial.metrics}


def can_choose(trials, rule):
    return any(shortfall(trial, rule) <= 0 for trial in trials)


@each_rule
def test_what_is_left_out_is_chosen_from_no_larger_set(rule):
    """Every subset of seven trials, against every set that contains it."""
    rng = np.random.default_rng(0)
    n_left_out = 0
    for _ in range(3):
        trials = draw(rng, 7)
        sets = [set(rows) for n in range(1, 8) for rows in itertools.combinations(range(7), n)]
        chosen = {}
        for rows in sets:
            members = [trials[row] for row in sorted(rows)]
            if can_choose(members, rule):
                chosen[frozenset(rows)] = select(members, rule, GOALS).chosen
        for rows in sets:
            members = [trials[row] for row in sorted(rows)]
            possible = could_be_chosen([stand(trial) for trial in members], rule)
            left_out = {
                trial.trial_id for trial, kept in zip(members, possible, strict=True) if not kept
            }
            n_left_out += len(left_out)
            for larger, choice in chosen.items():
                assert not (rows <= larger and choice.trial_id in left_out)
    assert n_left_out > 100


def test_a_metric_of_the_end_decides_nothing_before():
    """Among trials that are about as good, the metric of the end may turn out either way."""
    rule = parse_rule(
        {
            "within": {"metric": MSE, "tolerance": 0.2},
            "then": {"val/leak_r2": "min", "ps_vae.alpha": "min"},
        }
    )
    values = [(0.010, 1), (0.0119, 2), (0.0121, 1)]
    standings = [{MSE: mse, "ps_vae.alpha": alpha} for mse, alpha in values]
    assert could_be_chosen(standings, rule).tolist() == [True, True, False]


def test_a_tolerance_by_seeds_is_not_known_before_the_end():
    within = {"metric": MSE, "tolerance": "one_standard_error"}
    rule = parse_rule({"within": within, "then": {"ps_vae.alpha": "min"}})
    values = [(0.010, 2), (0.5, 1), (0.5, 3)]
    standings = [{MSE: mse, "ps_vae.alpha": alpha} for mse, alpha in values]
    assert could_be_chosen(standings, rule).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("key", "values", "expected"),
    [(MSE, (0.04, 0.03), 0.01), (MSE, (0.03, 0.04), 0.04), (R2, (0.5, 0.6), 0.8)],
)
def test_a_prospect_goes_on_at_the_last_pace(key, values, expected):
    """From epoch 10 to 20, and then to 80: two doublings at the gain of one."""
    before, now = (
        {key: value, "ps_vae.alpha": 5.0, EPOCH: epoch}
        for value, epoch in zip(values, (10, 20), strict=True)
    )
    assert prospect(before, now, 80) == {**now, key: pytest.approx(expected)}
    assert prospect({EPOCH: 10}, now, 80) is None


def make_stage(rule, rng):
    objectives = [{MSE: "min"}, {R2: "max"}, {CORRELATION: "min"}, {MSE: "min", R2: "max"}]
    return Stage.model_validate(
        {
            "space": {"ps_vae.alpha": {"grid_search": [1, 2]}},
            "objectives": objectives[rng.integers(4)],
            "select": rule,
        }
    )


def run_stage(scheduler, trials, rng, n_epochs):
    """Return the trials that end, two at a time, if their metrics never change."""
    waiting, running, ended = list(rng.permutation(len(trials))), {}, []
    while waiting or running:
        while waiting and len(running) < 2:
            running[waiting.pop()] = 0
        row = rng.choice(list(running))
        running[row] += 1
        trial, epoch = trials[row], running[row]
        report = to_result(TrialReport(trial.trial_id, epoch, dict(trial.metrics)))
        if scheduler.on_trial_result(None, trial, report) == "STOP":
            del running[row]
        elif epoch == n_epochs:
            del running[row]
            ended.append(trial)
    return ended


@each_rule
@pytest.mark.parametrize("kind", ["asha", "median_stopping"])
def test_with_perfect_rungs_the_stage_chooses_what_it_would_choose_without(rule, kind):
    rng = np.random.default_rng(1)
    n_stopped = 0
    for _ in range(60):
        trials = draw(rng, int(rng.integers(2, 16)))
        if not can_choose(trials, rule):
            continue
        stage = make_stage(rule, rng)

        def stand_of(trial, report):
            return {**stand(trial), EPOCH: report.epoch}

        given = (stage, stand_of, {}, lambda *event: None, 6)
        if kind == "asha":
            scheduler = ParetoAsha(*given, [2, 4], 3)
        elif len(stage.objectives) == 1:
            scheduler = MedianStop(*given, 2, 2)
        else:
            continue
        ended = run_stage(scheduler, trials, rng, n_epochs=6)
        n_stopped += len(trials) - len(ended)
        assert select(ended, rule, GOALS).chosen == select(trials, rule, GOALS).chosen
    assert n_stopped > 30


@each_rule
@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0, 4.0])
def test_with_perfect_short_trainings_the_rules_choice_survives(rule, factor):
    rng = np.random.default_rng(2)
    for _ in range(40):
        trials = draw(rng, int(rng.integers(2, 20)))
        left = trials
        for _ in epoch_divisors(len(trials), factor):
            kept = select_survivors(left, rule, factor)
            most = count_survivors(len(left), factor, rule, n_seeds=1)
            assert min(math.ceil(len(left) / factor), len(left)) <= len(kept) <= most
            left = [left[row] for row in kept]
        if can_choose(trials, rule):
            assert select(left, rule, GOALS).chosen == select(trials, rule, GOALS).chosen
