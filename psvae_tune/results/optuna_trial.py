"""A trial in Optuna's words: its ranges, its state, its values and what it lacks."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from psvae_tune.config.domain import Domain
from psvae_tune.config.selection_rule import shortfalls
from psvae_tune.config.stage import Stage
from psvae_tune.results.trial_record import TrialRecord
from psvae_tune.tracking.trial_result import Outcome

INFEASIBLE = 1.0
"""What a finished trial lacks of a metric that it does not have."""


def to_distribution(domain: Domain) -> BaseDistribution:
    """Return Optuna's object for a domain."""
    if domain.is_list:
        return CategoricalDistribution([to_category(value) for value in domain.values])
    low, high = domain.values[:2]
    is_log = domain.kind.startswith("log")
    if "randint" in domain.kind:
        return IntDistribution(low, high - 1, log=is_log)
    if domain.kind == "quniform":
        step = domain.values[2]
        n_steps = math.floor((high - low) / step + 1e-9)
        return FloatDistribution(low, low + n_steps * step, step=step)
    return FloatDistribution(low, high, log=is_log)


def holds(domain: Domain, value: Any) -> bool:
    """Return whether a hyperparameter may have a value, which MLflow keeps as 50.0 for 50."""
    return value in domain.values if domain.is_list else domain.contains(value)


def find_distribution(domain: Domain, values: Sequence[Any]) -> BaseDistribution:
    """Return the distribution of a hyperparameter of which trials had some values."""
    if all(holds(domain, value) for value in values):
        return to_distribution(domain)
    # The file gives values in other words than trials have them: `n_labels + 2`.
    return CategoricalDistribution(list(dict.fromkeys(values)))


def to_category(value: Any) -> bool | int | float | str | None:
    """Return a value in a form that Optuna takes as a category: lists and mappings as JSON."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def to_outcome(
    stage: Stage, outcome: Outcome, metrics: Mapping[str, float], n_unsupervised: int
) -> dict[str, Any]:
    """Return how a trial has ended, as arguments of `optuna.trial.create_trial`.

    A trial that finished is complete; one that was stopped early, or that finished without a
    metric that the stage asks for, is pruned and tells what it lacks of the requirements; one
    that failed, or has a value that is no number, is failed.

    Parameters
    ----------
    stage
        Stage of the trial.
    outcome
        How the trial ended.
    metrics
        Metrics at its best epoch, by keys such as ``val/frame_mse``.
    n_unsupervised
        Number of the trial's unsupervised latents, which the bound ``all`` stands for.
    """
    values = [metrics.get(key, math.nan) for key in stage.objectives]
    constraints = shortfalls(stage.requirements, metrics, n_unsupervised)
    known = {key: missed for key, missed in constraints.items() if math.isfinite(missed)}
    if outcome == "stopped":
        return {"state": TrialState.PRUNED, "constraints": known}
    lacking = {*stage.objectives, *stage.requirements} - metrics.keys()
    if outcome == "finished" and lacking:
        # Collapsed latents have no measure of dependence, and the trial cannot be chosen.
        return {
            "state": TrialState.PRUNED,
            "constraints": {**known, **dict.fromkeys(lacking, INFEASIBLE)},
        }
    is_whole = all(map(math.isfinite, [*values, *constraints.values()]))
    if outcome == "failed" or not is_whole:
        return {"state": TrialState.FAIL}
    return {"state": TrialState.COMPLETE, "values": values, "constraints": constraints}


def find_outcome(record: TrialRecord) -> Outcome | None:
    """Return how a trial has ended; None if it runs."""
    if record.is_finished:
        return "finished"
    if record.status == "RUNNING":
        return None
    return "stopped" if record.status == "FINISHED" else "failed"
