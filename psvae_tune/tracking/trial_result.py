"""What a selection needs to know of one trial."""

from collections.abc import Mapping
from dataclasses import dataclass

ParamValue = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class TrialResult:
    """What a selection needs to know of one trial."""

    trial_id: str
    name: str
    params: Mapping[str, ParamValue]
    """Published names; also `N_UNSUPERVISED`, which is no hyperparameter but follows from them."""
    metrics: Mapping[str, float]
    """Keys with the split (``val/frame_mse``), or of `rules.STAGE_METRICS`."""
    completed: bool
    """False for a trial that was stopped early, failed or still runs."""
