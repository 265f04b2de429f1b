"""Check the selection rule of a stage: what would fail after all training is refused before it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from psvae_tune.config.metric_catalog import NOT_ABOVE_ONE, NOT_NEGATIVE, is_metric
from psvae_tune.config.metric_check import metric_problem
from psvae_tune.config.model import ModelConfig
from psvae_tune.config.selection_rule import SEED_PARAMETER, Bound, SelectionRule
from psvae_tune.config.wording import and_list, quote
from psvae_tune.errors import nearest

Space = Mapping[str, Sequence[Any]]
"""Settings that each varied hyperparameter may have; of a range, those of its two ends."""


def check_rule(rule: SelectionRule, model: ModelConfig, space: Space) -> Iterator[str]:
    """Yield the problems of a rule, each after its place in the rule.

    Parameters
    ----------
    rule
        Rule of the stage.
    model
        Model of the trials; its capabilities decide which metrics there are.
    space
        Settings of the hyperparameters that the stage varies, by their published names.
    """
    has_seeds = len(set(space.get(SEED_PARAMETER, ()))) > 1
    needs_seeds = f"needs a stage with several values of {SEED_PARAMETER}"
    places = [(rule.kind, key) for key in rule.objectives]
    places += [("then", key) for key in rule.then]
    places += [("require", key) for key in rule.require]
    for place, key in places:
        if place == "then" and not is_metric(key):
            problem = _value_problem(key, space)
        else:
            problem = metric_problem(key, model, of_stage=True)
            if not problem and key == "udr" and not has_seeds:
                problem = f"{needs_seeds}, got 'udr'"
            if not problem and place == "require":
                problem = _bound_problem(key, rule.require[key])
        if problem:
            yield f"{place}: {problem}"
    if rule.has_seed_tolerance and not has_seeds:
        yield f"within.tolerance: {needs_seeds}, got 'one_standard_error'"


def _value_problem(name: str, space: Space) -> str | None:
    """Return why trials cannot be compared by a hyperparameter; None if they can."""
    if name not in space:
        near = nearest(name, space)
        varied = and_list(map(quote, sorted(space)))
        hint = f"did you mean `{near}`?" if near else f"it varies {varied}"
        return f"not varied by this stage, got {name!r}; {hint}"
    others = [
        value
        for value in space[name]
        if isinstance(value, bool) or not isinstance(value, int | float)
    ]
    if others:
        return f"compares numbers, got {name!r} with {and_list(map(repr, others))}"
    return None


def _bound_problem(key: str, bound: Bound) -> str | None:
    """Return why no trial can meet a bound; None if one can."""
    name = key.removeprefix("val/")
    if bound.limit == "all":
        return None
    if bound.side == ">=" and bound.limit > 1 and name in NOT_ABOVE_ONE:
        return f"{quote(key)} is never above 1, got '{bound}'"
    if bound.side == "<=" and bound.limit < 0 and name in NOT_NEGATIVE:
        return f"{quote(key)} is never below 0, got '{bound}'"
    return None
