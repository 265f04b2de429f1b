"""Everything of MLflow that this package uses and that MLflow does not promise to keep.

The keys of the chart view alone stand elsewhere, in `psvae_tune.tracking.chart_view`.
``pyproject.toml`` lists these things beside the version of MLflow, and
`tests/tracking/test_mlflow_private.py` fails with the name of each that another version has moved.
"""

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from psvae_tune.files import copy_folder, remove_remains

# Without limits one call to a server that is down blocks for minutes.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Variables that MLflow reads when it is imported or used, with the values set here."""

LOGGERS = ("mlflow", "alembic", "urllib3")
"""Loggers that write the traceback of an error which is raised as well."""

DESCRIPTION = "mlflow.note.content"
"""Tag whose Markdown MLflow's pages show as the description of a run or an experiment."""

MAX_PARAM_LENGTH = 5000
"""Number of characters that a store takes as the value of a param."""

MAX_METRICS = 1000
"""Number of metric values that a store takes in one request."""

VIEW_TAG = "mlflow.sharedViewState."
"""Start of the tags of an experiment that hold the views which people share."""


ARTIFACT_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns of the tables of a store that hold the places of artifacts, as URIs or as paths."""


def view_address(experiment_id: str, view: str) -> str:
    """Return the path, below a server's address, of MLflow's page of charts with a shared view."""
    return (
        f"/#/experiments/{experiment_id}/runs"
        f"?workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={view}"
    )


def metric_key(key: str) -> str:
    """Return a key that MLflow takes, with replacements for what it refuses in label names.

    A key that had to be changed ends in a few digits of its own, so that no two become one.
    """
    parts = re.sub(r"[^\w\-./ ]", "_", key).split("/")
    # MLflow takes a key for a path, and refuses those with `.`, `..` or nothing on the way.
    safe = "/".join(part if part.strip(".") else "_" for part in parts)
    return safe if safe == key else f"{safe}-{hashlib.sha256(key.encode()).hexdigest()[:6]}"


def local_folder(artifacts: str) -> Path | None:
    """Return the folder on this machine with the files of a run; None if they lie elsewhere.

    Parameters
    ----------
    artifacts
        Artifact URI of the run. Below a ``file:`` URI, MLflow keeps an artifact under its path.
        Without a server, it takes a path as well.
    """
    if artifacts.startswith("/"):
        return Path(artifacts)
    is_here = artifacts.startswith("file:")
    return Path(url2pathname(urlsplit(artifacts).path)) if is_here else None


def keep_files(client: Any, run_id: str, artifacts: str, folder: Path) -> None:
    """Keep every file of a folder as an artifact of a run, each whole or not at all.

    Parameters
    ----------
    client
        An `MlflowClient` of the store.
    run_id, artifacts
        The run, and its artifact URI.
    folder
        The files; each is kept under its path there.

    Side effects: writes to the store.
    """
    there = local_folder(artifacts)
    if there is None:
        client.log_artifacts(run_id, str(folder))
    else:  # MLflow would write them there under their own names from the start
        remove_remains(there)
        copy_folder(folder, there)
