"""``psvae-tune check``: print what a study would do, without doing it."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import click

from psvae_tune.api.studies import load_study
from psvae_tune.cli import epilogs, options
from psvae_tune.config.domain import Domain
from psvae_tune.config.scheduler import first_rung, rungs
from psvae_tune.config.stage import Stage
from psvae_tune.config.stage_settings import (
    EPOCHS,
    PossibleSettings,
    max_anneal_epochs,
    max_trial_epochs,
    possible_settings,
)
from psvae_tune.config.study_file import parse_set_options
from psvae_tune.config.trial import TrialConfig
from psvae_tune.config.wording import and_list, pluralise
from psvae_tune.errors import ConfigError
from psvae_tune.study.estimate import Estimate, count_rounds, estimate_epochs
from psvae_tune.study.plan import StudyPlan
from psvae_tune.study.study_capacity import measure_plan


@click.command(epilog=epilogs.CHECK)
@options.study_file
@options.sessions
@options.settings
@click.option(
    "--probe",
    "has_probe",
    is_flag=True,
    help="Train a few batches, and print the hours and the memory of the study.",
)
@options.verbose
def check(
    file: Path, sessions: tuple[str, ...], settings: tuple[str, ...], has_probe: bool
) -> None:
    """Check a search-space file, and print the plan of its study.

    The recordings are opened, and some of their frames read; nothing is trained.
    """
    plan = load_study(file, data=sessions, settings=parse_set_options(settings))
    found = measure_plan(plan)
    for line in describe_plan(found.plan):
        click.echo(line)
    for line in found.lines:
        click.echo(f"capacity   {line}")
    for warning in found.warnings:
        click.echo(f"warning    {warning}")
    if has_probe:
        for line in _describe_cost(plan):
            click.echo(line)


def describe_plan(plan: StudyPlan) -> Iterator[str]:
    """Yield the lines that describe a plan to a person."""
    study = plan.study
    possible = list(possible_settings(study.stages, study.base))
    n_each = [stage.n_trials for stage in study.stages]
    n_trials = "trials" if None in n_each else f"up to {sum(filter(None, n_each))} trials"
    longest = max(max(settings[EPOCHS]) for settings in possible)
    yield f"{study.base.model.model_class}: {n_trials} of up to {longest} epochs"
    for stage, settings in zip(study.stages, possible, strict=True):
        yield from _describe_stage(stage)
        yield from _describe_stopping(stage, study.base, settings)
        rule = stage.select
        yield f"  chosen by: {rule.kind} {', '.join(rule.objectives)}"
        if rule.require:
            bounds = ", ".join(f"{key} {bound}" for key, bound in rule.require.items())
            yield f"  required: {bounds}"
    header = plan.headers[0]
    shape = "×".join(str(size) for size in header.frame_shape)
    yield (
        f"data       {pluralise(len(plan.headers), 'session')}, "
        f"{pluralise(sum(h.n_clips for h in plan.headers), 'clip')}, "
        f"{pluralise(sum(h.n_frames for h in plan.headers), 'frame')} of {shape}, "
        f"{pluralise(header.n_labels, 'label')}"
    )
    splits = ", ".join(f"{name} {n}" for name, n in plan.count_split_frames().items())
    yield f"frames     {splits}"
    yield _describe_epochs(estimate_epochs(study))


def _describe_epochs(estimate: Estimate) -> str:
    if estimate.n_epochs is None:
        return "epochs     as many as the time allows"
    text = f"epochs     up to {estimate.n_epochs}"
    if estimate.n_exhaustive is not None:
        share = 100 * estimate.n_epochs / estimate.n_exhaustive
        text += f", {share:.0f} % of the {estimate.n_exhaustive} of the grid over all stages"
    return text


def _describe_cost(plan: StudyPlan) -> Iterator[str]:
    from psvae_tune.study.study_cost import measure_study

    cost = measure_study(plan)
    total = "" if cost.n_epochs is None else f", up to {_time(cost.epoch_s * cost.n_epochs)}"
    at_once = pluralise(cost.n_slots, "trial")
    yield f"time       {cost.epoch_s:.2g} s an epoch, {at_once} at a time{total}"
    yield (
        f"memory     {cost.recording_bytes / 2**20:.0f} MB of recordings, about "
        f"{cost.trial_bytes / 2**20:.0f} MB a trial"
    )


def _describe_stage(stage: Stage) -> Iterator[str]:
    algorithm = f"optuna ({stage.sampler or 'tpe'})" if stage.algorithm == "optuna" else None
    yield f"stage {stage.name}: {algorithm or stage.algorithm}, {_describe_budget(stage)}"
    width = max(len(name) for name in stage.space)
    for name, domain in stage.space.items():
        yield f"  {name:<{width}}  {_describe_domain(domain)}"
    if stage.points_to_evaluate:
        yield f"  tried first: {pluralise(len(stage.points_to_evaluate), 'point')}"
    goals = ", ".join(f"{key} {goal}" for key, goal in stage.objectives.items())
    yield f"  objectives: {goals}"


def _describe_stopping(
    stage: Stage, base: TrialConfig, possible: PossibleSettings
) -> Iterator[str]:
    """Yield a line on the trials that are not trained in full, if there are any."""
    if stage.fidelity is not None:
        assert stage.n_trials is not None
        longest = base.with_params({EPOCHS: max(possible[EPOCHS])})
        rounds = [
            f"{pluralise(n, 'trial')} of {pluralise(n_epochs, 'epoch')}"
            for n, n_epochs in count_rounds(stage, longest, stage.n_trials)
        ]
        yield f"  shorter first: at most {', then '.join(rounds)}"
    if stage.scheduler is not None:
        starts = [base] if stage.start_from else _list_starts(base, possible)
        found = sorted({_list_rungs(stage, start) for start in starts})
        asha = stage.scheduler.asha
        kept = f"the best 1 in {asha.reduction_factor:g}, the front" if asha else "the median"
        yield f"  stopped early: {' or '.join(_describe_rungs(stage, epochs) for epochs in found)}"
        yield f"  never stopped: {kept}, what may catch up, and what could be chosen"


def _list_starts(base: TrialConfig, possible: PossibleSettings) -> Iterator[TrialConfig]:
    """Yield the lengths of annealing and training that a stage may start from."""
    names = (*base.model.anneal_settings, EPOCHS)
    for values in itertools.product(*(possible[name] for name in names)):
        with suppress(ConfigError):  # an annealing that is longer than the training
            yield base.with_params(dict(zip(names, values, strict=True)))


def _list_rungs(stage: Stage, base: TrialConfig) -> tuple[int, ...]:
    """Return the epochs at which the trials of a stage are compared, or the first of them."""
    assert stage.scheduler is not None
    n_anneal_epochs = max_anneal_epochs(stage, base)
    n_epochs = max_trial_epochs(stage, base)
    if stage.scheduler.asha is not None:
        return tuple(rungs(stage.scheduler.asha, n_anneal_epochs, n_epochs))
    return (first_rung(stage.scheduler.grace_period, n_anneal_epochs, n_epochs),)


def _describe_rungs(stage: Stage, epochs: Sequence[int]) -> str:
    if stage.scheduler is not None and stage.scheduler.median_stopping is not None:
        return f"from epoch {epochs[0]} on"
    return f"at epoch {and_list(map(str, epochs))}" if epochs else "at no epoch"


def _describe_budget(stage: Stage) -> str:
    parts = []
    if stage.n_trials is not None:
        parts.append(pluralise(stage.n_trials, "trial"))
    if stage.num_epochs is not None:
        parts.append(pluralise(stage.num_epochs, "epoch"))
    if stage.time_budget_h is not None:
        parts.append(f"{stage.time_budget_h:g} h")
    text = " or ".join(parts)
    if stage.epochs is None:
        return text
    origin = "the choice before" if stage.start_from == "chosen" else "the nearest trial"
    return f"{text}, each {pluralise(stage.epochs, 'epoch')} on from {origin}"


def _describe_domain(domain: Domain) -> str:
    if domain.is_list:
        return " ".join(str(value) for value in domain.values)
    low, high, *step = domain.values
    text = f"{low} to {high}"
    if step:
        text += f" in steps of {step[0]}"
    return text + (", log" if domain.kind.startswith("log") else "")


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
