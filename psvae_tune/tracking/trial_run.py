"""The run of one trial in MLflow.

A worker finds the run of its trial by a tag, or creates it, and skips the epochs that the run has.
So a trial that was interrupted goes on in its own run. The driver closes runs, because it alone
knows why a trial ended.
"""

import os
import socket
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from psvae_tune.files import folder_of
from psvae_tune.tracking.client import RunStatus, TrackingTarget, import_mlflow
from psvae_tune.tracking.deleted import missing_trial
from psvae_tune.tracking.mlflow_private import (
    MAX_METRICS,
    MAX_PARAM_LENGTH,
    keep_files,
    metric_key,
)
from psvae_tune.tracking.tags import (
    KIND,
    PARENT,
    PATH,
    RUNG,
    STAGE,
    STOP_REASON,
    STUDY,
    TRIAL,
    WORKER,
)


@dataclass(frozen=True, slots=True)
class TrialRunSpec:
    """The content that the run of a trial is created with."""

    stage: str
    trial_id: str
    name: str
    params: Mapping[str, Any]
    datasets: Sequence[Mapping[str, str]]
    """Fields of MLflow's dataset of each recording."""
    rung: str | None = None
    """Length of a training on a shorter schedule, as a share of the full one: ``1/3``."""
    path: str | None = None
    """Trials that it goes on from: ``alpha=50 > alpha=100``."""
    parent: str | None = None
    """Identity of the last one of these."""
    machine: Mapping[str, str] = field(default_factory=dict)
    """Tags of what trains it. Those of a run that goes on elsewhere are replaced."""


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """The metrics of an epoch."""

    number: int
    """The epoch, counted from 1; the step of its metrics."""
    metrics: Mapping[str, float]
    time_ms: int
    """Time of its end, in milliseconds since 1970."""

    @classmethod
    def now(cls, number: int, metrics: Mapping[str, float]) -> Self:
        """Return an epoch that ends now."""
        return cls(number, dict(metrics), int(time.time() * 1000))


@dataclass(slots=True)
class TrialRun:
    """The run of one trial, for the worker that writes it."""

    target: TrackingTarget
    run_id: str
    last_step: int
    """Last epoch that the run holds; 0 if it holds none."""
    _client: Any = field(repr=False)
    _artifacts: str = field(repr=False)
    """URI of the folder of its files."""

    @classmethod
    def open(cls, target: TrackingTarget, spec: TrialRunSpec) -> Self:
        """Find the run of a trial and go on in it, or create it.

        Side effects: the run exists and is RUNNING when this returns.
        """
        client = target.client()
        run_id = target.find_run(TRIAL, spec.trial_id)
        own_tags = {**spec.machine, **({PARENT: spec.parent} if spec.parent else {})}
        last_step = 0
        if run_id is None:
            worker = f"{socket.gethostname()}:{os.getpid()}"
            tags = {
                KIND: "trial",
                STUDY: target.study,
                STAGE: spec.stage,
                TRIAL: spec.trial_id,
                WORKER: worker,
                **({RUNG: spec.rung} if spec.rung else {}),
                **({PATH: spec.path} if spec.path else {}),
                **own_tags,
            }
            run = client.create_run(target.experiment_id, tags=tags, run_name=spec.name)
            run_id = run.info.run_id
        else:
            client.update_run(run_id, status="RUNNING")
            run_tag = import_mlflow().entities.RunTag
            client.log_batch(run_id, tags=[run_tag(*tag) for tag in own_tags.items()])
            history = client.get_metric_history(run_id, "train/loss")
            last_step = max((item.step for item in history), default=0)
        run = describe(client, run_id, spec.params, spec.datasets)
        return cls(target, run_id, last_step, client, run.info.artifact_uri)

    def log(self, epochs: Sequence[EpochMetrics]) -> None:
        """Log the metrics of epochs, each once, in one request or in as few as MLflow takes."""
        new = [epoch for epoch in epochs if epoch.number > self.last_step]
        while new:
            n_values = list(accumulate(len(epoch.metrics) for epoch in new))
            count = max(1, bisect_right(n_values, MAX_METRICS))
            values = [value for epoch in new[:count] for value in to_metrics(epoch)]
            self._client.log_batch(self.run_id, metrics=values)
            self.last_step, new = new[count - 1].number, new[count:]

    def log_final(self, epoch: EpochMetrics) -> None:
        """Log numbers that a trial has once, at the step of an epoch, unless the run has them."""
        data = self._client.get_run(self.run_id).data.metrics
        new = {k: value for k, value in epoch.metrics.items() if metric_key(k) not in data}
        self._client.log_batch(self.run_id, metrics=to_metrics(replace(epoch, metrics=new)))

    def log_text(self, text: str, name: str) -> None:
        """Keep a text as an artifact of the run."""
        with folder_of(name, text) as folder:
            self.log_folder(folder)

    def log_folder(self, folder: Path) -> None:
        """Keep every file of a folder, under its path there, as an artifact of the run."""
        keep_files(self._client, self.run_id, self._artifacts, folder)

    def history(self) -> dict[str, list[tuple[int, float]]]:
        """Return the (epoch, value) pairs of every metric of epochs."""
        found = {}
        for key in self._client.get_run(self.run_id).data.metrics:
            if key.startswith(("train/", "val/")):
                items = self._client.get_metric_history(self.run_id, key)
                found[key] = sorted((item.step, item.value) for item in items)
        return found


def describe(
    client: Any, run_id: str, params: Mapping[str, Any], datasets: Sequence[Mapping[str, str]]
) -> Any:
    """Log the params and the recordings of a run that lacks them, as it does after a crash.

    Returns
    -------
    mlflow.entities.Run
        The run as it was before.
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


def to_metrics(epoch: EpochMetrics) -> list[Any]:
    """Return metrics as MLflow takes them, under the names that it allows."""
    metric = import_mlflow().entities.Metric
    return [
        metric(metric_key(key), value, epoch.time_ms, epoch.number)
        for key, value in epoch.metrics.items()
    ]


def close_trial(target: TrackingTarget, trial_id: str, status: RunStatus, reason: str) -> None:
    """End the run of a trial, if it has one, with the reason. Side effects: changes the run."""
    run_id = target.find_run(TRIAL, trial_id)
    if run_id is not None:
        client = target.client()
        client.set_tag(run_id, STOP_REASON, reason[:500])
        client.set_terminated(run_id, status)


def log_metrics(target: TrackingTarget, trial_id: str, metrics: Mapping[str, float]) -> None:
    """Log numbers that are known after a trial. Of several values the last logged one counts.

    Side effects: changes the run of the trial.
    """
    run_id, client = target.find_run(TRIAL, trial_id), target.client()
    if run_id is None:
        return  # it was deleted
    now = int(time.time() * 1000)
    new = []
    for key, value in metrics.items():
        before = client.get_metric_history(run_id, metric_key(key))
        latest = max(before, key=lambda item: item.timestamp, default=None)
        if latest is None or latest.value != value:
            # MLflow shows the value with the latest time, and clocks may be put back.
            time_ms = now if latest is None else max(now, latest.timestamp + 1)
            new += to_metrics(EpochMetrics(0, {key: value}, time_ms))
    client.log_batch(run_id, metrics=new)


def fetch_file(target: TrackingTarget, trial_id: str, name: str, folder: Path) -> Path:
    """Copy an artifact of a trial into a folder; return the copy.

    Side effects: writes below ``folder``, in a folder of the trial's own.
    """
    run_id = target.find_run(TRIAL, trial_id)
    if run_id is None:
        raise missing_trial(target, trial_id, trial_id)
    place = folder / run_id
    place.mkdir(exist_ok=True)
    return Path(target.client().download_artifacts(run_id, name, str(place)))
