"""Say where a choice rests on less than the sampling error over clips."""

import math
from collections.abc import Sequence

from psvae_tune.config.metric_catalog import is_metric
from psvae_tune.config.wording import and_list, quote, to_digits
from psvae_tune.metrics.sampling_error import error_key
from psvae_tune.search.selection.candidates import Candidate


def error_of(candidate: Candidate, key: str) -> float | None:
    """Return the sampling error of a metric of a candidate.

    It is the mean over the candidate's seeds. All are scored on the same clips, so what is due to
    the clips does not average out.

    Returns
    -------
    float or None
        None for a hyperparameter, and for a metric without an error in some trial.
    """
    errors = [trial.metrics.get(error_key(key)) for trial in candidate.trials]
    known = [error for error in errors if error is not None and math.isfinite(error)]
    return math.fsum(known) / len(known) if len(known) == len(errors) else None


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
        if error is not None and abs(candidate.value(key) - limit) < error:
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


def explain_lead(first: Candidate, second: Candidate, keys: Sequence[str]) -> list[str]:
    r"""Return a sentence if the first may be ahead of the second by chance of the clips.

    The error of a difference is taken as :math:`\sqrt{e_1^2 + e_2^2}`. That is too large rather
    than too small, because both are scored on the same clips. A metric has no error with a single
    validation clip, and ``udr`` has none at all.

    Parameters
    ----------
    first, second
        The chosen candidate and the next one.
    keys
        Metrics and hyperparameters that put the first before the second.
    """
    doubtful, unknown = [], []
    for key in keys:
        if not is_metric(key):
            return []
        errors = error_of(first, key), error_of(second, key)
        if errors[0] is None or errors[1] is None:
            unknown.append(quote(key))
            continue
        error = math.hypot(errors[0], errors[1])
        if abs(first.value(key) - second.value(key)) >= error:
            return []
        doubtful.append(f"{quote(key)} (± {to_digits(error)})")
    if unknown:
        return [
            f"Whether other clips may decide otherwise is not known: {and_list(unknown)} "
            f"{'has' if len(unknown) == 1 else 'have'} no sampling error over clips."
        ]
    if not doubtful:
        return []
    return [
        f"In what decided, {and_list(doubtful)}, the two differ by less than the sampling error "
        "over clips, so other clips may decide otherwise."
    ]
