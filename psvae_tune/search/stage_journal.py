"""The trials of a stage as the journal of the study knows them, now and after a crash."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from psvae_tune.search.selection.possible import Standing
from psvae_tune.tracking.folders import StudyFolder
from psvae_tune.tracking.trial_result import Outcome


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One suggestion of a sampler."""

    params: dict[str, Any]
    trial_id: str
    is_repeat: bool
    """Whether this stage had suggested the same trial before."""
    system: dict[str, Any] = field(default_factory=dict)
    """Notes that the sampler makes for itself."""
    parent: str | None = None
    """Identity of the trial that it goes on from; None if it begins with new weights."""


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

    Trials are known by their identity, so a trial that was trained to its end elsewhere counts
    here as well. All other events of other stages are left out, and so are those of this stage
    under other settings: another space, another rule, or another choice of the stage before.

    Every event is parsed once: the sampler asks for them again and again.

    Parameters
    ----------
    folder
        Folder of the study.
    stage
        Name of the stage.
    settings_id
        Identity of the stage's settings; see `StageContext.settings_id`.
    """

    def __init__(self, folder: StudyFolder, stage: str, settings_id: str) -> None:
        self.folder = folder
        self.journal = folder.journal
        self.stage = stage
        self.settings_id = settings_id
        self._n_read = 0
        self._suggestions: list[Suggestion] = []
        self._standings: dict[int, dict[str, Standing]] = {}
        self._ends: dict[str, TrialEnd] = {}
        self._own_epochs: dict[str, int] = {}
        hours = (event["hours"] for event in self.journal.events() if self._is_own(event))
        self._hours_before = max(hours, default=0.0)
        self._start = time.monotonic()

    def _is_own(self, event: Mapping[str, Any]) -> bool:
        # Earlier versions did not note the settings.
        settings_id = event.get("settings", self.settings_id)
        return bool(event["stage"] == self.stage and settings_id == self.settings_id)

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

    def count_epochs(self) -> int:
        """Return the number of epochs that the trials of this stage have trained."""
        self._read_on()
        return sum(self._own_epochs.values())

    def standings(self) -> dict[int, dict[str, Standing]]:
        """Return where trials of this stage stood: {epoch: {trial: standing}}."""
        self._read_on()
        return {epoch: dict(standings) for epoch, standings in self._standings.items()}

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
            parent=suggestion.parent,
        )

    def note_standing(self, trial_id: str, epoch: int, standing: Standing) -> None:
        """Keep where a trial stands at an epoch. Side effects: appends to the journal."""
        self._append("standing", trial=trial_id, epoch=epoch, values=dict(standing))

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
        place = {"stage": self.stage, "settings": self.settings_id}
        self.journal.append({"event": event, **place, **fields, "hours": self.hours()})

    def _read_on(self) -> None:
        """Parse the events that were added since the last time."""
        for event in islice(self.journal.events(), self._n_read, None):
            self._n_read += 1
            is_own = self._is_own(event)
            if event["event"] == "end" and (is_own or event["outcome"] == "finished"):
                self._ends[event["trial"]] = TrialEnd(
                    event["stage"],
                    event["outcome"],
                    event["reason"],
                    event["epoch"],
                    event["metrics"],
                )
                if is_own:
                    self._own_epochs[event["trial"]] = event["epoch"]
            elif event["event"] == "standing" and is_own:
                self._standings.setdefault(event["epoch"], {})[event["trial"]] = event["values"]
            elif event["event"] == "ask" and is_own:
                self._suggestions.append(
                    Suggestion(
                        event["params"],
                        event["trial"],
                        event["is_repeat"],
                        event["system"],
                        event.get("parent"),
                    )
                )
