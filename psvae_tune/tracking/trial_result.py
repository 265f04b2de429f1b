"""The part of a trial that a selection reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

N_UNSUPERVISED = "n_unsupervised_latents"
"""The entry of `TrialResult.params` that ``require: {val/active_units: all}`` asks for."""

Outcome = Literal["finished", "stopped", "failed"]
"""``stopped`` is what a scheduler does; a trial that was interrupted has no outcome yet."""
ParamValue = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The settings and metrics of one trial, as a selection compares them."""

    trial_id: str
    name: str
    params: Mapping[str, ParamValue]
    """Values of hyperparameters by published names, and the `N_UNSUPERVISED` that follows."""
    metrics: Mapping[str, float]
    """Values by keys with the split (``val/frame_mse``), or by a name of `STAGE_METRICS`."""
    completed: bool
    """False for a trial that was stopped early, failed or still runs."""
    was_stopped: bool = False
    """Whether it was stopped early, for being behind others."""
