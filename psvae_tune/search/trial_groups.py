"""The trials of a study in groups, each handed to Ray Tune when the one before has ended."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import ray
from ray.tune.schedulers import TrialScheduler

from psvae_tune.search.sampler import StageSampler
from psvae_tune.search.schedulers import make_scheduler
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trial_spec import CONTEXT, StageContext, TrialSpec


@dataclass
class TrialGroup:
    """Trials that may run beside each other: those of a stage, or of one of its shorter schedules.

    Nothing follows before all of them have ended.
    """

    specs: list[TrialSpec]
    """Trials that wait to be handed out."""
    context: StageContext
    journal: StageJournal
    max_live: float
    """Largest number of trials that may run, or wait for room to run, at a time."""
    sampler: StageSampler | None = None
    """Suggests more trials until its budget is spent."""

    def take(self) -> TrialSpec | None:
        """Return the next trial; None if there is none, or none until another has ended.

        Side effects: notes what a sampler suggests in the journal.
        """
        if self.specs:
            return self.specs.pop(0)
        return None if self.sampler is None else self.sampler.ask()

    def to_ray(self, spec: TrialSpec) -> dict[str, Any]:
        """Return Ray Tune's configuration of a trial. Side effects: stores the context once."""
        return spec.to_ray() | {CONTEXT: self._stored_context}

    @cached_property
    def _stored_context(self) -> Any:
        return ray.put(self.context)

    @cached_property
    def scheduler(self) -> TrialScheduler | None:
        """The scheduler of these trials, which takes up what the journal knows of them."""
        return make_scheduler(self.context, self.journal)


@dataclass
class TrialGroups:
    """The group whose trials run now, and those that follow.

    The searcher, the scheduler and the callback of a run of Ray Tune share it.

    Parameters
    ----------
    current
        The first group.
    following
        All others; the next one is asked for when all trials of the current one have ended.
    """

    current: TrialGroup
    following: Iterator[TrialGroup]
    live: set[Any] = field(default_factory=set)
    """Ray Tune's trials that it has been given and that may not have ended."""

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune saves what it is given and never looks at it, unless this process is a client:
        # then it runs elsewhere, and is given one group at a time.
        return {**self.__dict__, "following": iter(())}

    def count_live(self) -> int:
        """Return the number of trials that run, or wait for room to run."""
        self.live = {trial for trial in self.live if not trial.is_finished()}
        return len(self.live)

    def go_on(self) -> bool:
        """Make the next group the current one; return whether there is one."""
        group = next(self.following, None)
        if group is None:
            return False
        self.current = group
        return True
