"""Say where a choice rests on less than the sampling error over clips."""

import math
from collections.abc import Sequence

from psvae_tune.config.wording import and_list, quote, to_digits
from psvae_tune.metrics.sampling_error import error_key
from psvae_tune.search.selection.candidates import Candidate


def sampling_error(candidate: Candidate, key: str) -> float | None:
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


def explain_limit(
    candidates: Sequence[Candidate], key: str, limits: Sequence[float], what: str
) -> list[str]:
    """Return a sentence on candidates that are on one side of a limit by less than their error.

    Parameters
    ----------
    candidates
        Candidates on either side.
    key
        Metric that has the limit.
    limits
        Limit of each candidate.
    what
        Words for the limit.
    """
    near = [
        f"{candidate.label} (± {to_digits(error)})"
        for candidate, limit in zip(candidates, limits, strict=True)
        if (error := sampling_error(candidate, key)) is not None
        and abs(candidate.value(key) - limit) < error
    ]
    if not near:
        return []
    are, their, them = ("is", "its", "it") if len(near) == 1 else ("are", "their", "them")
    return [
        f"{and_list(near)} {are} nearer to {what} than {their} sampling error over clips, "
        f"so other clips may put {them} on the other side."
    ]


def explain_lead(first: Candidate, second: Candidate, keys: Sequence[str]) -> list[str]:
    r"""Return a sentence if the first is ahead of the second by less than the error of that.

    The error of a difference is taken as :math:`\sqrt{e_1^2 + e_2^2}`. That is too large rather
    than too small, because both are scored on the same clips.

    Parameters
    ----------
    first, second
        The chosen candidate and the next one.
    keys
        Metrics and hyperparameters that put the first before the second.
    """
    parts = []
    for key in keys:
        errors = sampling_error(first, key), sampling_error(second, key)
        if errors[0] is None or errors[1] is None:
            return []
        error = math.hypot(errors[0], errors[1])
        if abs(first.value(key) - second.value(key)) >= error:
            return []
        parts.append(f"{quote(key)} (± {to_digits(error)})")
    if not parts:
        return []
    return [
        f"In what decided, {and_list(parts)}, the two differ by less than the sampling error over "
        "clips, so other clips may decide otherwise."
    ]
