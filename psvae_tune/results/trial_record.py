"""One trial of a study, read back from its run in MLflow."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from psvae_tune.config.metric_catalog import STAGE_METRICS, Goal, sign
from psvae_tune.config.selection_rule import Bound, total_shortfall
from psvae_tune.config.wording import without_zeros
from psvae_tune.metrics.pareto import non_dominated
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.tags import KIND, PATH, RUNG, SELECTED, STAGE, STOP_REASON, STUDY, TRIAL
from psvae_tune.tracking.trial_result import N_UNSUPERVISED, TrialResult

MAX_TRIALS = 5000


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial, as its run in MLflow holds it."""

    run_id: str
    trial_id: str
    name: str
    stage: str
    status: str
    stop_reason: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    """Metrics under their names in MLflow.

    ``best/…`` are validation metrics at the best epoch, ``test/…`` those of the test split;
    ``train/…`` and ``val/…`` are of the last epoch.
    """
    is_selected: bool
    rung: str = ""
    """Fraction of the epochs that a training on a shorter schedule had, such as ``1/3``."""
    path: str = ""
    """Trials that it went on from, the first of them first: ``alpha=50 > alpha=100``."""
    artifacts: str = ""
    """URI of the folder that holds the files of the run."""
    start_ms: int = 0
    """Time at which the run began, in milliseconds since 1970."""
    end_ms: int | None = None
    """Time at which the run ended; None while it runs."""

    @property
    def is_finished(self) -> bool:
        """Whether the trial was trained to its end; stopped, short and failed ones were not."""
        # Only a trial that was scored at its end has this number.
        return self.status == "FINISHED" and "best/epoch" in self.metrics and not self.rung

    @property
    def state(self) -> str:
        """How the trial ended, and from which other trial it had gone on."""
        if not self.is_finished:
            return self.stop_reason or self.status.lower()
        return f"finished, on from {self.path.rpartition(' > ')[2]}" if self.path else "finished"

    def result(self) -> TrialResult:
        """Return the trial as selection rules read it."""
        metrics = {
            f"val/{key.removeprefix('best/')}" if key.startswith("best/") else key: value
            for key, value in self.metrics.items()
            if key.startswith(("best/", "test/"))
        }
        for name in STAGE_METRICS:
            if f"val/{name}" in metrics:
                metrics[name] = metrics.pop(f"val/{name}")
        return TrialResult(self.trial_id, self.name, self.params, metrics, self.is_finished)

    def meets(self, bounds: Mapping[str, Bound]) -> bool:
        """Return whether the trial, at its best epoch, meets bounds of its metrics."""
        n_unsupervised = self.params.get(N_UNSUPERVISED, 0)
        return total_shortfall(bounds, self.result().metrics, n_unsupervised) == 0


def read_trials(target: TrackingTarget) -> tuple[TrialRecord, ...]:
    """Return the trials of a study, in the order in which they began."""
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
            name=without_zeros(run.info.run_name),
            stage=run.data.tags.get(STAGE, ""),
            status=run.info.status,
            stop_reason=run.data.tags.get(STOP_REASON, ""),
            params={key: parse_param(value) for key, value in run.data.params.items()},
            metrics=dict(run.data.metrics),
            is_selected=run.data.tags.get(SELECTED) == "true",
            rung=run.data.tags.get(RUNG, ""),
            path=run.data.tags.get(PATH, ""),
            artifacts=run.info.artifact_uri,
            start_ms=run.info.start_time,
            end_ms=run.info.end_time,
        )
        for run in runs
    )


def parse_param(text: str) -> Any:
    """Return the value of a param, which MLflow keeps as text."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def pareto_front(
    trials: Iterable[TrialResult], objectives: Mapping[str, Goal]
) -> list[TrialResult]:
    """Return the completed trials that no other dominates, in the given order.

    Trials with equal values are all kept.

    Parameters
    ----------
    trials
        Trials to compare; those that lack a finite value of an objective are left out.
    objectives
        Metrics, and whether less (``min``) or more (``max``) is better.
    """
    usable = [
        trial
        for trial in trials
        if trial.completed and all(math.isfinite(trial.metrics.get(m, np.nan)) for m in objectives)
    ]
    if not usable:
        return []
    signs = [sign(goal) for goal in objectives.values()]
    table = np.array([[trial.metrics[m] for m in objectives] for trial in usable]) * signs
    return [trial for trial, keep in zip(usable, non_dominated(table), strict=True) if keep]
