"""MLflow's client for one study: the store is reached, its errors become one kind."""

import hashlib
import logging
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from urllib.parse import unquote

from psvae_tune.errors import DeletedError, PsvaeTuneError, TrackingError
from psvae_tune.redaction import hide_passwords
from psvae_tune.tracking.mlflow_private import ENVIRONMENT, LOGGERS, view_address
from psvae_tune.tracking.moved_store import follow_move
from psvae_tune.tracking.tags import STUDY

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

_SQLITE_START = b"SQLite format 3\0"


def import_mlflow() -> Any:
    """Import MLflow, which takes seconds, and set it up to be quiet and to give up in time.

    Side effects: sets environment variables that are not set, and silences loggers.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow

    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return mlflow


@dataclass(frozen=True, slots=True)
class TrackingTarget:
    """The store and the experiment that the runs of a study are logged to."""

    uri: str = field(repr=False)
    """Tracking URI of MLflow."""
    experiment_id: str
    study: str
    """Name of the study."""

    def client(self) -> Any:
        """Return an `MlflowClient` of the store."""
        return open_client(self.uri)

    def find_run(self, tag: str, value: str) -> str | None:
        """Return the id of the run of this study that has a tag, or None.

        Side effects: deletes empty runs that have the tag as well. MLflow repeats a request that
        is answered late, and the server then creates a run for each repetition.
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
        """Return the address of the chart view of this study on a server."""
        address = view_address(self.experiment_id, self.view)
        return f"{hide_passwords(server).rstrip('/')}{address}"

    @property
    def view(self) -> str:
        """The key of the view that `chart_view.save_view` keeps, letters and digits only."""
        return hashlib.sha256(self.study.encode()).hexdigest()


def open_client(uri: str) -> Any:
    """Return an `MlflowClient` of a store.

    Side effects: notes in a SQLite store that was moved where its artifacts are now.

    Raises
    ------
    TrackingError
        If the file of the store is no SQLite database, or `follow_move` raises it.
    """
    database = find_database(uri)
    if database is not None:
        follow_move(database)
    return import_mlflow().MlflowClient(uri)


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
        Folder where a store without a server keeps files; None where a server decides.

    Side effects: creates the store and the experiment.

    Raises
    ------
    TrackingError
        If the store does not answer or refuses.
    """
    database = find_database(uri)
    hint = "start the server, or leave --tracking-uri out to log beside the study"
    with asking(uri, hint):
        if database is not None:
            _make_database(database)
        location = None
        if artifacts is not None:
            artifacts.mkdir(parents=True, exist_ok=True)
            location = artifacts.resolve().as_uri()
        client = open_client(uri)
        experiment = _find_or_create(client, experiment_name, location)
        refuse_deleted(uri, experiment)
    return TrackingTarget(uri, experiment.experiment_id, study)


def refuse_deleted(uri: str, experiment: Any) -> None:
    """Raise a `DeletedError` if an experiment of a store was deleted."""
    if experiment.lifecycle_stage != "active":
        restore = f"experiments restore --experiment-id {experiment.experiment_id}"
        raise DeletedError(
            f"experiment {experiment.name!r}",
            f"was deleted from {uri}",
            hint=f"{restoring(uri, restore)}, or choose another experiment_name",
        )


def restoring(uri: str, command: str) -> str:
    """Return the advice to restore something in a store by a command of ``mlflow``."""
    place = f"MLFLOW_TRACKING_URI={shlex.quote(hide_passwords(uri))}"
    return f"restore it with {place} mlflow {command}"


def _make_database(path: Path) -> None:
    """Make the tables of a store whose file does not exist, all of them or none.

    MLflow makes them one by one, which two processes cannot do at once, and which a process that
    is killed leaves halfway. So they are made in a file beside, which then gets the name unless
    another process was faster.

    Side effects: writes the file.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        beside = Path(folder) / "whole"
        import_mlflow().MlflowClient(sqlite_uri(beside))
        with suppress(FileExistsError):
            path.hardlink_to(beside)


def _find_or_create(client: Any, experiment_name: str, location: str | None) -> Any:
    """Return an experiment. Side effects: creates it, unless another process is faster."""
    found = client.get_experiment_by_name(experiment_name)
    if found is not None:
        return found
    try:
        return client.get_experiment(client.create_experiment(experiment_name, location))
    except import_mlflow().exceptions.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return client.get_experiment_by_name(experiment_name)


def reason_of(error: Exception) -> str:
    """Return the cause of an error in one line, without passwords.

    SQLAlchemy puts lines of its own before the cause, and HTTP libraries wrap errors of the
    operating system.
    """
    lines = hide_passwords(str(error)).splitlines()
    telling = (line for line in lines if line and not line.startswith("(raised as a result of"))
    text = next(telling, type(error).__name__)
    system_error = re.search(r"\[Errno -?\d+\] ([^'\")]+)", text)
    return system_error[1] if system_error else text[:300]


@contextmanager
def asking(uri: str, hint: str | None = None) -> Iterator[None]:
    """Turn every exception that is raised while a store is asked into one error.

    Parameters
    ----------
    uri
        Tracking URI of the store.
    hint
        Advice if the store does not answer.

    Raises
    ------
    TrackingError
        If the store does not answer, or asks for an account.
    """
    try:
        yield
    except PsvaeTuneError:
        raise
    except Exception as error:  # stores raise what their database or HTTP library raises
        what = f"does not answer: {reason_of(error)}"
        if "error code 401" in str(error):
            what = "has accounts, and knows none with this user and password"
            hint = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        raise TrackingError(f"tracking URI {uri}", what, hint) from error


@contextmanager
def writing(what: str, hint: str | None = None) -> Iterator[None]:
    """Turn every exception that is raised while a store is written into one error.

    Parameters
    ----------
    what
        Name of the thing that is written, for the error.
    hint
        Advice that the error ends with.

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


def sqlite_uri(path: Path) -> str:
    """Return the tracking URI of a SQLite file."""
    # A URI reads these two characters as no part of the path.
    return f"sqlite:///{path}".replace("%", "%25").replace("?", "%3F")


def find_database(uri: str) -> Path | None:
    """Return the SQLite file that a tracking URI names; None for other stores.

    The file need not exist, because MLflow creates it.

    Raises
    ------
    TrackingError
        If the file is no SQLite database or cannot be read. MLflow would retry for minutes.
    """
    if not uri.startswith("sqlite:///"):
        return None
    path = Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0]))
    try:
        with path.open("rb") as file:
            start = file.read(len(_SQLITE_START))
    except FileNotFoundError:
        return path
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise TrackingError(f"tracking URI {uri}", f"cannot be read: {why}") from error
    if start not in (b"", _SQLITE_START):
        raise TrackingError(f"tracking URI {uri}", "is no SQLite database")
    return path
