"""The stages of a study run one after another, each from what the one before chose."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import ray

from psvae_tune.cluster.gpu_packing import measure_gpu_share
from psvae_tune.cluster.nodes import list_nodes
from psvae_tune.config.hidden_labels import HIDDEN
from psvae_tune.config.selection_rule import SEED_PARAMETER
from psvae_tune.config.stage import Stage
from psvae_tune.config.stage_settings import count_digits
from psvae_tune.config.study import Study
from psvae_tune.config.trial import with_fewer_epochs
from psvae_tune.data.session import Session
from psvae_tune.errors import StudyError, StudyInterrupted
from psvae_tune.search.progress import StudyObserver
from psvae_tune.search.sampler import StageSampler
from psvae_tune.search.seed_agreement import with_udr
from psvae_tune.search.selection.select import Selection, select
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.successive_halving import epoch_divisors, select_survivors
from psvae_tune.search.trial_groups import TrialGroup
from psvae_tune.search.trial_spec import StageContext, TrialSpec
from psvae_tune.search.tuner import RunContext, train
from psvae_tune.search.weight_path import fronts, walk
from psvae_tune.study.location import StudyLocation
from psvae_tune.tracking.outbox import Outbox
from psvae_tune.tracking.trial_result import TrialResult


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """The trials of a stage, and its choice."""

    stage: Stage
    trials: tuple[TrialResult, ...]
    selection: Selection


def run_stages(
    study: Study, sessions: Sequence[Session], location: StudyLocation, observer: StudyObserver
) -> list[StageOutcome]:
    """Run every stage of a study that has not been run, each from what the one before chose.

    Ray must have been started. Trials whose end is in the journal of the study are not run again.

    Side effects: trains; writes the study's folder; logs the trials' runs to MLflow.

    Raises
    ------
    StudyError
        If a stage ends without a trial that can be chosen, or is interrupted.
    """
    stored, gpus = ray.put(list(sessions)), study.resources.gpus_per_trial
    if gpus == "auto":
        gpus = measure_gpu_share(study, stored, list_nodes())
    run = RunContext(stored, study.resources, gpus, observer)
    outcomes: list[StageOutcome] = []
    train(_decide_stages(study, sessions, location, run, outcomes), run)
    return outcomes


def _decide_stages(
    study: Study,
    sessions: Sequence[Session],
    location: StudyLocation,
    run: RunContext,
    outcomes: list[StageOutcome],
) -> Iterator[TrialGroup]:
    """Yield the trials that are to be trained next, whenever those before have ended.

    Side effects: adds the outcome of every stage to ``outcomes``.
    """
    base, chosen, n_digits = study.base, None, count_digits(study.stages)
    for i, stage in enumerate(study.stages):
        later = study.stages[i + 1 :]
        context = StageContext(
            stage,
            base,
            location.folder,
            location.target,
            digests=tuple(session.digest for session in sessions),
            n_labels=sessions[0].header.n_labels,
            movies=study.tracking.movies,
            chosen=chosen,
            keeps_states=stage.start_from == "neighbour" or any(s.start_from for s in later),
            n_digits=n_digits,
        )
        journal = StageJournal(location.folder, stage.name, context.settings_id)
        specs, dropped = yield from _StageRunner(context, run, journal).train_all()
        trials = context.results(specs, journal.trial_ends())
        if SEED_PARAMETER in stage.space:
            trials = with_udr(specs, trials, sessions, context)
        trials += dropped
        selection = select(trials, stage.select, stage.objectives)
        run.observer.stage_selected(stage, selection)
        outcomes.append(StageOutcome(stage, tuple(trials), selection))
        chosen = next(spec for spec in specs if spec.trial_id == selection.chosen.trial_id)
        # What was hidden to find a weight is no part of the setting that was found.
        base = base.with_params({k: v for k, v in chosen.params.items() if k != HIDDEN})


@dataclass(frozen=True, slots=True)
class _StageRunner:
    """Has the trials of a stage trained whose end is not in the journal.

    Its generators yield groups, and go on when all trials of a group have ended.
    """

    context: StageContext
    run: RunContext
    journal: StageJournal

    def train_all(self) -> Generator[TrialGroup, None, tuple[list[TrialSpec], list[TrialResult]]]:
        """Yield the groups of the stage.

        Returns
        -------
        list of TrialSpec
            The trials that were to train in full.
        list of TrialResult
            The results of the others, which trained on shorter schedules only.

        Raises
        ------
        StudyError
            If no trial was trained to its end, or the stage was interrupted.
        """
        stage = self.context.stage
        dropped: list[TrialResult] = []
        if stage.fidelity is not None:
            specs, dropped = yield from self._halve(self._draw())
            yield from self._train_specs(specs)
        elif stage.algorithm == "grid" and stage.start_from == "neighbour":
            specs = yield from self._train_path()
        elif stage.algorithm == "grid":
            specs = self.context.specs(stage.grid())
            yield from self._train_specs(specs)
        else:
            specs = yield from self._train_suggestions()
        ends = self.journal.trial_ends()
        if not any(ends[spec.trial_id].is_finished for spec in specs):
            reasons = {ends[spec.trial_id].reason for spec in specs}
            raise StudyError(
                f"study {self.context.folder.name}",
                [f"no trial of stage `{stage.name}` was finished", *sorted(reasons)],
            )
        return specs, dropped

    def _draw(self) -> list[TrialSpec]:
        """Return all trials of the stage. Side effects: notes those that are drawn at random."""
        stage = self.context.stage
        if stage.algorithm == "grid":
            return self.context.specs(stage.grid())
        sampler = StageSampler(self.context, self.journal)
        while sampler.ask() is not None:
            pass
        return sampler.specs()

    def _halve(
        self, specs: list[TrialSpec]
    ) -> Generator[TrialGroup, None, tuple[list[TrialSpec], list[TrialResult]]]:
        """Train on shorter schedules; return the survivors, and the results of the others."""
        stage = self.context.stage
        assert stage.fidelity is not None
        factor = stage.fidelity.schedule.reduction_factor
        dropped: list[TrialResult] = []
        for divisor in epoch_divisors(len(specs), factor):
            fewer = with_fewer_epochs(self.context.base, divisor)
            short = replace(self.context, base=fewer, rung=f"1/{divisor:.3g}")
            trained = [short.spec(spec.params) for spec in specs]
            yield from replace(self, context=short)._train_specs(trained)
            results = short.results(trained, self.journal.trial_ends())
            kept = select_survivors(results, stage.select, factor)
            dropped += [
                replace(result, completed=False)
                for i, result in enumerate(results)
                if i not in kept
            ]
            specs = [specs[i] for i in kept]
        return specs, dropped

    def _train_specs(self, specs: Sequence[TrialSpec]) -> Iterator[TrialGroup]:
        """Train given trials.

        Raises
        ------
        StudyInterrupted
            If some of them have not ended.
        """
        n_done = len(specs) - len(self._without_end(specs))
        stage, rung = self.context.stage, self.context.rung
        self.run.observer.stage_started(stage, len(specs), n_done, rung)
        yield from self._train_group(specs, 0, len(specs))

    def _train_group(
        self, specs: Sequence[TrialSpec], n_before: int, n_all: int
    ) -> Iterator[TrialGroup]:
        """Train trials that may run beside each other, of a stage with others before and after."""
        if todo := self._without_end(specs):
            if any(spec.continuation is not None for spec in todo):
                self._check_states()
            yield self.run.group(todo, self.context, self.journal)
        if left := self._without_end(specs):
            n_ended = n_before + len(specs) - len(left)
            self._stop_interrupted(left, f"{n_ended} of {n_all} trials")

    def _check_states(self) -> None:
        """Make sure that there are the states that trials would go on from.

        Raises
        ------
        StudyError
            If they were removed when the study ended.
        """
        context = self.context
        if context.chosen is None or context.folder.last_state(context.chosen.trial_id).exists():
            return
        raise StudyError(
            f"study {context.folder.name}",
            f"no further trial of stage `{context.stage.name}` can go on from others, whose last "
            "states were removed when the study ended",
            hint="run it under another name, with the larger budget from the start",
        )

    def _train_path(self) -> Generator[TrialGroup, None, list[TrialSpec]]:
        """Train a grid from the trial that was chosen before, each point from the nearest one.

        The points that can start beside each other do. A point whose own start has failed goes on
        from where that one was to go on from.
        """
        context, stage = self.context, self.context.stage
        points = stage.grid()
        assert context.chosen is not None
        root = context.weights(context.chosen.params)
        steps = walk([context.weights(point) for point in points], root)
        origins, trials = dict(steps), dict[int | None, TrialSpec]({None: context.chosen})
        groups, n_before, is_announced = fronts(steps), 0, False
        for front in groups:
            ends = self.journal.trial_ends()
            for point in front:
                origin = origins[point]
                while origin is not None and not ends[trials[origin].trial_id].is_finished:
                    origin = origins[origin]
                trials[point] = context.spec(points[point], trials[origin])
            specs = [trials[point] for point in front]
            n_left = len(self._without_end(specs))
            if not is_announced and (n_left or front is groups[-1]):
                n_done = n_before + len(specs) - n_left
                self.run.observer.stage_started(stage, len(points), n_done)
                is_announced = True
            yield from self._train_group(specs, n_before, len(points))
            n_before += len(specs)
        return [trials[i] for i in range(len(points))]

    def _without_end(self, specs: Sequence[TrialSpec]) -> list[TrialSpec]:
        ends = self.journal.trial_ends()
        return [spec for spec in specs if spec.trial_id not in ends]

    def _train_suggestions(self) -> Generator[TrialGroup, None, list[TrialSpec]]:
        """Train the trials that a sampler suggests until the budget is spent.

        Raises
        ------
        StudyInterrupted
            If some of them have not ended, or the budget has room for more.
        """
        stage, sampler = self.context.stage, StageSampler(self.context, self.journal)
        unfinished = sampler.unfinished()
        n_ended = len(sampler.specs()) - len(unfinished)
        self.run.observer.stage_started(stage, stage.n_trials, n_ended)
        if unfinished or sampler.budget() == "left":
            if stage.start_from is not None:
                self._check_states()
            yield self.run.group(sampler, self.context, self.journal)
        specs, left = sampler.specs(), sampler.unfinished()
        if left or sampler.budget() == "left":
            total = "" if stage.n_trials is None else f" of {stage.n_trials}"
            self._stop_interrupted(left, f"{len(specs) - len(left)}{total} trials")
        return specs

    def _stop_interrupted(self, left: Sequence[TrialSpec], done: str) -> NoReturn:
        """Close the runs of trials that were cut off, and raise the error that says how to go on.

        Side effects: changes the trials' runs in MLflow.
        """
        folder = self.context.folder
        for spec in left:
            outbox = Outbox.of(folder, self.context.target, spec.trial_id)
            outbox.close("KILLED", "interrupted")
        raise StudyInterrupted(
            f"study {folder.name}",
            f"interrupted: {done} of stage `{self.context.stage.name}` have ended, those cut off "
            "go on from their last checkpoint",
            hint=f"psvae-tune resume {folder.root}",
        )
