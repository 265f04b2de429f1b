"""A rule chooses one trial of a stage, and says why."""

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psvae_tune.config.selection_rule import parse_rule
from psvae_tune.errors import ConfigError, StudyError
from psvae_tune.results.trial_record import pareto_front
from psvae_tune.tracking.trial_result import TrialResult
from tests.support.selections import ALPHA_RULE, BEST_R2, BOTH, GOALS, TABLE, VALUES, choose, trial


# 0.93 less 5 % is 0.8835, less 4 % is 0.8928, less 15 % is 0.7905.
@pytest.mark.parametrize(
    ("tolerance", "alpha"), [(0.0, 1000), (0.01, 1000), (0.04, 500), (0.05, 100), (0.15, 50)]
)
def test_smallest_alpha_within_a_tolerance(tolerance, alpha):
    rule = {**ALPHA_RULE, "within": {"metric": "val/label_r2", "tolerance": tolerance}}
    assert choose(TABLE, rule).chosen.params["ps_vae.alpha"] == alpha


def test_tolerance_of_a_metric_to_minimise():
    rule = {
        "within": {"metric": "val/frame_mse", "tolerance": 0.5},
        "then": {"val/label_r2": "max"},
    }
    assert choose(TABLE, rule).chosen.name == "alpha=500"  # at most 0.015


def test_tolerance_includes_its_edge():
    # In binary, 0.93 less 10 % is a last bit above 0.837.
    trials = [trial(1, 0.93, 0.0), trial(0, 0.837, 0.0)]
    rule = {**ALPHA_RULE, "within": {"metric": "val/label_r2", "tolerance": 0.1}}
    assert choose(trials, rule).chosen.name == "alpha=0"


def test_then_compares_in_order():
    trials = [trial(1, 0.9, 0.3), trial(2, 0.9, 0.1), trial(3, 0.9, 0.1)]
    within = {"metric": "val/label_r2", "tolerance": 0.1}
    rule = {"within": within, "then": {"val/frame_mse": "min", "ps_vae.alpha": "max"}}
    assert choose(trials, rule).chosen.name == "alpha=3"
    rule = {"within": within, "then": {"ps_vae.alpha": "min", "val/frame_mse": "min"}}
    assert choose(trials, rule).chosen.name == "alpha=1"


def test_best_with_requirements():
    trials = [trial(50, 0.8, 0.01, active=1), *TABLE[1:]]
    for required in ({"val/active_units": "all"}, {"val/label_r2": ">= 0.85"}):
        chosen = choose(trials, {"best": "val/frame_mse", "require": required}).chosen
        assert chosen.name == "alpha=100"
    assert choose(trials, {"best": "val/frame_mse"}).chosen.name == "alpha=50"


def test_knee_by_hand():
    # Scaled costs: (0, 1), (.1, 4/13), (.4, 1/13), (1, 0); sums to beat are the smallest.
    selection = choose(TABLE, {"knee": BOTH})
    assert selection.chosen.name == "alpha=100"
    distance = (1 - 0.1 - 4 / 13) / math.sqrt(2)
    assert f"{distance:.4g}" in selection.reasons[0]


def test_dominated_trials_do_not_move_the_knee():
    wild = trial(9, -5.0, 3.0)
    for rule in ({"knee": BOTH}, {"chebyshev": {"val/frame_mse": 1, "val/label_r2": 2}}):
        assert choose([*TABLE, wild], rule).chosen == choose(TABLE, rule).chosen


def test_front_that_bends_the_wrong_way_has_no_knee():
    trials = [trial(1, 0.0, 0.0), trial(2, 0.3, 0.7), trial(3, 1.0, 1.0)]
    selection = choose(trials, {"knee": BOTH})
    assert selection.chosen.name == "alpha=1"
    assert "there is no knee; alpha=1 is taken as the best in `val/frame_mse`" in " ".join(
        selection.reasons
    )


def test_pareto_then():
    dominated = trial(5000, 0.91, 0.021)
    rule = {"pareto": BOTH, "then": {"ps_vae.alpha": "max"}}
    assert choose([*TABLE, dominated], rule).chosen.name == "alpha=1000"


def test_chebyshev_by_hand():
    # Largest weighted distances: 2, .615, .4, 1 with weights 1 and 2; 1, .308, .4, 1 with 1 and 1.
    rule = {"chebyshev": {"val/frame_mse": 1, "val/label_r2": 2}}
    assert choose(TABLE, rule).chosen.name == "alpha=500"
    rule = {"chebyshev": {"val/frame_mse": 1, "val/label_r2": 1}}
    assert choose(TABLE, rule).chosen.name == "alpha=100"


def test_chebyshev_looks_at_the_largest_distance_before_the_sum():
    ends = [trial(1, 0.0, 0.0), trial(4, 1.0, 1.0)]
    # Scaled costs (.1, .6) add up to less than (.45, .5), but .6 is farther.
    trials = [*ends, trial(2, 0.4, 0.1), trial(3, 0.5, 0.45)]
    rule = {"chebyshev": {"val/frame_mse": 1, "val/label_r2": 1}}
    assert choose(trials, rule).chosen.name == "alpha=3"
    # Largest distances equal, .5 and .5: the smaller sum decides.
    trials = [*ends, trial(2, 0.625, 0.5), trial(3, 0.5, 0.25)]
    assert choose(trials, rule).chosen.name == "alpha=3"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", [ALPHA_RULE, BEST_R2, {"knee": BOTH}])
def test_trial_without_finite_metrics_is_never_chosen(bad, rule):
    selection = choose([*TABLE, trial(1, bad, 0.0)], rule)
    assert selection.chosen in TABLE
    assert selection.reasons[0] == f"Set aside: alpha=1 (`val/label_r2` is {bad})."


def test_other_metrics_may_be_missing():
    chosen = choose([trial(1, 0.5, math.nan), trial(2, 0.4, 0.1)], BEST_R2).chosen
    assert chosen.name == "alpha=1"


def test_trial_that_did_not_complete_is_never_chosen():
    assert choose([*TABLE, trial(1, 1.0, 0.0, completed=False)], BEST_R2).chosen in TABLE


def test_nothing_is_chosen_from_nothing():
    with pytest.raises(StudyError, match="there is no trial to choose from"):
        choose([], BEST_R2)
    with pytest.raises(StudyError, match=r"no trial completed, got alpha=1 \(did not complete\)"):
        choose([trial(1, 0.9, 0.1, completed=False)], BEST_R2)
    with pytest.raises(StudyError, match="`val/label_r2` is nan"):
        choose([trial(1, math.nan, 0.1)], BEST_R2)
    with pytest.raises(StudyError, match="has no `val/tc`"):
        choose(TABLE, {"best": "val/tc"})


def test_requirements_that_no_trial_meets_name_the_nearest():
    rule = {**BEST_R2, "require": {"val/label_r2": ">= 0.95", "val/frame_mse": "<= 0.012"}}
    with pytest.raises(StudyError) as caught:
        choose(TABLE, rule)
    assert str(caught.value) == (
        "selection: no trial meets the requirement `val/label_r2` >= 0.95 and "
        "`val/frame_mse` <= 0.012\n\n"
        "hint: the nearest is alpha=100: `val/label_r2` is 0.89, 0.06 below 0.95"
    )


def test_collapsed_latents_are_named():
    trials = [trial(1, 0.9, 0.1, active=1)]
    with pytest.raises(StudyError, match="`val/active_units` is 1, 1 below 2"):
        choose(trials, {**BEST_R2, "require": {"val/active_units": "all"}})


def test_a_missing_metric_that_needs_no_active_latent_is_not_put_down_to_them():
    """Supervised latents count in `mig`; a label that does not vary leaves a fit without it."""
    with pytest.raises(StudyError, match=r"got alpha=1 \(has no `val/mig`\)"):
        choose([trial(1, 0.9, 0.1)], {"best": "val/mig"})


def test_fits_without_active_latents_have_nothing_to_compare():
    with pytest.raises(
        StudyError, match="no `val/latent_correlation`, which takes 2 active unsup"
    ):
        choose([trial(1, 0.9, 0.1, active=1)], {"best": "val/latent_correlation"})
    independent = trial(2, 0.8, 0.1, **{"val/latent_correlation": 0.3})
    selection = choose(
        [trial(1, 0.9, 0.1, active=1), independent], {"best": "val/latent_correlation"}
    )
    assert selection.chosen == independent


def test_then_on_what_is_no_number():
    rule = {**ALPHA_RULE, "then": {"model_class": "min"}}
    with pytest.raises(ConfigError, match="`model_class` of alpha=1000 is no number, got None"):
        choose(TABLE, rule)


def test_reasons_in_full():
    stopped = trial(2000, 0.5, 0.1, completed=False)
    assert choose([*TABLE, stopped], ALPHA_RULE).reasons == (
        "Set aside: alpha=2000 (did not complete).",
        "alpha=1000 has the highest `val/label_r2` of 4 candidates (0.93); within 5 % of it, at "
        "least 0.8835, are alpha=1000 (0.93), alpha=500 (0.92) and alpha=100 (0.89).",
        "Of these, alpha=100 is taken for the smallest `ps_vae.alpha` (100).",
        "With a tolerance of 4.5 % and a tolerance of 5.5 % the choice would be the same.",
        "The runner-up is alpha=500: `val/label_r2` 0.92 against 0.89, a difference of 0.03. "
        "Whether that is more than the spread over seeds is not known: no setting was fitted "
        "with several.",
    )


def test_sensitivity_of_a_bound():
    rule = {"best": "val/frame_mse", "require": {"val/label_r2": ">= 0.85"}}
    selection = choose(TABLE, rule)
    # 10 % tighter is 0.935, which none reaches; 10 % looser is 0.765.
    assert selection.sensitivity == {
        "`val/label_r2` >= 0.935": None,
        "`val/label_r2` >= 0.765": "alpha=50",
    }
    assert (
        "With `val/label_r2` >= 0.935 no trial would be left. "
        "With `val/label_r2` >= 0.765 the choice would be alpha=50." in selection.reasons
    )


def test_ceiling_tightens_downwards_and_a_negative_floor_upwards():
    trials = [trial(1, -0.5, 0.105), trial(2, -0.4, 0.08)]
    rule = {**BEST_R2, "require": {"val/frame_mse": "<= 0.1", "val/label_r2": ">= -0.5"}}
    assert choose(trials, rule).sensitivity == {
        "`val/frame_mse` <= 0.09": "alpha=2",
        "`val/label_r2` >= -0.45": "alpha=2",
        "`val/frame_mse` <= 0.11": "alpha=2",
        "`val/label_r2` >= -0.55": "alpha=2",
    }
    assert list(choose(trials, rule).sensitivity)[:2] == [  # the tighter ones come first
        "`val/frame_mse` <= 0.09",
        "`val/label_r2` >= -0.45",
    ]


def test_exact_tie_is_said():
    selection = choose([trial(2, 0.9, 0.1), trial(1, 0.9, 0.2)], BEST_R2)
    assert selection.chosen.name == "alpha=1"
    assert "alpha=2 did exactly as well; alpha=1 comes first by name." in selection.reasons


def test_single_trial_is_its_own_best():
    for rule in (ALPHA_RULE, BEST_R2, {"knee": BOTH}):
        selection = choose(TABLE[:1], rule)
        assert selection.chosen == TABLE[0]
        assert selection.runner_up is None
        assert selection.reasons[-1] == "There is no runner-up."


def test_selection_is_valid_json():
    trials = [trial(1, 0.9, 0.1, **{"val/hsic": math.nan}), trial(2, 0.8, 0.1)]
    rule = {**BEST_R2, "require": {"val/active_units": "all", "val/frame_mse": "<= 0.105"}}
    selection = choose(trials, rule)
    read = json.loads(json.dumps(selection.to_dict(), allow_nan=False))
    assert read["trial_id"] == "1-None"
    assert read["runner_up"] == "2-None"
    assert read["metrics"]["val/hsic"] is None
    assert parse_rule(read["rule"]) == selection.rule
    assert tuple(read["reasons"]) == selection.reasons


def test_equal_names_do_not_mix_trials_up():
    trials = [
        TrialResult(
            str(i), "same", {"ps_vae.alpha": i}, {"val/frame_mse": m, "val/label_r2": r}, True
        )
        for i, (r, m) in enumerate([(0.8, 0.01), (0.89, 0.011), (0.93, 0.02)])
    ]
    assert choose(trials, {"knee": BOTH}).chosen.trial_id == "1"
    rule = {**BEST_R2, "require": {"val/frame_mse": "<= 0.011"}}
    assert choose(trials, rule).chosen.trial_id == "1"


def test_front_keeps_ties_and_order():
    twin = trial(101, 0.89, 0.011)
    trials = [*TABLE[::-1], twin, trial(5000, 0.91, 0.021), trial(1, math.nan, 0.0)]
    trials.append(trial(2, 1.0, 0.0, completed=False))
    assert pareto_front(trials, GOALS) == [*TABLE[::-1], twin]
    assert pareto_front([], GOALS) == []


TABLES = st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=10).map(
    lambda rows: [trial(i, r2, mse) for i, (r2, mse) in enumerate(rows)]
)
RULES = st.sampled_from(
    [
        BEST_R2,
        ALPHA_RULE,
        {"knee": BOTH},
        {"pareto": BOTH, "then": {"ps_vae.alpha": "min"}},
        {"chebyshev": {"val/frame_mse": 1, "val/label_r2": 2}},
    ]
)


@settings(max_examples=60)
@given(TABLES, RULES, st.integers(0, 100))
def test_order_of_trials_changes_nothing(trials, rule, seed):
    shuffled = random.Random(seed).sample(trials, len(trials))
    assert choose(shuffled, rule) == choose(trials, rule)


@settings(max_examples=60)
@given(TABLES, RULES)
def test_choice_is_not_dominated(trials, rule):
    selection = choose(trials, rule)
    if "within" in rule:
        best = max(t.metrics["val/label_r2"] for t in trials)
        assert selection.chosen.metrics["val/label_r2"] >= 0.95 * best - 1e-12
    elif "best" in rule:
        best = max(t.metrics["val/label_r2"] for t in trials)
        assert selection.chosen.metrics["val/label_r2"] == best
    else:
        assert selection.chosen in pareto_front(trials, GOALS)


@settings(max_examples=60)
@given(TABLES)
def test_front_equals_brute_force(trials):
    def costs(t):
        return np.array([t.metrics["val/frame_mse"], -t.metrics["val/label_r2"]])

    def beaten(t):
        return any((costs(o) <= costs(t)).all() and (costs(o) < costs(t)).any() for o in trials)

    assert pareto_front(trials, GOALS) == [t for t in trials if not beaten(t)]
