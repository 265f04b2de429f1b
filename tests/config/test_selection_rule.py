import math

import pytest
import yaml

from psvae_tune.config.metric_catalog import METRICS, STAGE_METRICS, goal_of, is_metric
from psvae_tune.config.model import AEConfig, PSVAEConfig
from psvae_tune.config.rule_check import check_rule
from psvae_tune.config.selection_rule import (
    Bound,
    SelectionRule,
    default_rule,
    parse_rule,
    total_shortfall,
)
from psvae_tune.errors import ConfigError

PS_VAE = PSVAEConfig.model_validate(
    {"model_class": "ps-vae", "n_ae_latents": 6, "ps_vae.alpha": 1, "ps_vae.beta": 1}
)
AE = AEConfig(model_class="ae", n_ae_latents=6)

GOOD = [
    "{best: val/latent_correlation, require: {val/active_units: all}}",
    "{within: {metric: val/label_r2, tolerance: 0.05}, then: {ps_vae.alpha: min}}",
    "{within: {metric: val/label_r2, tolerance: one_standard_error},"
    " then: {val/frame_mse: min, ps_vae.alpha: max}}",
    "{knee: [val/frame_mse, val/label_r2]}",
    "{pareto: [val/frame_mse, val/label_r2, val/leak_r2], then: {ps_vae.alpha: min}}",
    '{chebyshev: {val/frame_mse: 1, val/label_r2: 2}, require: {val/leak_r2: "<= 1e-1"}}',
    "{best: udr}",
]


@pytest.mark.parametrize("text", GOOD)
def test_rules_survive_a_round_trip_and_suit_the_model(text):
    rule = parse_rule(yaml.safe_load(text))
    assert SelectionRule.model_validate(rule.model_dump(mode="json")) == rule
    assert parse_rule(yaml.safe_load(yaml.safe_dump(rule.model_dump(mode="json")))) == rule
    space = {"ps_vae.alpha": [1.0, 2.0], "rng_seed_model": [0, 1]}
    assert list(check_rule(rule, PS_VAE, space)) == []


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        (">= 0.8", Bound(side=">=", limit=0.8)),
        ("<=-1.5e-3", Bound(side="<=", limit=-0.0015)),
        ("all", Bound(side=">=", limit="all")),
    ],
)
def test_bounds_are_read_and_written(text, bound):
    assert Bound.model_validate(text) == bound
    assert Bound.model_validate(str(bound)) == bound
    assert Bound.model_validate(bound.model_dump(mode="json")) == bound


@pytest.mark.parametrize(("side", "expected"), [(">=", 0.25), ("<=", -0.25)])
def test_shortfall_is_positive_where_a_bound_is_missed(side, expected):
    assert Bound(side=side, limit=1).shortfall(value=0.75, limit=1.0) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{best: val/a, knee: [val/a, val/b]}",
            "must hold exactly one of `best`, `within`, `knee`, `pareto`, `chebyshev`, "
            "got {'best': 'val/a', 'knee': ['val/a', 'val/b']}",
        ),
        (
            "{within: {metric: val/a, tolerance: 5}, then: {b: min}}",
            "within.tolerance: must be a fraction from 0 to 1 or `one_standard_error`, got 5",
        ),
        (
            "{best: val/a, require: {val/b: '> 3'}}",
            "require.val/b: must read like '>= 0.8', '<= 0.1' or 'all', got '> 3'",
        ),
        (
            "{best: val/a, require: {val/b: all}}",
            "`require`: `all` goes with active_units only, not `val/b`, "
            "got {'best': 'val/a', 'require': {'val/b': 'all'}}",
        ),
        (
            "{pareto: [val/a, val/b]}",
            "`pareto` needs a `then`, got {'pareto': ['val/a', 'val/b']}",
        ),
        (
            "{best: val/a, then: {b: min}}",
            "`best` takes no `then`, got {'best': 'val/a', 'then': {'b': 'min'}}",
        ),
        (
            "{knee: [val/a, val/a]}",
            "`knee` names a metric twice, got {'knee': ['val/a', 'val/a']}",
        ),
        ("{bets: val/a}", "bets: not a known setting; did you mean `best`?"),
        ("{chebyshev: {val/a: 1, val/b: 0}}", "chebyshev.val/b: input should be greater than 0"),
    ],
)
def test_bad_rules_say_what_is_wrong(text, message):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_rule(yaml.safe_load(text))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "model", "problem"),
    [
        (
            "{best: val/lable_r2}",
            PS_VAE,
            "best: not a known metric, got 'val/lable_r2'; did you mean `val/label_r2`?",
        ),
        (
            "{best: val/loss}",
            PS_VAE,
            "best: the weighted loss cannot be compared, it contains its own weights, "
            "got 'val/loss'",
        ),
        (
            "{knee: [val/frame_mse, val/label_r2]}",
            AE,
            "knee: `ae` has no predicted labels, got 'val/label_r2'",
        ),
        ("{best: urd}", PS_VAE, "best: not a known metric, got 'urd'; did you mean `udr`?"),
        (
            "{best: udr}",
            PS_VAE,
            "best: needs a stage with several values of rng_seed_model, got 'udr'",
        ),
        ("{best: udr}", AE, "best: `ae` has no posterior, got 'udr'"),
        (
            "{best: val/frame_mse, require: {val/active_units: all}}",
            AE,
            "require: `ae` has no posterior, got 'val/active_units'",
        ),
        (
            "{within: {metric: val/label_r2, tolerance: 0.1}, then: {ps_vae.alhpa: min}}",
            PS_VAE,
            "then: not varied by this stage, got 'ps_vae.alhpa'; did you mean `ps_vae.alpha`?",
        ),
        (
            "{within: {metric: val/label_r2, tolerance: 0.1}, then: {l2_reg: min}}",
            PS_VAE,
            "then: not varied by this stage, got 'l2_reg'; it varies `n_ae_latents` "
            "and `ps_vae.alpha`",
        ),
        (
            "{within: {metric: val/label_r2, tolerance: one_standard_error},"
            " then: {ps_vae.alpha: min}}",
            PS_VAE,
            "within.tolerance: needs a stage with several values of rng_seed_model, "
            "got 'one_standard_error'",
        ),
    ],
)
def test_rules_that_do_not_fit_say_why(text, model, problem):
    rule = parse_rule(yaml.safe_load(text))
    space = {"n_ae_latents": [6, 8], "ps_vae.alpha": [1.0, 2.0]}
    assert list(check_rule(rule, model, space)) == [problem]


def test_all_problems_are_reported_at_once():
    rule = parse_rule(
        {"pareto": ["val/a", "val/tc"], "then": {"b": "min"}, "require": {"val/c": ">= 0"}}
    )
    places = [
        problem.partition(":")[0] for problem in check_rule(rule, PS_VAE, {"ps_vae.beta": [1]})
    ]
    assert places == ["pareto", "then", "require"]


def test_every_metric_has_a_goal_and_nothing_else_does():
    for name, metric in METRICS.items():
        assert goal_of(f"val/{name}") == metric.goal
        assert is_metric(f"test/{name}")
    for name, metric in STAGE_METRICS.items():
        assert goal_of(name) == metric.goal
        assert is_metric(name)
    assert not is_metric("ps_vae.alpha")
    for name in ("val/loss", "frame_mse", "best/frame_mse", "ps_vae.alpha"):
        with pytest.raises(ConfigError):
            goal_of(name)


def test_default_rule_follows_the_number_of_objectives():
    one, two = {"val/frame_mse": "min"}, {"val/frame_mse": "min", "val/label_r2": "max"}
    three = {**two, "val/tc": "min"}
    assert parse_rule(default_rule(one)).best == "val/frame_mse"
    assert parse_rule(default_rule(two)).knee == ("val/frame_mse", "val/label_r2")
    assert parse_rule(default_rule(three)).chebyshev == dict.fromkeys(three, 1.0)
    with pytest.raises(ValueError, match="exactly one"):
        parse_rule(default_rule("nonsense"))


BOUNDS = {
    "val/label_r2": Bound.model_validate(">= 0.8"),
    "val/active_units": Bound.model_validate("all"),
}


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"val/label_r2": 0.9, "val/active_units": 4}, 0),
        ({"val/label_r2": 0.4, "val/active_units": 4}, 0.5),
        ({"val/label_r2": 0.9, "val/active_units": 1}, 0.75),
        ({"val/label_r2": 0.4, "val/active_units": 1}, 1.25),
        ({"val/label_r2": 9.0, "val/active_units": 1}, 0.75),
        ({"val/label_r2": 0.9}, math.inf),
    ],
    ids=str,
)
def test_shortfalls_add_up_relative_to_their_bounds_and_nothing_makes_up_for_them(
    metrics, expected
):
    assert total_shortfall(BOUNDS, metrics, 4) == pytest.approx(expected)


def test_a_bound_of_zero_is_missed_by_as_much_as_the_value():
    bounds = {"val/leak_r2": Bound.model_validate("<= 0")}
    assert total_shortfall(bounds, {"val/leak_r2": 0.3}, 2) == 0.3
    assert total_shortfall({}, {}, 2) == 0
