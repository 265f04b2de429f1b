"""What is known of the trials of a stage, now and after a crash: read from the study's journal."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from psvae_tune.tracking.folders import StudyFolder


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One suggestion of a sampler."""

    params: dict[str, Any]
    trial_id: str
    is_repeat: bool
    """Whether this stage had suggested the same trial before."""
    system: dict[str, Any] = field(default_factory=dict)
    """What the sampler notes for itself."""


class StageJournal:
    """What the journal of a study knows of one stage.

    Trials are known by their fingerprint, so that one which another stage ran to its end counts
    here as well.
    """

    def __init__(self, folder: StudyFolder, stage: str) -> None:
        self.folder = folder
        self.journal = folder.journal
        self.stage = stage
        hours = (event["hours"] for event in self.journal.events() if event["stage"] == stage)
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

    def trial_ends(self) -> dict[str, dict[str, Any]]:
        """Return the last end of every trial that has one which holds for this stage."""
        ends = {}
        for event in self.journal.events():
            is_own = event["stage"] == self.stage
            if event["event"] == "end" and (is_own or event["outcome"] == "finished"):
                ends[event["trial"]] = event
        return ends

    def rungs(self) -> dict[int, dict[str, list[float]]]:
        """Return what trials of this stage had at each rung."""
        table: dict[int, dict[str, list[float]]] = {}
        for event in self.journal.events():
            if event["event"] == "rung" and event["stage"] == self.stage:
                costs = [np.inf if value is None else value for value in event["costs"]]
                table.setdefault(event["rung"], {})[event["trial"]] = costs
        return table

    def asks(self) -> list[Suggestion]:
        """Return what was suggested, in order."""
        return [
            Suggestion(event["params"], event["trial"], event["is_repeat"], event["system"])
            for event in self.journal.events()
            if event["event"] == "ask" and event["stage"] == self.stage
        ]

    def note_ask(self, ask: Suggestion) -> None:
        """Keep a suggestion. Side effects: appends to the journal."""
        self._append(
            "ask",
            trial=ask.trial_id,
            params=ask.params,
            is_repeat=ask.is_repeat,
            system=ask.system,
        )

    def note_rung(self, trial_id: str, rung: int, costs: list[float]) -> None:
        """Keep what a trial had at a rung. Side effects: appends to the journal."""
        finite = [value if np.isfinite(value) else None for value in costs]
        self._append("rung", trial=trial_id, rung=rung, costs=finite)

    def note_end(
        self, trial_id: str, outcome: str, reason: str, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        """Keep how a trial ended. Side effects: appends to the journal."""
        self._append(
            "end", trial=trial_id, outcome=outcome, reason=reason, epoch=epoch, metrics=metrics
        )

    def _append(self, event: str, **fields: Any) -> None:
        self.journal.append({"event": event, "stage": self.stage, **fields, "hours": self.hours()})
