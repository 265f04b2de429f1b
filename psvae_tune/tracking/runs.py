"""The runs of a study and of its trials in MLflow.

A worker finds or creates the run of its trial by tag and skips what is there already, so that
a trial which was interrupted goes on in its own run; the driver closes runs, because only the
driver knows why a trial ended.
"""

import hashlib
import logging
import os
import re
import socket
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

from psvae_tune.errors import PsvaeTuneError, TrackingError
from psvae_tune.files import copy_folder, folder_of, remove_remains
from psvae_tune.redaction import hide_passwords
from psvae_tune.tracking.database import find_database

logger = logging.getLogger(__name__)

KIND, STUDY, STAGE, TRIAL = (
    f"psvae_tune.{name}" for name in ("kind", "study", "stage", "trial_id")
)
STOP_REASON, SELECTED, PARETO, WORKER, RUNG = (
    f"psvae_tune.{name}" for name in ("stop_reason", "selected", "pareto", "worker", "rung")
)
DESCRIPTION = "mlflow.note.content"
RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

MAX_PARAM_LENGTH = 5000
MAX_VALUES = 1000
"""Of metrics, in one request."""
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


@dataclass(frozen=True, slots=True)
class Opening:
    """What the run of a trial is created with."""

    stage: str
    trial_id: str
    name: str
    params: Mapping[str, Any]
    datasets: Sequence[Mapping[str, str]]
    """What MLflow shows of each recording."""
    rung: str | None = None
    """Of trainings on a shorter schedule, how much shorter: ``1/3``."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The metrics of an epoch."""

    number: int
    """Counted from 1; the step of its metrics."""
    metrics: Mapping[str, float]
    time_ms: int
    """When it ended: milliseconds since 1970."""

    @classmethod
    def now(cls, number: int, metrics: Mapping[str, float]) -> Self:
        """Return an epoch that ends now."""
        return cls(number, dict(metrics), int(time.time() * 1000))


@dataclass(slots=True)
class TrialRun:
    """The run of one trial, as its worker sees it."""

    target: TrackingTarget
    run_id: str
    last_step: int
    """Epochs up to this one are logged already."""
    _client: Any = field(repr=False)
    _artifacts: str = field(repr=False)
    """URI of the folder of its files."""

    @classmethod
    def open(cls, target: TrackingTarget, opening: Opening) -> Self:
        """Find the run of a trial and go on in it, or create it.

        Side effects: the run exists and is RUNNING when this returns.
        """
        client = target.client()
        run_id = target.find_run(TRIAL, opening.trial_id)
        last_step = 0
        if run_id is None:
            worker = f"{socket.gethostname()}:{os.getpid()}"
            tags = {
                KIND: "trial",
                STUDY: target.study,
                STAGE: opening.stage,
                TRIAL: opening.trial_id,
                WORKER: worker,
                **({RUNG: opening.rung} if opening.rung else {}),
            }
            run = client.create_run(target.experiment_id, tags=tags, run_name=opening.name)
            run_id = run.info.run_id
        else:
            client.update_run(run_id, status="RUNNING")
            history = client.get_metric_history(run_id, "train/loss")
            last_step = max((item.step for item in history), default=0)
        run = describe(client, run_id, opening.params, opening.datasets)
        return cls(target, run_id, last_step, client, run.info.artifact_uri)

    def log(self, epochs: Sequence[Epoch]) -> None:
        """Log the metrics of epochs, each once, in one request or in as few as MLflow takes."""
        new = [epoch for epoch in epochs if epoch.number > self.last_step]
        while new:
            n_values = list(accumulate(len(epoch.metrics) for epoch in new))
            count = max(1, bisect_right(n_values, MAX_VALUES))
            values = [value for epoch in new[:count] for value in _metrics(epoch)]
            self._client.log_batch(self.run_id, metrics=values)
            self.last_step, new = new[count - 1].number, new[count:]

    def log_final(self, epoch: Epoch) -> None:
        """Log numbers that a trial has once, unless they are there, at the step of an epoch."""
        data = self._client.get_run(self.run_id).data.metrics
        new = {k: value for k, value in epoch.metrics.items() if metric_key(k) not in data}
        self._client.log_batch(self.run_id, metrics=_metrics(replace(epoch, metrics=new)))

    def log_text(self, text: str, name: str) -> None:
        """Keep a text as an artifact of the run."""
        with folder_of(name, text) as folder:
            self.log_folder(folder)

    def log_folder(self, folder: Path) -> None:
        """Keep every file of a folder, under its path there, as an artifact of the run."""
        keep_files(self._client, self.run_id, self._artifacts, folder)

    def history(self) -> dict[str, list[tuple[int, float]]]:
        """Return the (epoch, value) pairs of every metric that was logged more than once."""
        found = {}
        for key in self._client.get_run(self.run_id).data.metrics:
            if key.startswith(("train/", "val/")):
                items = self._client.get_metric_history(self.run_id, key)
                found[key] = sorted((item.step, item.value) for item in items)
        return {key: points for key, points in found.items() if len(points) > 1}


def describe(
    client: Any, run_id: str, params: Mapping[str, Any], datasets: Sequence[Mapping[str, str]]
) -> Any:
    """Log what a run is of, unless it is there; a crash may have come before it.

    Returns
    -------
    mlflow.entities.Run
        As it was before.
    """
    entities = import_mlflow().entities
    run = client.get_run(run_id)
    if not run.data.params:
        client.log_batch(
            run_id,
            params=[
                entities.Param(key, str(value)[:MAX_PARAM_LENGTH]) for key, value in params.items()
            ],
        )
    if datasets and not run.inputs.dataset_inputs:
        client.log_inputs(
            run_id, [entities.DatasetInput(entities.Dataset(**item), []) for item in datasets]
        )
    return run


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


def _metrics(epoch: Epoch) -> list[Any]:
    metric = import_mlflow().entities.Metric
    return [
        metric(metric_key(key), value, epoch.time_ms, epoch.number)
        for key, value in epoch.metrics.items()
    ]


def close_trial(target: TrackingTarget, trial_id: str, status: RunStatus, reason: str) -> None:
    """End the run of a trial with its reason. Side effects: changes the run, if there is one."""
    run_id = target.find_run(TRIAL, trial_id)
    if run_id is not None:
        client = target.client()
        client.set_tag(run_id, STOP_REASON, reason[:500])
        client.set_terminated(run_id, status)


def log_metrics(target: TrackingTarget, trial_id: str, metrics: Mapping[str, float]) -> None:
    """Log numbers known after a trial; the latest count. Side effects: changes its run."""
    run_id, client = target.find_run(TRIAL, trial_id), target.client()
    assert run_id is not None
    now = int(time.time() * 1000)
    new = []
    for key, value in metrics.items():
        before = client.get_metric_history(run_id, metric_key(key))
        latest = max(before, key=lambda item: item.timestamp, default=None)
        if latest is None or latest.value != value:
            # At one step the latest counts, also if the clock has been put back since.
            time_ms = now if latest is None else max(now, latest.timestamp + 1)
            new += _metrics(Epoch(0, {key: value}, time_ms))
    client.log_batch(run_id, metrics=new)


def fetch_file(target: TrackingTarget, trial_id: str, name: str, folder: Path) -> Path:
    """Copy an artifact of a trial into its own part of a folder. Side effects: writes there."""
    run_id = target.find_run(TRIAL, trial_id)
    assert run_id is not None
    place = folder / run_id
    place.mkdir(exist_ok=True)
    return Path(target.client().download_artifacts(run_id, name, str(place)))
