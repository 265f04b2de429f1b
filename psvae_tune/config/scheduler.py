"""Settings of the early stopping of trials."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from psvae_tune.config.settings import Settings

GracePeriod = Annotated[int, Field(ge=1)] | Literal["anneal_end"]


class Asha(Settings):
    """Asynchronous successive halving: at each rung the best fraction of the trials goes on."""

    grace_period: GracePeriod = "anneal_end"
    """Epochs before the first rung."""
    reduction_factor: Annotated[float, Field(gt=1)] = 3.0


class Schedule(Settings):
    """Successive halving by complete trainings whose epochs, annealing included, are fewer."""

    reduction_factor: Annotated[float, Field(gt=1)] = 3.0


class Fidelity(Settings):
    """What a cheap trial is."""

    schedule: Schedule

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, raw: Any) -> Any:
        return {"schedule": {}} if raw == "schedule" else raw


# Other schedulers of Ray Tune, and why their comparisons would not be fair here.
REJECTED_SCHEDULERS = {
    "hyperband": "it compares trials inside the annealing, and pausing them loses epochs",
    "bohb": "it compares trials inside the annealing, and pausing them loses epochs",
    "pbt": "it changes hyperparameters while a trial runs, so no trial stands for its own",
    "pb2": "it changes hyperparameters while a trial runs, so no trial stands for its own",
}


class MedianStopping(Settings):
    """A trial ends when its best value is worse than the median of the others' means so far."""

    grace_period: GracePeriod = "anneal_end"
    """Epochs that neither stop a trial nor count in a mean."""
    min_trials: Annotated[int, Field(ge=1)] = 3
    """Other trials that must have got as far."""


class Scheduler(Settings):
    """What stops trials early; exactly one is given."""

    asha: Asha | None = None
    median_stopping: MedianStopping | None = None

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
        """Epochs before trials are compared."""
        chosen = self.asha or self.median_stopping
        assert chosen is not None
        return chosen.grace_period
