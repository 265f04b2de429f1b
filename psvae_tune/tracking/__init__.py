"""Everything that is written to MLflow; the only folder that imports it."""

from psvae_tune.tracking.models import download_model, find_model, log_model, register_model
from psvae_tune.tracking.runs import (
    DESCRIPTION,
    KIND,
    PARETO,
    SELECTED,
    STAGE,
    STOP_REASON,
    STUDY,
    TRIAL,
    RunStatus,
    StudyRun,
    TrackingTarget,
    TrialRun,
    close_trial,
    hide_password,
    metric_key,
    open_target,
)
from psvae_tune.tracking.views import save_view

__all__ = [
    "DESCRIPTION",
    "KIND",
    "PARETO",
    "SELECTED",
    "STAGE",
    "STOP_REASON",
    "STUDY",
    "TRIAL",
    "RunStatus",
    "StudyRun",
    "TrackingTarget",
    "TrialRun",
    "close_trial",
    "download_model",
    "find_model",
    "hide_password",
    "log_model",
    "metric_key",
    "open_target",
    "register_model",
    "save_view",
]
