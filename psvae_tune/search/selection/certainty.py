"""Say where a choice rests on less than the sampling error over clips."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from psvae_tune.config.metric_catalog import goal_of, is_metric, sign
from psvae_tune.config.wording import and_list, quote, to_digits
from psvae_tune.metrics.sampling_error import error_key
from psvae_tune.search.selection.candidates import Candidate


def error_of(candidate: Candidate, key: str) -> float:
    """Return the sampling error of a metric of a candidate.

    It is the mean over the candidate's seeds. All are scored on the same clips, so what is due to
    the clips does not average out.

    Returns
    -------
    float
        0 for a hyperparameter, nan for a metric without an error in some trial.
    """
    if not is_metric(key):
        return 0.0
    errors = [trial.metrics.get(error_key(key), math.nan) for trial in candidate.trials]
    mean = sum(errors) / len(errors)
    return mean if math.isfinite(mean) else math.nan


def explain_limit(candidates: Sequence[Candidate], key: str, limits: Sequence[float]) -> list[str]:
    """Return sentences on the candidates that are less than their error away from a limit.

    Parameters
    ----------
    candidates
        Candidates on either side.
    key
        Metric that has the limit.
    limits
        Limit of each candidate; each different one has a sentence of its own.
    """
    near: dict[float, list[tuple[str, str]]] = {}
    for candidate, limit in zip(candidates, limits, strict=True):
        error = error_of(candidate, key)
        if abs(candidate.value(key) - limit) < error:
            near.setdefault(limit, []).append((candidate.label, f"± {to_digits(error)}"))
    sentences = []
    for limit, found in near.items():
        labels, errors = (and_list(words) for words in zip(*found, strict=True))
        are, their_error, them = (
            ("is", "its sampling error", "it")
            if len(found) == 1
            else ("are", "their sampling errors", "them")
        )
        sentences.append(
            f"{labels} {are} less than {their_error} over clips ({errors}) away from the limit of "
            f"{quote(key)}, {to_digits(limit)}, so other clips may put {them} on the other side."
        )
    return sentences


@dataclass(frozen=True, slots=True)
class Lead:
    """How far the first candidate is ahead of the second in what decided."""

    name: str
    difference: float
    error: float
    """Sampling error of the difference; nan if it is not known.

    The errors e₁ and e₂ of the two make √(e₁² + e₂²). That is too large rather than too small,
    because both are scored on the same clips.
    """


def lead_in(first: Candidate, second: Candidate, key: str) -> Lead:
    """Return the lead in a metric or a hyperparameter."""
    difference = abs(first.value(key) - second.value(key))
    return Lead(quote(key), difference, math.hypot(error_of(first, key), error_of(second, key)))


def explain_lead(lead: Lead) -> list[str]:
    """Return a sentence if a lead may be due to the choice of the clips.

    A metric has no error with a single validation clip, and ``udr`` has none at all.
    """
    if math.isnan(lead.error):
        return [
            f"Whether other clips may decide otherwise is not known: {lead.name} has no sampling "
            "error over clips."
        ]
    if lead.difference >= lead.error:
        return []
    return [
        f"In what decided, {lead.name} (± {to_digits(lead.error)}), the two differ by less than "
        "the sampling error over clips, so other clips may decide otherwise."
    ]


def explain_front(
    front: Sequence[Candidate], others: Sequence[Candidate], keys: Sequence[str]
) -> list[str]:
    """Return a sentence on the candidates that other clips may put on the front.

    Parameters
    ----------
    front, others
        Candidates that no other dominates, and all others.
    keys
        Metrics of the front. Nothing is said of a candidate without an error in one of them.
    """
    near = [
        one.label
        for one in others
        if not any(math.isnan(error_of(one, key)) for key in keys)
        and not any(_surely_dominates(first, one, keys) for first in front)
    ]
    if not near:
        return []
    are, them = ("is", "it") if len(near) == 1 else ("are", "them")
    return [
        f"{and_list(near)} {are} dominated by less than the sampling error over clips, so other "
        f"clips may put {them} on the front."
    ]


def _surely_dominates(first: Candidate, second: Candidate, keys: Sequence[str]) -> bool:
    """Return whether the first is better in each metric by the error of the difference."""
    return all(
        sign(goal_of(key)) * (second.value(key) - first.value(key))
        >= lead_in(first, second, key).error
        for key in keys
    )
