"""The runs of a study and of its trials in MLflow.

A worker finds or creates the run of its trial by tag and skips what is there already, so that
a trial which was interrupted goes on in its own run; the driver closes runs, because only the
driver knows why a trial ended.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from psvae_tune.errors import PsvaeTuneError, TrackingError
from psvae_tune.files import copy_folder, remove_remains
from psvae_tune.redaction import hide_passwords

logger = logging.getLogger(__name__)

KIND, STUDY, STAGE, TRIAL = (
    f"psvae_tune.{name}" for name in ("kind", "study", "stage", "trial_id")
)
STOP_REASON, SELECTED, PARETO, WORKER, RUNG = (
    f"psvae_tune.{name}" for name in ("stop_reason", "selected", "pareto", "worker", "rung")
)
DESCRIPTION = "mlflow.note.content"
RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

# Without limits one call to a server that is down blocks for minutes.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def import_mlflow() -> Any:
    """Import MLflow, which takes seconds, set up to be quiet and to give up in time."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    for name in ("mlflow", "alembic", "urllib3"):
        # They log with their tracebacks the errors that they raise, and that are told here.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return mlflow


@dataclass(frozen=True, slots=True)
class TrackingTarget:
    """Where the runs of a study are logged."""

    uri: str = field(repr=False)
    experiment_id: str
    study: str

    def client(self) -> Any:
        """Return an `MlflowClient` of the store."""
        return import_mlflow().MlflowClient(self.uri)

    def find_run(self, tag: str, value: str) -> str | None:
        """Return the id of the run of this study with a tag, or None.

        Side effects: deletes other such runs. A server that answers late makes several, because
        the request is sent again meanwhile; all but the first hold nothing.
        """
        quoted, client = value.replace("'", "\\'"), self.client()
        runs = client.search_runs(
            [self.experiment_id],
            f"tags.`{STUDY}` = '{self.study}' AND tags.`{tag}` = '{quoted}'",
            order_by=["attributes.start_time ASC"],
        )
        runs = sorted(runs, key=lambda run: not run.data.params)
        for run in runs[1:]:
            if not run.data.params:
                client.delete_run(run.info.run_id)
        return runs[0].info.run_id if runs else None

    def url(self, server: str) -> str:
        """Return the address of the chart view of this study's trials on a server."""
        return (
            f"{hide_passwords(server).rstrip('/')}/#/experiments/{self.experiment_id}/runs"
            f"?workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={self.view}"
        )

    @property
    def view(self) -> str:
        """The key of the view that `views.save_view` keeps, letters and digits only."""
        return hashlib.sha256(self.study.encode()).hexdigest()


def open_target(
    uri: str, experiment_name: str, study: str, artifacts: Path | None
) -> TrackingTarget:
    """Reach a tracking store and find or create an experiment there.

    Parameters
    ----------
    uri
        A tracking URI of MLflow.
    experiment_name
        The experiment that holds the runs.
    study
        The name of the study whose runs these will be.
    artifacts
        Where a store without a server keeps files; None where a server decides.

    Side effects: creates the store and the experiment.

    Raises
    ------
    TrackingError
        If the store does not answer or refuses.
    """
    find_database(uri)
    mlflow = import_mlflow()
    try:
        client = mlflow.MlflowClient(uri)
        experiment = client.get_experiment_by_name(experiment_name)
        if experiment is None:
            location = None if artifacts is None else artifacts.resolve().as_uri()
            experiment_id = client.create_experiment(experiment_name, artifact_location=location)
        elif experiment.lifecycle_stage != "active":
            raise TrackingError(
                uri,
                f"the experiment {experiment_name!r} was deleted",
                hint="restore it, or choose another experiment_name",
            )
        else:
            experiment_id = experiment.experiment_id
    except TrackingError:
        raise
    except Exception as error:  # stores raise what their database or HTTP library raises
        raise TrackingError(
            f"tracking URI {uri}",
            f"does not answer: {reason_of(error)}",
            hint="start the server, or leave --tracking-uri out to log beside the study",
        ) from error
    return TrackingTarget(uri, experiment_id, study)


def reason_of(error: Exception) -> str:
    """Return what went wrong, without the wrappings of other libraries and without secrets."""
    lines = hide_passwords(str(error)).splitlines()
    telling = (line for line in lines if line and not line.startswith("(raised as a result of"))
    text = next(telling, type(error).__name__)
    system_error = re.search(r"\[Errno -?\d+\] ([^'\")]+)", text)
    return system_error[1] if system_error else text[:300]


@contextmanager
def writing(what: str, hint: str | None = None) -> Iterator[None]:
    """Turn whatever goes wrong while a store is written into one error.

    Parameters
    ----------
    what
        Is written; to be named in the error.
    hint
        What helps.

    Raises
    ------
    TrackingError
        If the store cannot be written.
    """
    try:
        yield
    except PsvaeTuneError:
        raise
    except Exception as error:  # stores raise what their database or HTTP library raises
        raise TrackingError(what, f"cannot be written: {reason_of(error)}", hint) from error


def metric_key(key: str) -> str:
    """Return a key that MLflow takes: what it refuses (from label names) is replaced.

    A key that had to be changed ends in a few digits of its own, so that no two become one.
    """
    parts = re.sub(r"[^\w\-./ ]", "_", key).split("/")
    # MLflow takes a key for a path, and refuses those with `.`, `..` or nothing on the way.
    safe = "/".join(part if part.strip(".") else "_" for part in parts)
    return safe if safe == key else f"{safe}-{hashlib.sha256(key.encode()).hexdigest()[:6]}"


def keep_files(client: Any, run_id: str, artifacts: str, folder: Path) -> None:
    """Keep every file of a folder as an artifact of a run, each whole or not at all."""
    there = local_folder(artifacts)
    if there is None:
        client.log_artifacts(run_id, str(folder))
    else:  # where MLflow would write them under their own names from the start
        remove_remains(there)
        copy_folder(folder, there)


def local_folder(artifacts: str) -> Path | None:
    """Return where the files of a run lie on this machine; None if elsewhere."""
    is_here = artifacts.startswith("file:")
    return Path(url2pathname(urlsplit(artifacts).path)) if is_here else None


SQLITE_START = b"SQLite format 3\0"


def find_database(uri: str) -> Path | None:
    """Return the SQLite file that a URI names, which need not exist; None for other stores.

    Raises
    ------
    TrackingError
        If what is there is no database; MLflow would try again and again for minutes.
    """
    if not uri.startswith("sqlite:///"):
        return None
    path = Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0]))
    try:
        with path.open("rb") as file:
            start = file.read(len(SQLITE_START))
    except FileNotFoundError:
        return path
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise TrackingError(f"tracking URI {uri}", f"cannot be read: {why}") from error
    if start not in (b"", SQLITE_START):
        raise TrackingError(f"tracking URI {uri}", "is no SQLite database")
    return path
