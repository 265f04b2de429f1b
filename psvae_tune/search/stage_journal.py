"""What is known of the trials of a stage, now and after a crash: read from the study's journal."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from psvae_tune.tracking.folders import StudyFolder
from psvae_tune.tracking.journal import Event

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
    """What the sampler notes for itself."""


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
    """What the journal of a study knows of one stage.

    Trials are known by their identity, so that one which another stage ran to its end counts
    here as well.
    """

    def __init__(self, folder: StudyFolder, stage: str) -> None:
        self.folder = folder
        self.journal = folder.journal
        self.stage = stage
        hours = (event["hours"] for event in self._own_events())
        self._hours_before = max(hours, default=0.0)
        self._start = time.monotonic()

    def hours(self) -> float:
        """Return how long the stage has run, as far as crashes have left a trace of it."""
        return self._hours_before + (time.monotonic() - self._start) / 3600

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_hours_before": self.hours()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Where it was sent, this clock has another beginning.
        self._start = time.monotonic()

    def _own_events(self) -> Iterator[Event]:
        return (event for event in self.journal.events() if event["stage"] == self.stage)

    def trial_ends(self) -> dict[str, TrialEnd]:
        """Return the last end of every trial that has one which holds for this stage.

        Such an end is one in this stage, or a training to the end in another stage.
        """
        ends = {}
        for event in self.journal.events():
            if event["event"] == "end":
                end = _parse_end(event)
                if end.stage == self.stage or end.is_finished:
                    ends[event["trial"]] = end
        return ends

    def rungs(self) -> dict[int, dict[str, list[float]]]:
        """Return what trials of this stage had at each rung."""
        table: dict[int, dict[str, list[float]]] = {}
        for event in self._own_events():
            if event["event"] == "rung":
                costs = [np.inf if value is None else value for value in event["costs"]]
                table.setdefault(event["rung"], {})[event["trial"]] = costs
        return table

    def suggestions(self) -> list[Suggestion]:
        """Return every suggestion of this stage, in order."""
        return [
            Suggestion(event["params"], event["trial"], event["is_repeat"], event["system"])
            for event in self._own_events()
            if event["event"] == "ask"
        ]

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
        """Keep what a trial had at a rung. Side effects: appends to the journal."""
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


def _parse_end(event: Event) -> TrialEnd:
    return TrialEnd(
        event["stage"], event["outcome"], event["reason"], event["epoch"], event["metrics"]
    )
