"""Check a stage with the model that it varies, before anything is trained."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from psvae_tune.config.domain import Domain
from psvae_tune.config.metric_catalog import STAGE_METRICS
from psvae_tune.config.metric_check import end_problem, metric_problem
from psvae_tune.config.rule_check import check_rule
from psvae_tune.config.selection_rule import REPEATED
from psvae_tune.config.stage import Stage
from psvae_tune.config.stage_settings import EPOCHS, PossibleSettings
from psvae_tune.config.trial import NOT_IN_TRIAL_ID, TrialConfig, epoch_settings
from psvae_tune.config.wording import and_list
from psvae_tune.errors import ConfigError, nearest


def check_stage(
    stage: Stage, place: str, base: TrialConfig, possible: PossibleSettings
) -> Iterator[str]:
    """Yield the problems of a stage with the model that it varies.

    Parameters
    ----------
    stage
        The stage.
    place
        Its place in the file.
    base
        Settings of a trial that the study starts from.
    possible
        Settings that a trial of the stage may have, from `possible_settings`.
    """
    for name, domain in stage.space.items():
        if name in NOT_IN_TRIAL_ID:
            yield f"{place}.space.{name}: is not searched, because it changes no number of a trial"
        elif name not in base.hyperparameters:
            problem = f"not a hyperparameter of `{base.model.model_class}`"
            if near := nearest(name, base.hyperparameters):
                problem += f"; did you mean `{near}`?"
            yield f"{place}.space.{name}: {problem}"
        else:
            yield from _value_problems(name, domain, place, base)
    for key in stage.objectives:
        if reason := metric_problem(key, base.model):
            yield f"{place}.objectives: {reason}"
    space = {name: possible.get(name, ()) for name in stage.space}
    for problem in check_rule(stage.select, base.model, space):
        yield f"{place}.select: {problem}"
    yield from _start_problems(stage, place, base)
    yield from _stopping_problems(stage, place)
    yield from _grace_problems(stage, place, base, possible)
    yield from _budget_problems(stage, place, possible)


def _start_problems(stage: Stage, place: str, base: TrialConfig) -> Iterator[str]:
    """Yield what a trial that goes on from another cannot have otherwise than that one."""
    if stage.start_from is None:
        return
    weights = base.model.weighted_terms
    for name in stage.space:
        if name in base.hyperparameters and name not in weights:
            yield (
                f"{place}.space.{name}: cannot vary with `start_from`, whose trials go on from "
                f"another one; only weights of the loss can ({and_list(weights or ['none here'])})"
            )


def _value_problems(name: str, domain: Domain, place: str, base: TrialConfig) -> Iterator[str]:
    """Yield the problems of the model with the values of one hyperparameter."""
    if name == "decoder_variance" and "auto" in domain.values:
        yield f"{place}.space.{name}: `auto` is one number, which stands in `model`, got 'auto'"
    for value in domain.examples:
        try:
            base.with_params({name: value})
        except ConfigError as error:
            for problem in error.problems:
                subject, reason = problem.split(": ", 1)
                if not subject.endswith(f".{name}"):
                    reason = problem  # it is of another setting, which does not go with the value
                if value not in domain.extremes:
                    reason += f", which `{domain.kind}` may draw; use `randint` or `choice`"
                yield f"{place}.space.{name}: {reason}"


def check_pairs(stages: Sequence[tuple[Stage, str]], base: TrialConfig) -> Iterator[str]:
    """Yield pairs of values, each valid alone, that a trial could have and that are invalid.

    Parameters
    ----------
    stages
        The stages of a study, each with its place in the file. What one stage chooses meets the
        values of the stages after it.
    base
        Settings of a trial that the study starts from.
    """
    values: dict[str, list[Any]] = {}
    for stage, place in stages:
        for name, domain in stage.space.items():
            ends = domain.extremes
            if all(isinstance(value, int | float) for value in ends):
                ends = (min(ends), max(ends))
            values[name] = [value for value in ends if not _find_problem(base, {name: value})]
        for names in itertools.combinations(values, 2):
            for pair in itertools.product(*(values[name] for name in names)):
                params = dict(zip(names, pair, strict=True))
                if stage.space.keys() & set(names) and (problem := _find_problem(base, params)):
                    shown = and_list(f"{name} {value!r}" for name, value in params.items())
                    yield f"{place}.space: {shown} do not go together, {problem}"


def _find_problem(base: TrialConfig, params: Mapping[str, Any]) -> str | None:
    """Return a problem of settings with some hyperparameters changed; None if there is none."""
    try:
        base.with_params(params)
    except ConfigError as error:
        return error.problems[0]
    return None


def check_repeats(stage: Stage, place: str, base: TrialConfig) -> Iterator[str]:
    """Yield the values of a list that are one setting, such as ``1`` and ``1.0`` of a weight.

    They are one trial. A grid would have fewer trials than it seems, and a sampler would suggest
    one value after another and find that it knows the trial.

    The parameters are those of `check_stage`.
    """
    for name, domain in stage.space.items():
        first: dict[Any, Any] = {}
        for value in domain.values if domain.is_list else ():
            with suppress(ConfigError):  # `check_stage` tells what is wrong with the value
                setting = base.setting_of(name, value)
                if setting in first:
                    yield (
                        f"{place}.space.{name}: `{domain.kind}` holds the same value twice, "
                        f"got {first[setting]!r} and {value!r}"
                    )
                first.setdefault(setting, value)


def _budget_problems(stage: Stage, place: str, possible: PossibleSettings) -> Iterator[str]:
    """Yield the problems of a budget that is too small for one trial."""
    n_epochs = max(possible["max_n_epochs"])
    if stage.num_epochs is not None and stage.num_epochs < n_epochs:
        yield (
            f"{place}.num_epochs: must be at least the {n_epochs} epochs of one trial, "
            f"got {stage.num_epochs}"
        )


def _stopping_problems(stage: Stage, place: str) -> Iterator[str]:
    """Yield why trials that are stopped early could be those that the stage would choose."""
    rule = stage.select
    if stage.fidelity is not None:
        for key in STAGE_METRICS.keys() & set(rule.metrics):
            yield f"{place}.fidelity: drops trials before there is a {key!r} to choose by"
    if stage.scheduler is None:
        return
    for key in dict.fromkeys([*stage.objectives, *rule.objectives, *rule.require]):
        if problem := end_problem(key):
            yield (
                f"{place}.scheduler: compares trials while they run, and a metric is {problem}; "
                "use `fidelity: schedule`, or stop none"
            )
    if EPOCHS in stage.space:
        yield (
            f"{place}.scheduler: compares trials of one length, and the space varies {EPOCHS}; "
            "leave one of them out"
        )
    repeated = [name for name in REPEATED if name in stage.space]
    if repeated and len(stage.space) > 1:
        yield (
            f"{place}.scheduler: stops single trials, and the rule compares means over "
            f"{and_list(repeated)}; vary that in a stage of its own, or stop none"
        )
    if stage.sampler in ("nsga2", "gp"):
        yield (
            f"{place}.scheduler: leaves few finished trials, and `{stage.sampler}` learns from "
            "no others; use sampler `tpe`, or stop none"
        )


def _grace_problems(
    stage: Stage, place: str, base: TrialConfig, possible: PossibleSettings
) -> Iterator[str]:
    """Yield the problems of a rung that compares fits whose weights are still annealed."""
    if stage.fidelity is not None:
        for varied in sorted(set(stage.space) & set(epoch_settings(base))):
            yield f"{place}.fidelity: the schedule sets {varied}, which the space varies"
    if stage.scheduler is None or stage.scheduler.grace_period == "anneal_end":
        return
    grace = stage.scheduler.grace_period
    lengths = {name: max(possible[name]) for name in base.model.anneal_settings}
    if stage.start_from is not None:
        lengths = {"ramp_epochs": stage.n_ramp_epochs}
    for name, annealing in lengths.items():
        if grace < annealing:
            yield (
                f"{place}.scheduler: grace_period must be at least {name} ({annealing}), "
                f"got {grace}"
            )


def check_latents(
    stage: Stage, place: str, base: TrialConfig, possible: PossibleSettings, n_labels: int
) -> Iterator[str]:
    """Yield the problems of numbers of latents that are too small for the labels.

    The parameters are those of `check_stage`, and the number of labels of the recordings.
    """
    needed = base.model.count_supervised(n_labels) + max(possible.get("n_background", (0,)))
    where = "model.n_ae_latents"
    if "n_ae_latents" in stage.space:
        where = f"{place}.space.n_ae_latents"
    elif len(possible["n_ae_latents"]) > 1:
        where = f"{place}: n_ae_latents"
    for count in possible["n_ae_latents"]:
        if count < needed:
            yield (
                f"{where}: must be at least {needed} for {n_labels} labels, got {count}; "
                "`n_labels + 2` gives two unsupervised latents for any recording"
            )
