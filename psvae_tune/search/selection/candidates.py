"""Candidates for a choice: settings with their metrics, averaged over seeds."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psvae_tune.config.hidden_labels import HIDDEN
from psvae_tune.config.metric_catalog import LEAST_ACTIVE
from psvae_tune.config.selection_rule import REPEATED, Bound
from psvae_tune.config.wording import and_list, pluralise, quote, to_digits
from psvae_tune.errors import ConfigError, StudyError
from psvae_tune.tracking.trial_result import N_UNSUPERVISED, TrialResult

Requirements = Mapping[str, Bound]
"""Bounds by the names of their metrics."""

WHERE = "selection"
"""Place that errors of a selection name."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The completed trials of one setting, which differ at most in their seed."""

    label: str
    trials: tuple[TrialResult, ...]
    metrics: Mapping[str, float]
    """Metrics that the rule compares, each the mean over the trials."""

    @property
    def identity(self) -> str:
        """Identity of the first trial, which no other candidate has; labels may repeat."""
        return self.trials[0].trial_id

    def value(self, key: str) -> float:
        """Return a metric or a numeric hyperparameter.

        Raises
        ------
        ConfigError
            If there is no such number.
        """
        if key in self.metrics:
            return self.metrics[key]
        value = self.trials[0].params.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(WHERE, f"{quote(key)} of {self.label} is no number, got {value!r}")
        return float(value)

    def split(self) -> tuple["Candidate", ...]:
        """Return each trial as a candidate of its own."""
        return tuple(
            Candidate(trial.name, (trial,), {m: trial.metrics[m] for m in self.metrics})
            for trial in self.trials
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """All candidates of a stage."""

    candidates: tuple[Candidate, ...]
    remarks: tuple[str, ...]
    """Sentences on trials that were set aside or averaged."""
    spread: Mapping[str, float | None]
    """Standard deviation of each metric over seeds; None where no setting has several."""


def gather(trials: Iterable[TrialResult], metrics: Sequence[str]) -> Pool:
    r"""Return the candidates that a rule can choose from.

    The spread of a metric is pooled over settings :math:`i` of :math:`n_i` seeds,

    .. math:: s^2 = \sum_i (n_i - 1) s_i^2 \Big/ \sum_i (n_i - 1)

    Parameters
    ----------
    trials
        Trials of a stage; their order does not matter.
    metrics
        Metrics that the rule of the stage reads. A trial takes part if all are finite in it.

    Raises
    ------
    StudyError
        If no trial takes part.
    """
    trials = sorted(trials, key=lambda trial: (trial.name, trial.trial_id))
    flaws = {trial.trial_id: _flaw(trial, metrics) for trial in trials}
    usable = [trial for trial in trials if flaws[trial.trial_id] is None]
    aside = [f"{trial.name} ({flaw})" for trial in trials if (flaw := flaws[trial.trial_id])]
    if not usable:
        if not trials:
            raise StudyError(WHERE, "there is no trial to choose from")
        if not any(trial.completed for trial in trials):
            raise StudyError(WHERE, f"no trial completed, got {and_list(aside)}")
        raise StudyError(
            WHERE, f"no completed trial has what the rule compares, got {and_list(aside)}"
        )
    settings: dict[str, list[TrialResult]] = {}
    for trial in usable:
        settings.setdefault(_setting(trial), []).append(trial)
    groups = _with_all_parts(list(settings.values()), aside)
    repeats = [part for group in groups for part in _by_part(group).values()]
    spread = {metric: _pooled_deviation(repeats, metric) for metric in metrics}
    remarks = [f"Set aside: {and_list(aside)}."] if aside else []
    if any(trial.was_stopped for trial in trials):
        remarks.append(
            "A trial has no sampling errors until it ends, so whether other clips would have "
            "stopped other trials is not known."
        )
    if len(groups) == 1 and len(usable) > 1:
        remarks.append(
            f"All trials differ only in {_repeated(usable)}, so each is compared alone."
        )
        groups = [[trial] for trial in usable]
    elif len(groups) < sum(map(len, groups)):
        remarks.append(
            f"Trials that differ only in {_repeated(usable)} are averaged: "
            f"{sum(map(len, groups))} trials of {len(groups)} settings."
        )
    candidates = tuple(
        Candidate(
            _label(group, groups),
            tuple(group),
            {m: _mean([trial.metrics[m] for trial in group]) for m in metrics},
        )
        for group in groups
    )
    return Pool(candidates, tuple(remarks), spread)


def _by_part(group: Iterable[TrialResult]) -> dict[Any, list[TrialResult]]:
    """Return the trials of a setting by the labels that were hidden from them."""
    parts: dict[Any, list[TrialResult]] = {}
    for trial in group:
        parts.setdefault(trial.params.get(HIDDEN), []).append(trial)
    return parts


def _with_all_parts(groups: list[list[TrialResult]], aside: list[str]) -> list[list[TrialResult]]:
    """Return the settings that have a trial with each part hidden that any setting has.

    A mean over fewer parts may be one over the easy ones. Side effects: names the others.
    """
    most = max(len(_by_part(group)) for group in groups)
    whole = [group for group in groups if len(_by_part(group)) == most]
    why = "not each part was hidden from its setting"
    aside += [f"{trial.name} ({why})" for group in groups if group not in whole for trial in group]
    return whole


def meet_requirements(candidates: Sequence[Candidate], require: Requirements) -> list[Candidate]:
    """Return the candidates that meet the requirements of a rule.

    The mean over seeds must meet them, and so must at least one of the fits, because it is a fit
    that is chosen.

    Raises
    ------
    StudyError
        If there is none; the hint names the nearest candidate, or fit, and what it lacks.
    """
    on_average = [one for one in candidates if not missed_requirements(one, require)]
    meeting = [one for one in on_average if meeting_fits(one, require)]
    if meeting:
        return meeting
    required = and_list(f"{quote(metric)} {bound}" for metric, bound in require.items())
    nearest, missed = min(
        (
            (one, missed_requirements(one, require))
            for candidate in candidates
            for one in (candidate.split() if candidate in on_average else (candidate,))
        ),
        key=lambda pair: (len(pair[1]), max(pair[1].values())),
    )
    lacks = []
    for metric in missed:
        bound, limit = require[metric], limit_of(nearest, require[metric])
        value = nearest.value(metric)
        side = "below" if bound.side == ">=" else "above"
        lacks.append(
            f"{quote(metric)} is {to_digits(value)}, "
            f"{to_digits(bound.shortfall(value, limit))} {side} {to_digits(limit)}"
        )
    raise StudyError(
        WHERE,
        f"no trial meets the requirement {required}",
        f"the nearest is {nearest.label}: {'; '.join(lacks)}",
    )


def meeting_fits(candidate: Candidate, require: Requirements) -> list[Candidate]:
    """Return the fits of a setting, each as a candidate of its own, that meet requirements."""
    return [one for one in candidate.split() if not missed_requirements(one, require)]


def missed_requirements(candidate: Candidate, require: Requirements) -> dict[str, float]:
    """Return the shortfall of every requirement that is not met, relative to its limit."""
    missed = {}
    for metric, bound in require.items():
        limit = limit_of(candidate, bound)
        shortfall = bound.shortfall(candidate.value(metric), limit)
        if shortfall > 0:
            missed[metric] = shortfall / (abs(limit) or 1.0)
    return missed


def limit_of(candidate: Candidate, bound: Bound) -> float:
    """Return the number that a requirement asks of a candidate."""
    return candidate.value(N_UNSUPERVISED) if bound.limit == "all" else bound.limit


def _flaw(trial: TrialResult, metrics: Sequence[str]) -> str | None:
    """Return the reason why a trial cannot take part; None if it can."""
    if trial.was_stopped:
        return "was stopped early"
    if not trial.completed:
        return "did not complete"
    for metric in metrics:
        if metric not in trial.metrics:
            return f"has no {quote(metric)}{_explain_absence(metric)}"
        if not math.isfinite(trial.metrics[metric]):
            return f"{quote(metric)} is {trial.metrics[metric]}"
    return None


def _explain_absence(key: str) -> str:
    n_latents = LEAST_ACTIVE.get(key.removeprefix("val/"))
    if n_latents is None:
        return ""
    return f", which takes {pluralise(n_latents, 'active unsupervised latent')}"


def _setting(trial: TrialResult) -> str:
    # The number of unsupervised latents follows from the other settings.
    aside = {*REPEATED, N_UNSUPERVISED}
    params = {name: value for name, value in trial.params.items() if name not in aside}
    return json.dumps(params, sort_keys=True)


def _repeated(trials: Sequence[TrialResult]) -> str:
    """Return the names of the repetitions that trials differ in."""
    names = [name for name in REPEATED if len({t.params.get(name) for t in trials}) > 1]
    return and_list(map(quote, names or REPEATED[:1]))


def _label(group: list[TrialResult], groups: list[list[TrialResult]]) -> str:
    """Name a setting by what varies between settings; a single trial has its own name."""
    if len(group) == 1:
        return group[0].name
    first = group[0].params
    varied = [
        name
        for name in sorted(first)
        if name not in (*REPEATED, N_UNSUPERVISED)
        and any(other[0].params.get(name) != first[name] for other in groups)
    ]
    values = " ".join(f"{name.rpartition('.')[2]}={first[name]}" for name in varied)
    what = "seeds" if _repeated(group) == quote(REPEATED[0]) else "fits"
    return f"{values} ({len(group)} {what})"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _pooled_deviation(groups: list[list[TrialResult]], metric: str) -> float | None:
    squares, freedom = [], 0
    for group in groups:
        values = [trial.metrics[metric] for trial in group]
        centre = _mean(values)
        squares += [(value - centre) ** 2 for value in values]
        freedom += len(values) - 1
    return math.sqrt(math.fsum(squares) / freedom) if freedom else None
