"""Rules that choose one trial of a stage, as they stand in a search-space file.

::

    {best: val/latent_correlation, require: {val/active_units: all}}
    {within: {metric: val/label_r2, tolerance: 0.05}, then: {ps_vae.alpha: min}}
    {within: {metric: val/label_r2, tolerance: one_standard_error}, then: {val/frame_mse: min}}
    {knee: [val/frame_mse, val/label_r2]}
    {pareto: [val/frame_mse, val/label_r2], then: {ps_vae.alpha: min}}
    {chebyshev: {val/frame_mse: 1, val/label_r2: 2}, require: {val/leak_r2: "<= 0.1"}}
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_serializer, model_validator

from psvae_tune.config.hidden_labels import HIDDEN
from psvae_tune.config.metric_catalog import Goal, is_metric
from psvae_tune.config.settings import Settings, parse_settings

SEED_PARAMETER = "rng_seed_model"
"""Hyperparameter whose values are fits of the same settings."""
REPEATED = (SEED_PARAMETER, HIDDEN)
"""Hyperparameters whose values repeat one setting: a choice compares means over them."""

_BOUND = re.compile(r"(>=|<=)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)")


class Bound(Settings):
    """Lower or upper bound of a metric, written ``">= 0.8"``, ``"<= 0.1"`` or ``all``."""

    side: Literal[">=", "<="]
    """Side of the limit on which values meet the bound."""
    limit: float | Literal["all"]
    """Limit of the metric; ``all`` stands for the trial's number of unsupervised latents."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            return raw
        if raw == "all":
            return {"side": ">=", "limit": "all"}
        match = _BOUND.fullmatch(raw.strip()) if isinstance(raw, str) else None
        if match is None:
            raise ValueError("must read like '>= 0.8', '<= 0.1' or 'all'")
        return {"side": match[1], "limit": float(match[2])}

    @model_serializer
    def __str__(self) -> str:
        return "all" if self.limit == "all" else f"{self.side} {self.limit}"

    def misuse(self, metric: str) -> str | None:
        """Say why a metric cannot have this bound, or return None."""
        if self.limit == "all" and metric.rpartition("/")[2] != "active_units":
            return f"`all` goes with active_units only, not `{metric}`"
        return None

    def shortfall(self, value: float, limit: float) -> float:
        """Return the distance of a value from meeting a limit; 0 or less if it meets it."""
        return limit - value if self.side == ">=" else value - limit


def shortfalls(
    bounds: Mapping[str, Bound], metrics: Mapping[str, float], n_unsupervised: int
) -> dict[str, float]:
    """Return the distance of a trial from meeting each bound.

    Parameters
    ----------
    bounds
        Bounds by the names of their metrics.
    metrics
        Metrics of the trial.
    n_unsupervised
        Number of the trial's unsupervised latents, which ``all`` stands for.

    Returns
    -------
    dict of str to float
        Distances by metric: 0 or less for a bound that is met, nan for an unknown metric.
    """
    return {
        key: bound.shortfall(
            metrics.get(key, math.nan), n_unsupervised if bound.limit == "all" else bound.limit
        )
        for key, bound in bounds.items()
    }


def total_shortfall(
    bounds: Mapping[str, Bound], metrics: Mapping[str, float], n_unsupervised: int
) -> float:
    r"""Return the relative distance of a trial from meeting all bounds; 0 if it meets them.

    .. math:: \sum_k \max(0, s_k) / |b_k|

    with :math:`s_k` the `shortfalls` and :math:`b_k` the limits. A limit of 0 is taken as 1. An
    unknown metric makes the distance infinite. The parameters are those of `shortfalls`.
    """
    total = 0.0
    for key, missed in shortfalls(bounds, metrics, n_unsupervised).items():
        limit = bounds[key].limit
        scale = abs(n_unsupervised if limit == "all" else limit) or 1.0
        total += math.inf if math.isnan(missed) else max(0.0, missed) / scale
    return total


class Within(Settings):
    """Trials whose metric is about as good as the best."""

    metric: str
    """Metric with its split, for example ``val/label_r2``."""
    tolerance: float | Literal["one_standard_error"]
    """Distance from the best value: a fraction of it, or its standard error over seeds."""

    @field_validator("tolerance", mode="before")
    @classmethod
    def _is_a_fraction(cls, raw: Any) -> Any:
        if raw == "one_standard_error":
            return raw
        if not isinstance(raw, int | float) or isinstance(raw, bool) or not 0 <= raw <= 1:
            raise ValueError("must be a fraction from 0 to 1 or `one_standard_error`")
        return float(raw)


class SelectionRule(Settings):
    """Rule that chooses one trial of a stage; exactly one of the first five fields is given."""

    best: str | None = None
    """Metric whose best trial is chosen."""
    within: Within | None = None
    """Trials about as good as the best, among which ``then`` decides."""
    knee: Annotated[tuple[str, ...], Field(min_length=2, max_length=2)] | None = None
    """Two metrics; the trial on their front farthest from the line between its ends is chosen."""
    pareto: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """Metrics; among the trials that no other dominates in them, ``then`` decides."""
    chebyshev: Annotated[dict[str, Annotated[float, Field(gt=0)]], Field(min_length=2)] | None = (
        None
    )
    """Weights of metrics; the trial with the smallest largest weighted distance is chosen.

    The distance in a metric is that from the best value of all trials.
    """
    then: dict[str, Goal] = Field(default_factory=dict)
    """Metrics or hyperparameters that decide between trials, compared in this order."""
    require: dict[str, Bound] = Field(default_factory=dict)
    """Bounds of metrics that a trial must meet to be considered."""

    @model_validator(mode="after")
    def _is_one_rule(self) -> Self:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            names = ", ".join(f"`{name}`" for name in KINDS)
            raise ValueError(f"must hold exactly one of {names}")
        if (self.kind in ("within", "pareto")) != bool(self.then):
            needs = "needs a `then`" if not self.then else "takes no `then`"
            raise ValueError(f"`{self.kind}` {needs}")
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"`{self.kind}` names a metric twice")
        for name, bound in self.require.items():
            if problem := bound.misuse(name):
                raise ValueError(f"`require`: {problem}")
        return self

    @property
    def kind(self) -> str:
        """Name of the rule, one of `KINDS`."""
        return next(name for name in KINDS if getattr(self, name) is not None)

    @property
    def objectives(self) -> tuple[str, ...]:
        """Metrics that the rule compares first."""
        if self.within is not None:
            return (self.within.metric,)
        if self.best is not None:
            return (self.best,)
        return tuple(self.knee or self.pareto or self.chebyshev or ())

    @property
    def has_seed_tolerance(self) -> bool:
        """Whether the tolerance of ``within`` is a standard error over seeds."""
        return self.within is not None and self.within.tolerance == "one_standard_error"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that the rule reads."""
        names = (*self.objectives, *filter(is_metric, self.then), *self.require)
        return tuple(dict.fromkeys(names))


KINDS = ("best", "within", "knee", "pareto", "chebyshev")
"""Names of the rules, which are fields of `SelectionRule`."""


def parse_rule(raw: Any) -> SelectionRule:
    """Return the selection rule for the contents of ``select`` in a search-space file.

    Raises
    ------
    ValueError
        If the rule is invalid; the message names every problem.
    """
    problems: list[str] = []
    rule = (
        raw if isinstance(raw, SelectionRule) else parse_settings(SelectionRule, raw, "", problems)
    )
    if rule is None:
        raise ValueError("; ".join(problem.removeprefix(": ") for problem in problems))
    return rule


def default_rule(objectives: Any) -> dict[str, Any]:
    """Return the contents of ``select`` for a stage that has none.

    With one objective the best trial is chosen, with two the knee of their front, with more the
    trial nearest to the best in all of them alike.
    """
    names = list(objectives) if isinstance(objectives, Mapping) else []
    if len(names) < 2:
        return {"best": names[0]} if names else {}
    return {"knee": names} if len(names) == 2 else {"chebyshev": dict.fromkeys(names, 1.0)}
