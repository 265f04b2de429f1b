"""Settings that stop trials early."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from psvae_tune.config.settings import Settings

GracePeriod = Annotated[int, Field(ge=1)] | Literal["anneal_end"]
"""Number of epochs; ``anneal_end`` stands for those of the annealing, but at least half of all."""


class Asha(Settings):
    """Asynchronous successive halving: at each rung the best fraction of the trials goes on."""

    grace_period: GracePeriod = "anneal_end"
    """Epoch of the first rung."""
    reduction_factor: Annotated[float, Field(gt=1)] = 3.0
    """Factor by which each rung has more epochs and fewer trials than the one before."""


class Schedule(Settings):
    """Successive halving whose cheap trials are complete trainings with fewer epochs.

    The epochs of the annealing are divided alike.
    """

    reduction_factor: Annotated[float, Field(gt=1)] = 3.0
    """Factor by which each round has longer trainings and fewer trials than the one before."""


class Fidelity(Settings):
    """Kind of the cheap trials that a stage begins with; written ``schedule`` in short."""

    schedule: Schedule
    """Settings of trials that are cheap because their whole schedule is shorter."""

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, raw: Any) -> Any:
        return {"schedule": {}} if raw == "schedule" else raw


FIRST_PART = 1 / 2
"""Part of a training before which trials are not compared.

`early_stopping.py` among the benchmarks measures what other parts cost and save.
"""

REJECTED_SCHEDULERS = {
    "hyperband": "it compares trials inside the annealing, and pausing them loses epochs",
    "bohb": "it compares trials inside the annealing, and pausing them loses epochs",
    "pbt": "it changes hyperparameters while a trial runs, so no trial stands for its own",
    "pb2": "it changes hyperparameters while a trial runs, so no trial stands for its own",
}
"""Other schedulers of Ray Tune, and the reason why their comparisons are not fair here."""


class MedianStopping(Settings):
    """Median rule: a trial ends when its best value is worse than the others' median.

    The median is that of the means of the other trials up to the same epoch.
    """

    grace_period: GracePeriod = "anneal_end"
    """Number of first epochs in which no trial is stopped, and which count in no mean."""
    min_trials: Annotated[int, Field(ge=1)] = 3
    """Number of other trials that must have reached an epoch before a trial is stopped there."""


class Scheduler(Settings):
    """Scheduler of a stage, which stops trials early; exactly one is given."""

    asha: Asha | None = None
    """Asynchronous successive halving."""
    median_stopping: MedianStopping | None = None
    """Median rule, for stages with one objective."""

    @model_validator(mode="before")
    @classmethod
    def _is_one_sound_scheduler(cls, raw: Any) -> Any:
        raw = {raw: {}} if isinstance(raw, str) else raw
        names = ", ".join(f"`{name}`" for name in cls.model_fields)
        if not isinstance(raw, Mapping) or len(raw) != 1:
            raise ValueError(f"must hold exactly one of {names}")
        (name,) = raw
        if name in REJECTED_SCHEDULERS:
            raise ValueError(
                f"`{name}` is not offered: {REJECTED_SCHEDULERS[name]}; use one of {names}, "
                "or `fidelity: schedule`"
            )
        return {name: {} if raw[name] is None else raw[name]}

    @property
    def grace_period(self) -> int | Literal["anneal_end"]:
        """Number of epochs before trials are compared."""
        chosen = self.asha or self.median_stopping
        assert chosen is not None
        return chosen.grace_period


def first_rung(grace_period: int | str, n_anneal_epochs: int, max_n_epochs: int) -> int:
    """Return the first epoch at which trials may be compared.

    Without an annealing, or with a short one, it lies where `FIRST_PART` says. Before, trials are
    in the order of how fast they learn.
    """
    if grace_period != "anneal_end":
        return int(grace_period)
    return max(n_anneal_epochs, math.ceil(FIRST_PART * max_n_epochs))


def rungs(asha: Asha, n_anneal_epochs: int, max_n_epochs: int) -> list[int]:
    r"""Return the epochs at which trials are compared, none in the annealing or at the end.

    .. math:: r_k = g \eta^k < n_{epochs}

    The first epoch is none of them, because it does not tell how fast a trial learns.
    """
    epochs: list[int] = []
    rung = float(first_rung(asha.grace_period, n_anneal_epochs, max_n_epochs))
    while round(rung) < max_n_epochs:
        if round(rung) > 1:
            epochs.append(round(rung))
        rung *= asha.reduction_factor
    return epochs
