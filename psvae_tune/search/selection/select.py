"""A rule chooses a trial; the reasons say what a slightly different rule would have chosen."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psvae_tune.config.metric_catalog import STAGE_METRICS, Goal
from psvae_tune.config.selection_rule import Bound, SelectionRule, default_rule, parse_rule
from psvae_tune.config.wording import and_list, quote, to_digits
from psvae_tune.errors import StudyError
from psvae_tune.search.selection.candidates import (
    Candidate,
    Pool,
    Requirements,
    gather,
    limit_of,
    meet_requirements,
    meeting_fits,
)
from psvae_tune.search.selection.certainty import explain_lead, explain_limit
from psvae_tune.search.selection.ranking import Ranking, costs, rank
from psvae_tune.tracking.trial_result import TrialResult

_TIGHTER, _LOOSER = 0.9, 1.1


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen trial, with the reasons."""

    chosen: TrialResult
    rule: SelectionRule
    reasons: tuple[str, ...]
    """Plain sentences, in reading order."""
    sensitivity: Mapping[str, str | None]
    """Choice that each change of the rule would make: a trial, or a setting of several seeds.

    None where no trial would meet the requirements.
    """
    runner_up: TrialResult | None
    """The trial that comes second; None if there is only one."""

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of a stage in ``selection.json``."""
        metrics = {
            name: value if math.isfinite(value) else None
            for name, value in sorted(self.chosen.metrics.items())
        }
        return {
            "trial_id": self.chosen.trial_id,
            "name": self.chosen.name,
            "params": dict(self.chosen.params),
            "metrics": metrics,
            "rule": self.rule.model_dump(mode="json", exclude_defaults=True),
            "reasons": list(self.reasons),
            "sensitivity": dict(self.sensitivity),
            "runner_up": None if self.runner_up is None else self.runner_up.trial_id,
        }


def select(
    trials: Iterable[TrialResult], rule: SelectionRule, objectives: Mapping[str, Goal]
) -> Selection:
    """Choose a trial by a rule.

    Only completed trials whose metrics, as far as the rule reads them, are finite take part.
    Trials that differ only in ``rng_seed_model`` are one setting, compared by its mean and
    represented by its trial that is best in the rule's first metric. The mean and that trial meet
    what the rule requires. Where all trials differ only in the seed, they are compared one by one.
    Where the rule compares seeds and no two that can be compared have completed, the default rule
    of the objectives chooses, under the same requirements.

    Parameters
    ----------
    trials
        Trials of one stage; their order does not matter.
    rule
        Rule of the stage.
    objectives
        Objectives of the stage.

    Raises
    ------
    StudyError
        If no trial can be chosen. If none meets the requirements, the hint names the nearest.
    """
    trials, asked = list(trials), rule
    unknown = _unknown_of_seeds(trials, rule)
    if unknown is not None:
        rule = _without_seeds(rule, objectives)
    pool = gather(trials, rule.metrics)
    eligible, ranking = _decide(pool, rule)
    chosen = ranking.order[0]
    runner_up = ranking.order[1] if len(ranking.order) > 1 else None
    sensitivity: dict[str, str | None] = {}
    for change, changed, scale in _variants(rule):
        try:
            sensitivity[change] = _decide(pool, changed, scale)[1].order[0].label
        except StudyError:
            sensitivity[change] = None
    reasons = [
        *pool.remarks,
        *_explain_unknown(unknown, rule),
        *_explain_requirements(pool, eligible, rule.require),
        *ranking.reasons,
        *_explain_representative(chosen, rule),
        _explain_sensitivity(chosen, sensitivity),
        _explain_runner_up(chosen, runner_up, rule, pool),
    ]
    if ranking.lead is not None:
        reasons += explain_lead(ranking.lead)
    return Selection(
        chosen=_representative(chosen, rule),
        rule=asked,
        reasons=tuple(reasons),
        sensitivity=sensitivity,
        runner_up=None if runner_up is None else _representative(runner_up, rule),
    )


def _unknown_of_seeds(trials: Sequence[TrialResult], rule: SelectionRule) -> str | None:
    """Return what a rule compares between seeds and no trial tells; None if there is nothing."""
    completed = [trial for trial in trials if trial.completed]
    for key in rule.metrics:
        if key in STAGE_METRICS and not any(key in trial.metrics for trial in completed):
            return quote(key)
    if rule.within is not None and rule.has_seed_tolerance:
        metric = rule.within.metric
        if gather(trials, rule.metrics).spread[metric] is None:
            return f"standard error of {quote(metric)}"
    return None


def _without_seeds(rule: SelectionRule, objectives: Mapping[str, Goal]) -> SelectionRule:
    """Return the rule of a stage without ``select``, with what a rule requires of single fits."""
    require = {key: bound for key, bound in rule.require.items() if key not in STAGE_METRICS}
    return parse_rule(default_rule(objectives)).model_copy(update={"require": require})


def _decide(
    pool: Pool, rule: SelectionRule, scale: float = 1.0
) -> tuple[list[Candidate], Ranking]:
    eligible = meet_requirements(pool.candidates, rule.require)
    return eligible, rank(eligible, rule, pool.spread, scale)


def _variants(rule: SelectionRule) -> Iterator[tuple[str, SelectionRule, float]]:
    """Yield every change by 10 % of a number in a rule: its name, the rule, the scale."""
    for factor in (_TIGHTER, _LOOSER):
        if rule.has_seed_tolerance:
            yield f"a tolerance of {factor} standard errors", rule, factor
        elif rule.within is not None and rule.within.tolerance:
            tolerance = to_digits(100 * factor * float(rule.within.tolerance))
            yield f"a tolerance of {tolerance} %", rule, factor
        for metric, weight in (rule.chebyshev or {}).items():
            weights = {**(rule.chebyshev or {}), metric: factor * weight}
            changed = rule.model_copy(update={"chebyshev": weights})
            yield f"a weight of {to_digits(factor * weight)} for {quote(metric)}", changed, 1.0
        for metric, bound in rule.require.items():
            if bound.limit == "all" or bound.limit == 0:
                continue
            # Looser is lower for a floor and higher for a ceiling, whatever the sign.
            step = (factor - 1.0) * abs(bound.limit)
            limit = bound.limit - step if bound.side == ">=" else bound.limit + step
            require = {**rule.require, metric: Bound(side=bound.side, limit=limit)}
            changed = rule.model_copy(update={"require": require})
            yield f"{quote(metric)} {bound.side} {to_digits(limit)}", changed, 1.0


def _representative(candidate: Candidate, rule: SelectionRule) -> TrialResult:
    """Return the trial that is best in the rule's first metric, of those that meet the rule."""
    meeting = meeting_fits(candidate, rule.require)
    return meeting[int(costs(meeting, rule.objectives[:1])[:, 0].argmin())].trials[0]


def _explain_unknown(unknown: str | None, rule: SelectionRule) -> list[str]:
    if unknown is None:
        return []
    return [
        f"No setting has several finished seeds that tell {unknown}, so the choice is that of a "
        f"stage without `select`, by `{rule.kind}`."
    ]


def _explain_requirements(
    pool: Pool, eligible: list[Candidate], require: Requirements
) -> list[str]:
    if not require:
        return []
    required = and_list(f"{quote(metric)} {bound}" for metric, bound in require.items())
    reasons = [f"{len(eligible)} of {len(pool.candidates)} candidates meet {required}."]
    for metric, bound in require.items():
        limits = [limit_of(candidate, bound) for candidate in pool.candidates]
        reasons += explain_limit(pool.candidates, metric, limits)
    return reasons


def _explain_representative(chosen: Candidate, rule: SelectionRule) -> list[str]:
    if len(chosen.trials) == 1:
        return []
    name, n_seeds = _representative(chosen, rule).name, len(chosen.trials)
    best = f"{name} is best in {quote(rule.objectives[0])} and stands for it."
    if not rule.require:
        return [f"Of its seeds, {best}"]
    n_meeting = len(meeting_fits(chosen, rule.require))
    meet = "meets" if n_meeting == 1 else "meet"
    return [f"Of its {n_seeds} seeds, {n_meeting} {meet} the requirement; of these, {best}"]


def _explain_sensitivity(chosen: Candidate, sensitivity: Mapping[str, str | None]) -> str:
    if not sensitivity:
        return "The rule has no tolerance, bound or weight that could have been different."
    same = [change for change, label in sensitivity.items() if label == chosen.label]
    sentences = [f"With {and_list(same)} the choice would be the same."] if same else []
    for change, label in sensitivity.items():
        if label is None:
            sentences.append(f"With {change} no trial would be left.")
        elif label != chosen.label:
            sentences.append(f"With {change} the choice would be {label}.")
    return " ".join(sentences)


def _explain_runner_up(
    chosen: Candidate, runner_up: Candidate | None, rule: SelectionRule, pool: Pool
) -> str:
    if runner_up is None:
        return "There is no runner-up."
    parts = []
    for metric in rule.objectives:
        ours, theirs = chosen.value(metric), runner_up.value(metric)
        difference = abs(theirs - ours)
        text = f"a difference of {to_digits(difference)}"
        if spread := pool.spread[metric]:
            text += (
                f", {difference / spread:.1f} times the standard deviation over seeds "
                f"({to_digits(spread)})"
            )
        text = f"{quote(metric)} {to_digits(theirs)} against {to_digits(ours)}, {text}"
        parts.append(text)
    sentence = f"The runner-up is {runner_up.label}: {'; '.join(parts)}."
    if pool.spread[rule.objectives[0]] is None:
        sentence += (
            " Whether that is more than the spread over seeds is not known: "
            "no setting was fitted with several."
        )
    elif not any(pool.spread[metric] for metric in rule.objectives):
        sentence += " Seeds made no difference."
    return sentence
