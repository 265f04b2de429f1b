"""Everything that is written to MLflow; the only folder that imports it."""

from psvae_tune.tracking.database import find_database
from psvae_tune.tracking.models import download_model, find_model, log_model, register_model
from psvae_tune.tracking.reach import check_answers, check_shareable, is_loopback
from psvae_tune.tracking.runs import (
    DESCRIPTION,
    KIND,
    PARETO,
    RUNG,
    SELECTED,
    STAGE,
    STOP_REASON,
    STUDY,
    TRIAL,
    Opening,
    RunStatus,
    TrackingTarget,
    TrialRun,
    close_trial,
    fetch_file,
    local_folder,
    log_metrics,
    metric_key,
    open_target,
    reason_of,
    writing,
)
from psvae_tune.tracking.study_run import StudyRun
from psvae_tune.tracking.views import save_view

__all__ = [
    "DESCRIPTION",
    "KIND",
    "PARETO",
    "RUNG",
    "SELECTED",
    "STAGE",
    "STOP_REASON",
    "STUDY",
    "TRIAL",
    "Opening",
    "RunStatus",
    "StudyRun",
    "TrackingTarget",
    "TrialRun",
    "check_answers",
    "check_shareable",
    "close_trial",
    "download_model",
    "fetch_file",
    "find_database",
    "find_model",
    "is_loopback",
    "local_folder",
    "log_metrics",
    "log_model",
    "metric_key",
    "open_target",
    "reason_of",
    "register_model",
    "save_view",
    "writing",
]
