"""Check a stage with the model that it varies, before anything is trained."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from psvae_tune.config.domain import Domain
from psvae_tune.config.metric_catalog import STAGE_METRICS, end_problem, metric_problem
from psvae_tune.config.rule_check import check_rule
from psvae_tune.config.selection_rule import SEED_PARAMETER
from psvae_tune.config.stage import Stage
from psvae_tune.config.trial import TrialConfig, epoch_settings
from psvae_tune.errors import ConfigError, nearest


def check_stage(stage: Stage, place: str, base: TrialConfig) -> Iterator[str]:
    """Yield the problems of a stage with the model that it varies."""
    for name, domain in stage.space.items():
        if name not in base.hyperparameters:
            problem = f"not a hyperparameter of `{base.model.model_class}`"
            if near := nearest(name, base.hyperparameters):
                problem += f"; did you mean `{near}`?"
            yield f"{place}.space.{name}: {problem}"
        else:
            yield from _value_problems(name, domain, place, base)
    for key in stage.objectives:
        if reason := metric_problem(key, base.model):
            yield f"{place}.objectives: {reason}"
    space = {name: _settings(name, domain, base) for name, domain in stage.space.items()}
    for problem in check_rule(stage.select, base.model, space):
        yield f"{place}.select: {problem}"
    yield from _stopping_problems(stage, place)
    yield from _grace_problems(stage, place, base)
    yield from _budget_problems(stage, place, base)


def _value_problems(name: str, domain: Domain, place: str, base: TrialConfig) -> Iterator[str]:
    """Yield the problems of the model with the values of one hyperparameter."""
    for value in domain.extremes:
        try:
            base.with_params({name: value})
        except ConfigError as error:
            for problem in error.problems:
                yield f"{place}.space.{name}: {problem.split(': ', 1)[1]}"


def _settings(name: str, domain: Domain, base: TrialConfig) -> list[Any]:
    """Return the settings that the extremes of a domain become, without invalid ones."""
    settings = []
    for value in domain.extremes:
        with suppress(ConfigError):
            settings.append(base.setting_of(name, value))
    return settings


def _budget_problems(stage: Stage, place: str, base: TrialConfig) -> Iterator[str]:
    """Yield the problems of a budget that is too small for one trial."""
    n_epochs = max_trial_epochs(stage, base)
    if stage.num_epochs is not None and stage.num_epochs < n_epochs:
        yield (
            f"{place}.num_epochs: must be at least the {n_epochs} epochs of one trial, "
            f"got {stage.num_epochs}"
        )


def max_trial_epochs(stage: Stage, base: TrialConfig) -> int:
    """Return the number of epochs of the longest trial of a stage."""
    domain = stage.space.get("max_n_epochs")
    return int(max(domain.extremes)) if domain else base.training.max_n_epochs


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
    if SEED_PARAMETER in stage.space and len(stage.space) > 1:
        yield (
            f"{place}.scheduler: stops single trials, and the rule compares means over "
            f"{SEED_PARAMETER}; vary the seed in a stage of its own"
        )
    if stage.sampler in ("nsga2", "gp"):
        yield (
            f"{place}.scheduler: leaves few finished trials, and `{stage.sampler}` learns from "
            "no others; use sampler `tpe`, or stop none"
        )


def _grace_problems(stage: Stage, place: str, base: TrialConfig) -> Iterator[str]:
    """Yield the problems of a rung that compares fits whose weights are still annealed."""
    if stage.fidelity is not None:
        for varied in sorted(set(stage.space) & set(epoch_settings(base))):
            yield f"{place}.fidelity: the schedule sets {varied}, which the space varies"
    if stage.scheduler is None or stage.scheduler.grace_period == "anneal_end":
        return
    grace = stage.scheduler.grace_period
    annealing = base.model.n_anneal_epochs
    name = base.model.anneal_setting
    if name in stage.space:
        annealing = max(stage.space[name].extremes)
    if grace < annealing:
        yield (
            f"{place}.scheduler: grace_period must be at least {name} ({annealing}), got {grace}"
        )


def check_latents(stage: Stage, place: str, base: TrialConfig, n_labels: int) -> Iterator[str]:
    """Yield the problems of numbers of latents that are too small for the labels."""
    background = stage.space.get("n_background")
    needed = base.model.count_supervised(n_labels)
    needed += max(background.extremes) if background else base.model.count_background()
    domain = stage.space.get("n_ae_latents")
    counts = domain.extremes if domain else (base.model.n_ae_latents,)
    for count in counts:
        if count < needed:
            where = f"{place}.space.n_ae_latents" if domain else "model.n_ae_latents"
            yield (
                f"{where}: must be at least {needed} for {n_labels} labels, got {count}; "
                "`n_labels + 2` gives two unsupervised latents for any recording"
            )
