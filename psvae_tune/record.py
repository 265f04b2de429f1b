"""What is known of the trials of a stage, now and after a crash: read from the study's journal."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from psvae_tune.storage import StudyFolder


class StageRecord:
    """What the journal of a study knows of one stage.

    Trials are known by their fingerprint, so that one which another stage ran to its end counts
    here as well.
    """

    def __init__(self, folder: StudyFolder, stage: str) -> None:
        self.folder = folder
        self.stage = stage

    def ended(self) -> dict[str, dict[str, Any]]:
        """Return the last end of every trial that has one which holds for this stage."""
        ends = {}
        for event in self.folder.journal.events():
            is_own = event["stage"] == self.stage
            if event["event"] == "end" and (is_own or event["outcome"] == "finished"):
                ends[event["trial"]] = event
        return ends

    def rungs(self) -> dict[int, dict[str, list[float]]]:
        """Return what trials of this stage had at each rung."""
        table: dict[int, dict[str, list[float]]] = {}
        for event in self.folder.journal.events():
            if event["event"] == "rung" and event["stage"] == self.stage:
                costs = [np.inf if value is None else value for value in event["costs"]]
                table.setdefault(event["rung"], {})[event["trial"]] = costs
        return table

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
        self.folder.journal.append({"event": event, "stage": self.stage, **fields})
