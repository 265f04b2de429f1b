"""The trials of a stage as the journal of the study knows them, now and after a crash."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np

from psvae_tune.tracking.folders import StudyFolder

Outcome = Literal["finished", "stopped", "failed"]
"""``stopped`` is what a scheduler does; a trial that was interrupted has no outcome yet."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One suggestion of a sampler."""

    params: dict[str, Any]
    trial_id: str
    is_repeat: bool
    """Whether this stage had suggested the same trial before."""
    system: dict[str, Any] = field(default_factory=dict)
    """Notes that the sampler makes for itself."""


@dataclass(frozen=True, slots=True)
class TrialEnd:
    """The end of a trial."""

    stage: str
    """Name of the stage that trained it."""
    outcome: Outcome
    reason: str
    epoch: int
    """Number of epochs that were trained."""
    best_metrics: Mapping[str, float]
    """Metrics of the best epoch; of a finished trial, those of the model that was kept."""

    @property
    def is_finished(self) -> bool:
        """Whether the trial was trained to its end."""
        return self.outcome == "finished"


class StageJournal:
    """The events of one stage in the journal of a study.

    Trials are known by their identity, so a trial that another stage trained to its end counts
    here as well. Every event is parsed once: the sampler asks for them again and again.
    """

    def __init__(self, folder: StudyFolder, stage: str) -> None:
        self.folder = folder
        self.journal = folder.journal
        self.stage = stage
        self._n_read = 0
        self._suggestions: list[Suggestion] = []
        self._rungs: dict[int, dict[str, list[float]]] = {}
        self._ends: dict[str, TrialEnd] = {}
        hours = (event["hours"] for event in self.journal.events() if event["stage"] == stage)
        self._hours_before = max(hours, default=0.0)
        self._start = time.monotonic()

    def hours(self) -> float:
        """Return the hours that the stage has run, as far as events tell of earlier starts."""
        return self._hours_before + (time.monotonic() - self._start) / 3600

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_hours_before": self.hours()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # On another machine, the clock has another beginning.
        self._start = time.monotonic()

    def trial_ends(self) -> dict[str, TrialEnd]:
        """Return the last end of every trial that has one which holds for this stage.

        Such an end is one in this stage, or a training to the end in another stage.
        """
        self._read_on()
        return dict(self._ends)

    def rungs(self) -> dict[int, dict[str, list[float]]]:
        """Return the values of trials of this stage at each rung: {rung: {trial: values}}."""
        self._read_on()
        return {rung: dict(values) for rung, values in self._rungs.items()}

    def suggestions(self) -> list[Suggestion]:
        """Return every suggestion of this stage, in order."""
        self._read_on()
        return list(self._suggestions)

    def note_suggestion(self, suggestion: Suggestion) -> None:
        """Keep a suggestion. Side effects: appends to the journal."""
        self._append(
            "ask",
            trial=suggestion.trial_id,
            params=suggestion.params,
            is_repeat=suggestion.is_repeat,
            system=suggestion.system,
        )

    def note_rung(self, trial_id: str, rung: int, costs: list[float]) -> None:
        """Keep the values of a trial at a rung. Side effects: appends to the journal."""
        finite = [value if np.isfinite(value) else None for value in costs]
        self._append("rung", trial=trial_id, rung=rung, costs=finite)

    def note_end(
        self,
        trial_id: str,
        outcome: Outcome,
        reason: str,
        epoch: int,
        best_metrics: Mapping[str, float],
    ) -> None:
        """Keep the end of a trial. Side effects: appends to the journal."""
        self._append(
            "end",
            trial=trial_id,
            outcome=outcome,
            reason=reason,
            epoch=epoch,
            metrics=best_metrics,
        )

    def _append(self, event: str, **fields: Any) -> None:
        self.journal.append({"event": event, "stage": self.stage, **fields, "hours": self.hours()})

    def _read_on(self) -> None:
        """Parse the events that were added since the last time."""
        for event in islice(self.journal.events(), self._n_read, None):
            self._n_read += 1
            is_own = event["stage"] == self.stage
            if event["event"] == "end" and (is_own or event["outcome"] == "finished"):
                self._ends[event["trial"]] = TrialEnd(
                    event["stage"],
                    event["outcome"],
                    event["reason"],
                    event["epoch"],
                    event["metrics"],
                )
            elif event["event"] == "rung" and is_own:
                values = [np.inf if value is None else value for value in event["costs"]]
                self._rungs.setdefault(event["rung"], {})[event["trial"]] = values
            elif event["event"] == "ask" and is_own:
                self._suggestions.append(
                    Suggestion(
                        event["params"], event["trial"], event["is_repeat"], event["system"]
                    )
                )
