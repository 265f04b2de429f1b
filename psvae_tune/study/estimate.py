"""The cost of a study is estimated in epochs, beside the grid of everything that it varies."""

import math
from dataclasses import dataclass

from psvae_tune.config.selection_rule import SEED_PARAMETER
from psvae_tune.config.stage import Stage
from psvae_tune.config.stage_check import max_trial_epochs
from psvae_tune.config.study import Study
from psvae_tune.config.trial import TrialConfig, with_fewer_epochs
from psvae_tune.search.successive_halving import count_survivors, epoch_divisors


@dataclass(frozen=True, slots=True)
class Estimate:
    """The largest cost of a study, in epochs."""

    n_epochs: int | None
    """Epochs that the slot with the most work trains; None where only time limits a stage."""
    n_exhaustive: int | None
    """Epochs of the full grid over all stages; None where values are drawn from a range."""


def estimate_epochs(study: Study, n_slots: int = 1) -> Estimate:
    """Return the epochs that a study trains if no trial is stopped early.

    Parameters
    ----------
    study
        The study.
    n_slots
        Number of trials that run at a time. A stage ends before the next one begins.
    """
    parts = [
        count_epochs(stage, study.base, i > 0, n_slots) for i, stage in enumerate(study.stages)
    ]
    n_epochs = None if None in parts else sum(part for part in parts if part is not None)
    domains = {name: domain for stage in study.stages for name, domain in stage.space.items()}
    if any(domain.kind not in ("grid_search", "choice") for domain in domains.values()):
        return Estimate(n_epochs, None)
    n_trials = math.prod(len(domain.values) for domain in domains.values())
    n_longest = max(max_trial_epochs(stage, study.base) for stage in study.stages)
    return Estimate(n_epochs, n_trials * n_longest)


def count_epochs(
    stage: Stage, base: TrialConfig, has_trained_base: bool, n_slots: int
) -> int | None:
    """Return the epochs that a stage trains one after another; None if only time limits it.

    Parameters
    ----------
    stage
        The stage.
    base
        The settings that the study starts from.
    has_trained_base
        Whether an earlier stage has trained the settings that this one starts from. A grid that
        holds them then has one trial less to train.
    n_slots
        Number of trials that run at a time.
    """
    n_trials = stage.n_trials
    per_trial = max_trial_epochs(stage, base)
    n_granted = None
    if stage.num_epochs is not None:
        n_rounds = math.ceil(stage.num_epochs / (per_trial * n_slots))
        n_granted = min(n_rounds * per_trial, stage.num_epochs)
    if n_trials is None:
        return n_granted
    if stage.fidelity is not None:
        return _count_halving(stage, n_trials, base, n_slots)
    params = base.params
    is_known = has_trained_base and all(
        stage.algorithm == "grid" and params[name] in domain.values
        for name, domain in stage.space.items()
    )
    n_epochs = math.ceil((n_trials - is_known) / n_slots) * per_trial
    return n_epochs if n_granted is None else min(n_epochs, n_granted)


def _count_halving(stage: Stage, n_trials: int, base: TrialConfig, n_slots: int) -> int:
    assert stage.fidelity is not None
    factor = stage.fidelity.schedule.reduction_factor
    seeds = stage.space.get(SEED_PARAMETER)
    n_seeds = 1 if seeds is None else len(seeds.values)
    n_epochs, n_left = 0, n_trials
    for divisor in epoch_divisors(n_trials, factor):
        n_rounds = math.ceil(n_left / n_slots)
        n_epochs += n_rounds * with_fewer_epochs(base, divisor).training.max_n_epochs
        n_left = count_survivors(n_left, factor, stage.select, n_seeds)
    return n_epochs + math.ceil(n_left / n_slots) * base.training.max_n_epochs
