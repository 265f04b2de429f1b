"""A study is read back from MLflow: from tags, params, metrics and artifacts alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from psvae_tune.config.metric_catalog import METRICS, Goal
from psvae_tune.config.selection_rule import SEED_PARAMETER
from psvae_tune.config.stage import Stage
from psvae_tune.config.study import read_stages
from psvae_tune.config.wording import name_trial, without_zeros
from psvae_tune.config.yaml_text import parse_yaml
from psvae_tune.errors import StorageError, StudyError, TrackingError, UserError, nearest
from psvae_tune.results.trial_record import (
    MAX_TRIALS,
    TrialRecord,
    pareto_front,
    parse_param,
    read_trials,
)
from psvae_tune.tracking.client import TrackingTarget, asking, find_database
from psvae_tune.tracking.deleted import missing_trial, raise_if_study_was_deleted
from psvae_tune.tracking.mlflow_private import local_folder
from psvae_tune.tracking.tags import KIND, STUDY

SELECTION, CHOICES = "selection.json", "choices.json"
_FRONT_METRICS = ("frame_mse", "label_r2", "latent_correlation", "gaussian_tc", "frames_nll")


@dataclass(frozen=True)
class LoggedStudy:
    """One study: its run, and the runs of its trials."""

    target: TrackingTarget
    run_id: str
    status: str
    experiment_name: str
    params: Mapping[str, Any]
    trials: tuple[TrialRecord, ...]
    """Trials in the order in which they began."""
    artifacts: str = ""
    """URI of the folder that holds the files of the study's run."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Metrics of the study's run: its baselines."""

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.target.study

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Stages of the search-space file that the study's run holds."""
        raw = self.read_artifact(self.run_id, "study.yaml")
        if raw is None:
            return ()
        return read_stages(parse_yaml(raw.decode(), "study.yaml"))

    @cached_property
    def selection(self) -> Mapping[str, Any]:
        """Choice of each stage with its reasons; empty until the study has ended."""
        raw = self.read_artifact(self.run_id, SELECTION)
        return {} if raw is None else dict(json.loads(raw))

    @cached_property
    def choices(self) -> list[dict[str, Any]]:
        """Every choice of a trial, the latest last: first the rule's, then those of people."""
        raw = self.read_artifact(self.run_id, CHOICES)
        return [] if raw is None else list(json.loads(raw))

    @property
    def override(self) -> Mapping[str, Any] | None:
        """Latest choice if a person made it, None if the rule did."""
        last = self.choices[-1] if self.choices else None
        return None if last is None or last["by"] == "rule" else last

    @property
    def choice(self) -> Mapping[str, Any] | None:
        """Entry of the choice that counts, whether its run is there or not; None without one."""
        return self.override or next(reversed([*self.selection.values()]), None)

    @property
    def finished(self) -> tuple[TrialRecord, ...]:
        """Trials that were trained to their end, on the full schedule."""
        return tuple(trial for trial in self.trials if trial.is_finished)

    @property
    def chosen(self) -> TrialRecord | None:
        """Trial that is chosen now; None until the study has ended."""
        return next((trial for trial in self.trials if trial.is_selected), None)

    def require_chosen(self) -> TrialRecord:
        """Return the trial that is chosen now.

        Raises
        ------
        StudyError
            If nothing is chosen yet.
        DeletedError
            If the run of the chosen trial was deleted.
        """
        if self.chosen is not None:
            return self.chosen
        if (choice := self.choice) is not None:
            raise missing_trial(self.target, choice["trial_id"], choice["name"])
        raise StudyError(
            f"study {self.name!r}",
            "has no chosen trial yet",
            hint=f"wait for its end, or psvae-tune choose {self.name} --trial NAME",
        )

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
        """Return a name that no other setting of the study has, built of what varied."""
        params = {name: trial.params[name] for name in self.varied if name in trial.params}
        return name_trial(params) or trial.name

    @property
    def front_metrics(self) -> tuple[str, ...]:
        """Names of the one or two metrics in which trials are compared; some may lack them."""
        present = [
            name
            for name in _FRONT_METRICS
            if any(f"best/{name}" in trial.metrics for trial in self.finished)
        ]
        return tuple(present[:2])

    @cached_property
    def sessions(self) -> list[dict[str, Any]]:
        """Recordings, each with name, n_frames, n_clips, shape, labels and digest."""
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
        """Return the finished trials that no other dominates in `front_metrics`.

        Trials that miss what the rule of their stage requires of one trial are left out.
        """
        goals: dict[str, Goal] = {f"val/{name}": METRICS[name].goal for name in self.front_metrics}
        bounds = {stage.name: stage.requirements for stage in self.stages}
        meeting = [trial for trial in self.finished if trial.meets(bounds.get(trial.stage, {}))]
        best = pareto_front([trial.result() for trial in meeting], goals) if goals else []
        names = {trial.trial_id for trial in best}
        return [trial for trial in self.finished if trial.trial_id in names]

    @property
    def front_meaning(self) -> str:
        """Words for what a trial on the `front` is, for a key of symbols."""
        is_bound = any(stage.requirements for stage in self.stages)
        who = "no trial that meets what is required" if is_bound else "no trial"
        return f"{who} is better in both"

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
        found = exact or [trial for trial in self.trials if trial.name == without_zeros(name)]
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
        Tracking store or server of MLflow.
    name
        Name of the study.

    Raises
    ------
    TrackingError
        If the store does not answer, or does not know the study.
    """
    database = find_database(uri)
    if database is not None and not database.exists():
        # MLflow would make an empty one.
        raise TrackingError(f"tracking URI {uri}", "does not exist")
    with asking(uri):
        client = TrackingTarget(uri, "", name).client()
        experiments = {item.experiment_id: item.name for item in client.search_experiments()}
        runs = client.search_runs(
            list(experiments), f"tags.`{KIND}` = 'study'", max_results=MAX_TRIALS
        )
    names = {run.data.tags.get(STUDY): run for run in runs}
    if name not in names:
        raise_if_study_was_deleted(uri, name)
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
        params={key: parse_param(value) for key, value in run.data.params.items()},
        trials=read_trials(target),
        artifacts=run.info.artifact_uri,
        metrics=dict(run.data.metrics),
    )


def _list_some(names: Sequence[str | None]) -> str | None:
    return f"there are {', '.join(str(name) for name in names[:10])}" if names else None


def without_seed(names: Sequence[str]) -> list[str]:
    """Return names of hyperparameters without the seed, which only repeats a setting."""
    return [name for name in names if name != SEED_PARAMETER]
