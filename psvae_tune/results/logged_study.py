"""Studies as MLflow knows them: read back from tags, params, metrics and artifacts alone."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from psvae_tune.config.metric_catalog import METRICS, STAGE_METRICS, Goal
from psvae_tune.config.selection_rule import SEED_PARAMETER
from psvae_tune.config.stage import Stage
from psvae_tune.config.study import parse_study
from psvae_tune.config.wording import name_trial
from psvae_tune.errors import StorageError, StudyError, TrackingError, UserError, nearest
from psvae_tune.metrics.pareto import non_dominated
from psvae_tune.tracking.client import (
    KIND,
    RUNG,
    SELECTED,
    STAGE,
    STOP_REASON,
    STUDY,
    TRIAL,
    TrackingTarget,
    find_database,
    local_folder,
    reason_of,
)
from psvae_tune.tracking.trial_result import TrialResult

SELECTION, CHOICES = "selection.json", "choices.json"
MAX_TRIALS = 5000
_FRONT_METRICS = ("frame_mse", "label_r2", "latent_correlation", "gaussian_tc", "frames_nll")


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """What the run of one trial says."""

    run_id: str
    trial_id: str
    name: str
    stage: str
    status: str
    stop_reason: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    """As in MLflow: ``best/…``, ``test/…`` and the last ``train/…`` and ``val/…``."""
    is_selected: bool
    rung: str = ""
    """Of a training on a shorter schedule, how much shorter."""
    artifacts: str = ""
    """URI of the folder of its files."""

    @property
    def is_finished(self) -> bool:
        """Whether it was trained to the full; what was stopped, cut short or failed is not."""
        # Only a trial that was scored at its end has this number.
        return self.status == "FINISHED" and "best/epoch" in self.metrics and not self.rung

    def result(self) -> TrialResult:
        """Return what a selection needs to know of it."""
        metrics = {
            f"val/{key.removeprefix('best/')}" if key.startswith("best/") else key: value
            for key, value in self.metrics.items()
            if key.startswith(("best/", "test/"))
        }
        for name in STAGE_METRICS:
            if f"val/{name}" in metrics:
                metrics[name] = metrics.pop(f"val/{name}")
        return TrialResult(self.trial_id, self.name, self.params, metrics, self.is_finished)


@dataclass(frozen=True)
class LoggedStudy:
    """One study, its run and its trials' runs."""

    target: TrackingTarget
    run_id: str
    status: str
    experiment_name: str
    params: Mapping[str, Any]
    trials: tuple[TrialRecord, ...]
    """In the order in which they began."""
    artifacts: str = ""
    """URI of the folder of its own files."""

    @property
    def name(self) -> str:
        """Of the study."""
        return self.target.study

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Its stages, from the search-space file among its artifacts."""
        raw = self.read_artifact(self.run_id, "study.yaml")
        if raw is None:
            return ()
        return parse_study(yaml.safe_load(raw), f"study.yaml of {self.name}").stages

    @cached_property
    def selection(self) -> Mapping[str, Any]:
        """What each stage chose and why; empty while it is not over."""
        raw = self.read_artifact(self.run_id, SELECTION)
        return {} if raw is None else dict(json.loads(raw))

    @cached_property
    def choices(self) -> list[dict[str, Any]]:
        """Every choice of the study's trial, the latest last: by the rule, then by people."""
        raw = self.read_artifact(self.run_id, CHOICES)
        return [] if raw is None else list(json.loads(raw))

    @property
    def override(self) -> Mapping[str, Any] | None:
        """The latest choice, if a person made it and not the rule."""
        last = self.choices[-1] if self.choices else None
        return None if last is None or last["by"] == "rule" else last

    @property
    def finished(self) -> tuple[TrialRecord, ...]:
        """Trials that were trained to their end."""
        return tuple(trial for trial in self.trials if trial.is_finished)

    @property
    def chosen(self) -> TrialRecord | None:
        """The trial that is chosen now."""
        return next((trial for trial in self.trials if trial.is_selected), None)

    @property
    def varied(self) -> list[str]:
        """Names of the hyperparameters that any stage varies."""
        names = dict.fromkeys(name for stage in self.stages for name in stage.space)
        if names:
            return list(names)
        params: dict[str, set[str]] = {}
        for trial in self.trials:
            for name, value in trial.params.items():
                params.setdefault(name, set()).add(repr(value))
        return [name for name, values in params.items() if len(values) > 1]

    def label(self, trial: TrialRecord) -> str:
        """Return what tells a trial from all others of the study, stages aside."""
        params = {name: trial.params[name] for name in self.varied if name in trial.params}
        return name_trial(params) or trial.name

    @property
    def front_metrics(self) -> tuple[str, ...]:
        """The two metrics, or the one, that trials of this study are laid out by."""
        present = [
            name
            for name in _FRONT_METRICS
            if self.finished and all(f"best/{name}" in trial.metrics for trial in self.finished)
        ]
        return tuple(present[:2])

    @cached_property
    def sessions(self) -> list[dict[str, Any]]:
        """The recordings: name, n_frames, n_clips, shape, labels and digest."""
        if not self.trials:
            return []
        run = self._client.get_run(self.trials[0].run_id)
        found = []
        for dataset in (item.dataset for item in run.inputs.dataset_inputs):
            profile = json.loads(dataset.profile or "{}")
            found.append(
                {
                    "name": dataset.name,
                    "n_frames": profile.get("n_frames", ""),
                    "n_clips": profile.get("n_clips", ""),
                    "shape": " × ".join(map(str, profile.get("frame_shape", ()))),
                    "labels": ", ".join(profile.get("labels", ())) or "none",
                    "digest": dataset.digest,
                }
            )
        return found

    def front(self) -> list[TrialRecord]:
        """Return the finished trials that no other dominates in `front_metrics`."""
        goals: dict[str, Goal] = {f"val/{name}": METRICS[name].goal for name in self.front_metrics}
        best = pareto_front([trial.result() for trial in self.finished], goals) if goals else []
        names = {trial.trial_id for trial in best}
        return [trial for trial in self.finished if trial.trial_id in names]

    def find_trial(self, name: str) -> TrialRecord:
        """Return the trial with this run id, trial id or name.

        Raises
        ------
        StudyError
            If there is none.
        UserError
            If several have the name.
        """
        exact = [trial for trial in self.trials if name in (trial.run_id, trial.trial_id)]
        found = exact or [trial for trial in self.trials if trial.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            runs = ", ".join(f"{trial.run_id} (stage {trial.stage})" for trial in found)
            raise UserError(
                f"study {self.name!r}",
                f"{len(found)} trials are called {name!r}",
                hint=f"give the run: {runs}",
            )
        near = nearest(name, [trial.name for trial in self.trials])
        raise StudyError(
            f"study {self.name!r}",
            f"has no trial {name!r}",
            hint=f"did you mean {near!r}?" if near else None,
        )

    @cached_property
    def _client(self) -> Any:
        return self.target.client()

    @cached_property
    def _folders(self) -> dict[str, str]:
        return {self.run_id: self.artifacts} | {t.run_id: t.artifacts for t in self.trials}

    def read_artifact(self, run_id: str, path: str) -> bytes | None:
        """Return a file of a run, or None if it has no such file."""
        folder = path.rpartition("/")[0]
        try:
            if (here := local_folder(self._folders.get(run_id, ""))) is not None:
                # MLflow would ask its database for the whole run, several times a file.
                return (here / path).read_bytes() if (here / path).is_file() else None
            client = self._client
            if path not in {item.path for item in client.list_artifacts(run_id, folder or None)}:
                return None
            with TemporaryDirectory() as temporary:
                return Path(client.download_artifacts(run_id, path, temporary)).read_bytes()
        except OSError as error:
            raise StorageError(f"{path} of run {run_id}", f"cannot be read: {error}") from error

    def history(self, trial: TrialRecord, key: str) -> list[tuple[int, int, float]]:
        """Return (time in ms, epoch, value) of every value of a metric."""
        items = self._client.get_metric_history(trial.run_id, key)
        return sorted((item.timestamp, item.step, item.value) for item in items)


def open_study(uri: str, name: str) -> LoggedStudy:
    """Find a study in a tracking store.

    Parameters
    ----------
    uri
        A store or server of MLflow.
    name
        Of the study.

    Raises
    ------
    TrackingError
        If the store does not answer, or does not know the study.
    """
    database = find_database(uri)
    if database is not None and not database.exists():
        # MLflow would make an empty one.
        raise TrackingError(f"tracking URI {uri}", "does not exist")
    try:
        client = TrackingTarget(uri, "", name).client()
        experiments = {item.experiment_id: item.name for item in client.search_experiments()}
        runs = client.search_runs(
            list(experiments), f"tags.`{KIND}` = 'study'", max_results=MAX_TRIALS
        )
    except Exception as error:  # stores raise what their database or HTTP library raises
        raise TrackingError(
            f"tracking URI {uri}", f"does not answer: {reason_of(error)}"
        ) from error
    names = {run.data.tags.get(STUDY): run for run in runs}
    if name not in names:
        near = nearest(name, [str(item) for item in names])
        raise TrackingError(
            f"tracking URI {uri}",
            f"knows no study {name!r}",
            hint=f"did you mean {near!r}?" if near else _list_some(list(names)),
        )
    run = names[name]
    target = TrackingTarget(uri, run.info.experiment_id, name)
    return LoggedStudy(
        target=target,
        run_id=run.info.run_id,
        status=run.info.status,
        experiment_name=experiments[run.info.experiment_id],
        params={key: _parse(value) for key, value in run.data.params.items()},
        trials=_read_trials(target),
        artifacts=run.info.artifact_uri,
    )


def _list_some(names: Sequence[str | None]) -> str | None:
    return f"there are {', '.join(str(name) for name in names[:10])}" if names else None


def _read_trials(target: TrackingTarget) -> tuple[TrialRecord, ...]:
    runs = target.client().search_runs(
        [target.experiment_id],
        f"tags.`{STUDY}` = '{target.study}' AND tags.`{KIND}` = 'trial'",
        max_results=MAX_TRIALS,
        order_by=["attributes.start_time ASC"],
    )
    return tuple(
        TrialRecord(
            run_id=run.info.run_id,
            trial_id=run.data.tags.get(TRIAL, run.info.run_id),
            name=run.info.run_name,
            stage=run.data.tags.get(STAGE, ""),
            status=run.info.status,
            stop_reason=run.data.tags.get(STOP_REASON, ""),
            params={key: _parse(value) for key, value in run.data.params.items()},
            metrics=dict(run.data.metrics),
            is_selected=run.data.tags.get(SELECTED) == "true",
            rung=run.data.tags.get(RUNG, ""),
            artifacts=run.info.artifact_uri,
        )
        for run in runs
    )


def _parse(text: str) -> Any:
    """Return a param as it was before MLflow made a text of it."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def without_seed(names: Sequence[str]) -> list[str]:
    """Return hyperparameters but for the seed, which only repeats a setting."""
    return [name for name in names if name != SEED_PARAMETER]


def pareto_front(
    trials: Iterable[TrialResult], objectives: Mapping[str, Goal]
) -> list[TrialResult]:
    """Return the completed trials that no other dominates, in the given order; ties are kept.

    Parameters
    ----------
    trials
        Those without finite values of all objectives are left out.
    objectives
        Metrics, with which way each is better.
    """
    usable = [
        trial
        for trial in trials
        if trial.completed and all(math.isfinite(trial.metrics.get(m, np.nan)) for m in objectives)
    ]
    if not usable:
        return []
    signs = [1.0 if goal == "min" else -1.0 for goal in objectives.values()]
    table = np.array([[trial.metrics[m] for m in objectives] for trial in usable]) * signs
    return [trial for trial, keep in zip(usable, non_dominated(table), strict=True) if keep]
