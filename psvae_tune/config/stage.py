"""One stage of a study: its space, its algorithm, its objectives and its rule of choice."""

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from psvae_tune.config.domain import Domain
from psvae_tune.config.metric_catalog import STAGE_METRICS, Goal
from psvae_tune.config.scheduler import Fidelity, Scheduler
from psvae_tune.config.selection_rule import Bound, SelectionRule, default_rule, parse_rule
from psvae_tune.config.settings import Settings
from psvae_tune.errors import nearest

Algorithm = Literal["grid", "random", "optuna"]
Sampler = Literal["tpe", "nsga2", "gp"]
StartFrom = Literal["chosen", "neighbour"]

BUDGETS = ("num_trials", "num_epochs", "time_budget_h")
"""Settings that limit a stage; algorithms that sample need at least one of them."""
SAMPLER_ONLY = ("num_epochs", "time_budget_h", "points_to_evaluate")
"""Settings that a grid has no use for."""


class Stage(Settings):
    """One search of a space, which ends with the choice of one trial."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = "search"
    """Name of the stage, unique in its study."""
    algorithm: Algorithm = "grid"
    """Algorithm that proposes trials: every point of a grid, random draws, or Optuna."""
    sampler: Sampler | None = None
    """Sampler of Optuna; None stands for ``tpe``."""
    num_trials: Annotated[int, Field(ge=1)] | None = None
    """Largest number of different trials; None for no limit."""
    num_epochs: Annotated[int, Field(ge=1)] | None = None
    """Largest number of epochs that all trials of the stage train together; None for no limit."""
    time_budget_h: Annotated[float, Field(gt=0)] | None = None
    """Hours after which no trial begins; trials that run by then go on. None for no limit."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of the algorithm's random draws."""
    space: Annotated[dict[str, Domain], Field(min_length=1)]
    """Values that each varied hyperparameter may take, by its published name."""
    points_to_evaluate: tuple[dict[str, Any], ...] = ()
    """Points that are tried first; the algorithm samples the hyperparameters that they omit."""
    objectives: Annotated[dict[str, Goal], Field(min_length=1)]
    """Metrics that trials are compared by, each with the goal ``min`` or ``max``."""
    scheduler: Scheduler | None = None
    """Scheduler that stops trials early; None for none."""
    fidelity: Fidelity | None = None
    """Cheap trials that the stage begins with; None if every trial trains in full."""
    start_from: StartFrom | None = None
    """Trial whose last state each trial goes on from: the one that the stage before chose, or the
    nearest finished one of this stage and that. None for new initial weights."""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """Number of epochs of a trial with ``start_from``."""
    ramp_epochs: Annotated[int, Field(ge=0)] | None = None
    """Number of those epochs over which the weights of the loss change from those of the trial
    that is gone on from; None for a third."""
    select: SelectionRule
    """Rule that chooses one trial when the stage has ended."""

    @model_validator(mode="before")
    @classmethod
    def _with_default_rule(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and "constraints" in raw:
            raise ValueError(
                "`constraints` is not a setting of a stage; write the bounds as `require` in "
                "`select`, of which the sampler is told"
            )
        if isinstance(raw, Mapping) and "select" not in raw:
            return {**raw, "select": default_rule(raw.get("objectives", {}))}
        return raw

    @field_validator("select", mode="before")
    @classmethod
    def _rule(cls, raw: Any) -> Any:
        return parse_rule(raw)

    @model_validator(mode="after")
    def _algorithm_fits(self) -> Self:
        grids = [name for name, domain in self.space.items() if domain.kind == "grid_search"]
        if self.algorithm != "optuna" and self.sampler is not None:
            raise ValueError(f"algorithm `{self.algorithm}` takes no `sampler`; use `optuna`")
        if self.algorithm == "grid":
            self._check_grid(grids)
        elif grids:
            raise ValueError(
                f"algorithm `{self.algorithm}` samples, {', '.join(grids)} is a grid; use `choice`"
            )
        elif not any(getattr(self, name) for name in BUDGETS):
            names = ", ".join(BUDGETS)
            raise ValueError(f"algorithm `{self.algorithm}` needs a budget: one of {names}")
        return self

    def _check_grid(self, grids: list[str]) -> None:
        ranges = [name for name in self.space if name not in grids]
        if ranges:
            raise ValueError(f"a grid takes `grid_search` only, {', '.join(ranges)} is a range")
        for name in SAMPLER_ONLY:
            if getattr(self, name):
                raise ValueError(f"a grid runs every point once and takes no `{name}`")
        if self.num_trials not in (None, self.n_trials):
            raise ValueError(f"num_trials: the grid has {self.n_trials} trials")

    @model_validator(mode="after")
    def _scheduler_fits(self) -> Self:
        has_median = self.scheduler is not None and self.scheduler.median_stopping is not None
        if has_median and len(self.objectives) > 1:
            raise ValueError(
                "`median_stopping` compares one objective; with several use `asha`, which ranks "
                "by domination"
            )
        return self

    @model_validator(mode="after")
    def _fidelity_fits(self) -> Self:
        if self.fidelity is None:
            return self
        if self.scheduler is not None:
            raise ValueError("`fidelity` and `scheduler` both stop trials; give one of them")
        if self.algorithm == "optuna":
            raise ValueError(
                "`fidelity: schedule` needs all points at the start, which `optuna` does not "
                "have; use `scheduler`, or algorithm `grid` or `random`"
            )
        if self.num_epochs or self.time_budget_h:
            raise ValueError("`fidelity: schedule` takes its budget in num_trials")
        return self

    @model_validator(mode="after")
    def _start_fits(self) -> Self:
        if self.start_from is None:
            for name in ("epochs", "ramp_epochs"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` is for trials with `start_from`")
            return self
        if self.epochs is None:
            raise ValueError("`start_from` needs `epochs`, the length of its trials")
        if self.n_ramp_epochs > self.epochs:
            raise ValueError(
                f"ramp_epochs: must be at most the {self.epochs} epochs, got {self.ramp_epochs}"
            )
        if self.fidelity is not None:
            raise ValueError(
                "`fidelity` shortens trainings from new weights; leave it or `start_from` out"
            )
        if self.start_from == "neighbour" and self.scheduler is not None:
            raise ValueError(
                "`scheduler` stops trials that others would start from; leave it out, or use "
                "`start_from: chosen`"
            )
        return self

    @model_validator(mode="after")
    def _points_are_in_the_space(self) -> Self:
        for point in self.points_to_evaluate:
            for name, value in point.items():
                if name not in self.space:
                    near = nearest(name, self.space)
                    raise ValueError(
                        f"points_to_evaluate: `{name}` is not in the space"
                        + (f"; did you mean `{near}`?" if near else "")
                    )
                if not self.space[name].contains(value):
                    raise ValueError(
                        f"points_to_evaluate: {name} cannot be {value!r} in "
                        f"{self.space[name].to_yaml()}"
                    )
        return self

    @property
    def n_ramp_epochs(self) -> int:
        """Number of epochs over which weights change from those of another trial; 0 for none."""
        if self.start_from is None:
            return 0
        assert self.epochs is not None
        return self.epochs // 3 if self.ramp_epochs is None else self.ramp_epochs

    @property
    def requirements(self) -> dict[str, Bound]:
        """Bounds in ``select.require`` that concern one trial by itself.

        They bind the choice, and the sampler and the scheduler are told of them.
        """
        require = self.select.require
        return {key: bound for key, bound in require.items() if key not in STAGE_METRICS}

    @property
    def n_trials(self) -> int | None:
        """Largest number of trials; None if the budget of the stage does not count trials."""
        if self.algorithm == "grid":
            return math.prod(len(domain.values) for domain in self.space.values())
        return self.num_trials

    def grid(self) -> list[dict[str, Any]]:
        """Return every point of a grid, the last hyperparameter varying fastest."""
        names = list(self.space)
        columns = (self.space[name].values for name in names)
        return [dict(zip(names, point, strict=True)) for point in itertools.product(*columns)]
