"""A rule puts candidates into an order, best first."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from psvae_tune.config.metric_catalog import Goal, goal_of, is_metric, sign
from psvae_tune.config.selection_rule import SelectionRule
from psvae_tune.config.wording import and_list, pluralise, quote, to_digits
from psvae_tune.errors import StudyError
from psvae_tune.metrics.pareto import non_dominated
from psvae_tune.search.selection.candidates import WHERE, Candidate
from psvae_tune.search.selection.certainty import (
    Lead,
    error_of,
    explain_front,
    explain_limit,
    lead_in,
)

Key = tuple[float, ...]
_RELATIVE_ROUNDING = 1e-12  # 0.95 is within 5 % of 1 whatever its last bit


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates in the order of a rule, with the reasons."""

    order: tuple[Candidate, ...]
    """Candidates, best first; rules on a front order the front alone."""
    reasons: tuple[str, ...]
    lead: Lead | None
    """What puts the first before the second; None without one, or if a limit sets it aside."""


def rank(
    candidates: Sequence[Candidate],
    rule: SelectionRule,
    spread: Mapping[str, float | None],
    scale: float = 1.0,
) -> Ranking:
    """Put candidates into the order of a rule.

    Parameters
    ----------
    candidates
        Candidates that meet the rule's requirements; at least one.
    rule
        Rule of the stage.
    spread
        Standard deviation of each metric over seeds.
    scale
        Factor that multiplies the tolerance of ``within``.

    Raises
    ------
    StudyError
        If a tolerance of one standard error is asked for and no setting has several seeds.
    """
    if rule.within is not None:
        return _rank_within(candidates, rule, spread, scale)
    if rule.best is not None:
        return _rank_best(candidates, rule.best)
    is_kept = non_dominated(costs(candidates, rule.objectives))
    front = [one for one, kept in zip(candidates, is_kept, strict=True) if kept]
    others = [one for one, kept in zip(candidates, is_kept, strict=True) if not kept]
    ranking = _rank_front(front, rule, len(candidates))
    doubt = explain_front(front, others, rule.objectives)
    return replace(ranking, reasons=(*ranking.reasons, *doubt))


def _rank_front(front: list[Candidate], rule: SelectionRule, n_candidates: int) -> Ranking:
    if rule.knee is not None:
        return _rank_knee(front, rule, n_candidates)
    if rule.chebyshev is not None:
        return _rank_chebyshev(front, rule.chebyshev, n_candidates)
    order, tie = _sort(front, lambda candidate: _then_key(candidate, rule))
    names = and_list(map(quote, rule.objectives))
    if len(front) == 1:
        first = f"{front[0].label} alone is not dominated by another trial in {names}."
    else:
        first = f"No trial dominates {and_list(c.label for c in front)} in {names}."
    reasons = (first, *_explain_then(order[0], rule, len(front)), *tie)
    return Ranking(order, reasons, _then_lead(order, rule))


def costs(candidates: Sequence[Candidate], metrics: Sequence[str]) -> NDArray[np.float64]:
    """Return the (candidate, metric) table, with signs that make less the better."""
    return np.array(
        [[_cost(c, metric, goal_of(metric)) for metric in metrics] for c in candidates]
    )


def tolerated(best_cost: float, slack: float) -> float:
    """Return the highest cost that is about as good as the best one."""
    return best_cost + slack + _RELATIVE_ROUNDING * abs(best_cost)


def _rank_best(candidates: Sequence[Candidate], metric: str) -> Ranking:
    goal = goal_of(metric)
    order, tie = _sort(candidates, lambda candidate: (_cost(candidate, metric, goal),))
    chosen = order[0]
    first = (
        f"{chosen.label} has the {_extreme(metric, goal)} {quote(metric)} of "
        f"{_count(len(order))} ({to_digits(chosen.value(metric))})."
    )
    return Ranking(order, (first, *tie), _metric_lead(order, metric))


def _rank_within(
    candidates: Sequence[Candidate],
    rule: SelectionRule,
    spread: Mapping[str, float | None],
    scale: float,
) -> Ranking:
    assert rule.within is not None
    metric, tolerance = rule.within.metric, rule.within.tolerance
    goal = goal_of(metric)
    order, _ = _sort(candidates, lambda candidate: (_cost(candidate, metric, goal),))
    best, best_cost = order[0], _cost(order[0], metric, goal)
    if tolerance == "one_standard_error":
        deviation = spread[metric]
        if deviation is None:
            raise StudyError(
                WHERE,
                f"no standard error of {quote(metric)}, no setting was fitted with several seeds",
                "vary `rng_seed_model` in the stage or give the tolerance as a fraction",
            )
        slack = scale * deviation / math.sqrt(len(best.trials))
        what = f"{'one' if scale == 1 else to_digits(scale)} standard error ({to_digits(slack)})"
    else:
        slack = scale * tolerance * abs(best_cost)
        what = f"{to_digits(100 * scale * tolerance)} %"
    worst_cost = tolerated(best_cost, slack)
    inside = [c for c in order if _cost(c, metric, goal) <= worst_cost]
    outside = [c for c in order if _cost(c, metric, goal) > worst_cost]
    limit = sign(goal) * worst_cost
    named = and_list(f"{c.label} ({to_digits(c.value(metric))})" for c in inside)
    ranked, tie = _sort(inside, lambda candidate: _then_key(candidate, rule))
    first = (
        f"{best.label} has the {_extreme(metric, goal)} {quote(metric)} of {_count(len(order))} "
        f"({to_digits(best.value(metric))}); within {what} of it, at "
        f"{'most' if goal == 'min' else 'least'} {to_digits(limit)}, "
        f"{'is' if len(inside) == 1 else 'are'} {named}."
    )
    others = order[1:]  # the best one is inside whatever the limit
    doubt = explain_limit(others, metric, [limit] * len(others))
    reasons = (first, *doubt, *_explain_then(ranked[0], rule, len(inside)), *tie)
    return Ranking((*ranked, *outside), reasons, _then_lead(ranked, rule))


def _rank_knee(front: list[Candidate], rule: SelectionRule, n_candidates: int) -> Ranking:
    table, scaled = costs(front, rule.objectives), _unit_scaled(costs(front, rule.objectives))
    # On the unit square the ends of the front are (0, 1) and (1, 0), and less is better.
    distance = (1.0 - scaled.sum(axis=1)) / math.sqrt(2)
    rows = {c.identity: (-d, *row) for c, d, row in zip(front, distance, table, strict=True)}
    order, tie = _sort(front, lambda candidate: rows[candidate.identity])
    chosen, names = order[0], and_list(map(quote, rule.objectives))
    if (table == table[0]).all():
        first = f"{chosen.label} is best in both {names} of {_count(n_candidates)}."
    else:
        ends = and_list(front[i].label for i in table.argmin(axis=0))
        first = f"Of {_count(n_candidates)}, {len(front)} form the front of {names}, from {ends}. "
        if distance.max() > 0:
            first += (
                f"{chosen.label} is its knee, {to_digits(distance.max())} from the line between "
                "the ends, with both scaled to the unit square."
            )
        else:
            first += (
                f"None lies before the line between the ends, so there is no knee; "
                f"{chosen.label} is taken as the best in {quote(rule.objectives[0])}."
            )
    if distance.max() > 0:
        errors = np.linalg.norm(_scaled_errors(front, rule.objectives), axis=1) / math.sqrt(2)
        known = {c.identity: (d, e) for c, d, e in zip(front, distance, errors, strict=True)}
        lead = _distance_lead("the distance from the line", order, known)
    else:
        lead = _metric_lead(order, rule.objectives[0])
    return Ranking(order, (first, *tie), lead)


def _rank_chebyshev(
    front: list[Candidate], weights: Mapping[str, float], n_candidates: int
) -> Ranking:
    distances = _unit_scaled(costs(front, list(weights))) * np.array(list(weights.values()))
    errors = _scaled_errors(front, list(weights)) * np.array(list(weights.values()))
    known = {
        c.identity: (row.max(), error[row.argmax()])
        for c, row, error in zip(front, distances, errors, strict=True)
    }
    # Of equal largest distances, the smaller sum is better in the other metrics.
    rows = {c.identity: (row.max(), row.sum()) for c, row in zip(front, distances, strict=True)}
    order, tie = _sort(front, lambda candidate: rows[candidate.identity])
    chosen = distances[front.index(order[0])]
    parts = and_list(
        f"{to_digits(distance)} in {quote(metric)}"
        for metric, distance in zip(weights, chosen, strict=True)
    )
    first = (
        f"Of {_count(n_candidates)}, {order[0].label} comes nearest to the best of every metric "
        f"at once: weighted distances {parts}, with the front scaled to the unit square."
    )
    lead = _distance_lead("the largest weighted distance", order, known)
    return Ranking(order, (first, *tie), lead)


def _distance_lead(
    name: str, order: Sequence[Candidate], distances: Mapping[str, tuple[float, float]]
) -> Lead | None:
    """Return the lead of the first candidate by a distance; each has one, with its error."""
    if len(order) < 2:
        return None
    (first, first_error), (second, second_error) = (distances[c.identity] for c in order[:2])
    return Lead(name, abs(first - second), math.hypot(first_error, second_error))


def _scaled_errors(front: Sequence[Candidate], metrics: Sequence[str]) -> NDArray[np.float64]:
    """Return the (candidate, metric) errors of a front that is scaled to the unit square.

    Its ends are taken as known.
    """
    errors = np.array([[error_of(one, key) for key in metrics] for one in front])
    width = np.ptp(costs(front, metrics), axis=0)
    return np.divide(errors, width, out=np.zeros_like(errors), where=width > 0)


def _unit_scaled(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale each column of a front to [0, 1]; a column of equal values becomes 0."""
    low, width = table.min(axis=0), np.ptp(table, axis=0)
    return np.divide(table - low, width, out=np.zeros_like(table), where=width > 0)


def _cost(candidate: Candidate, key: str, goal: Goal) -> float:
    return sign(goal) * candidate.value(key)


def _then_key(candidate: Candidate, rule: SelectionRule) -> Key:
    return tuple(_cost(candidate, key, goal) for key, goal in rule.then.items())


def _metric_lead(order: Sequence[Candidate], metric: str) -> Lead | None:
    return lead_in(order[0], order[1], metric) if len(order) > 1 else None


def _then_lead(order: Sequence[Candidate], rule: SelectionRule) -> Lead | None:
    """Return the lead in the first key of ``then`` in which the first two candidates differ."""
    if len(order) > 1:
        for key in rule.then:
            if order[0].value(key) != order[1].value(key):
                return lead_in(order[0], order[1], key)
    return None


def _sort(
    candidates: Sequence[Candidate], key: Callable[[Candidate], Key]
) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
    """Return candidates by key, then by label; with a remark if only the label made one first."""
    order = sorted(candidates, key=lambda c: (key(c), c.label, c.identity))
    tied = [c.label for c in order[1:] if key(c) == key(order[0])]
    if not tied:
        return tuple(order), ()
    remark = f"{and_list(tied)} did exactly as well; {order[0].label} comes first by name."
    return tuple(order), (remark,)


def _explain_then(chosen: Candidate, rule: SelectionRule, n_left: int) -> tuple[str, ...]:
    if n_left == 1:
        return ()
    parts = and_list(
        f"the {_extreme(key, goal)} {quote(key)} ({to_digits(chosen.value(key))})"
        for key, goal in rule.then.items()
    )
    return (f"Of these, {chosen.label} is taken for {parts}.",)


def _extreme(key: str, goal: Goal) -> str:
    if is_metric(key):
        return "lowest" if goal == "min" else "highest"
    return "smallest" if goal == "min" else "largest"


def _count(n_candidates: int) -> str:
    return pluralise(n_candidates, "candidate")
