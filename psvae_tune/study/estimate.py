"""The cost of a study is estimated in epochs, beside the grid of everything that it varies."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psvae_tune.config.selection_rule import REPEATED
from psvae_tune.config.stage import Stage
from psvae_tune.config.stage_settings import EPOCHS, possible_settings
from psvae_tune.config.study import Study
from psvae_tune.config.trial import TrialConfig, with_fewer_epochs
from psvae_tune.search.successive_halving import count_survivors, epoch_divisors

Choices = Mapping[str, frozenset[Any]]
"""Settings that each hyperparameter may have. Of a range, an object that equals no setting."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The largest cost of a study, in epochs."""

    n_epochs: int | None
    """Epochs that the slot with the most work trains; None where only time limits a stage."""
    n_exhaustive: int | None
    """Epochs of the full grid over all stages; None where values are drawn from a range."""


def estimate_epochs(study: Study, n_slots: int = 1) -> Estimate:
    """Return the most epochs that a study trains, whatever its stages choose.

    A trial that an earlier stage has surely finished is not trained again. No trial is taken to
    fail, and a scheduler to stop none.

    Parameters
    ----------
    study
        The study.
    n_slots
        Number of trials that run at a time. A stage ends before the next one begins.
    """
    parts = [_count_epochs(step, study.base, n_slots) for step in _follow(study)]
    n_epochs = None if None in parts else sum(part for part in parts if part is not None)
    return Estimate(n_epochs, _count_exhaustive(study))


def count_rounds(stage: Stage, base: TrialConfig, n_trials: int) -> list[tuple[int, int]]:
    """Return the most trials, and their epochs, of each round of ``fidelity: schedule``.

    Parameters
    ----------
    stage
        A stage that has this setting.
    base
        Settings that it starts from.
    n_trials
        Number of its trials.
    """
    assert stage.fidelity is not None
    factor = stage.fidelity.schedule.reduction_factor
    repeated = [stage.space[name] for name in REPEATED if name in stage.space]
    n_fits = math.prod(len(d.values) if d.is_list else n_trials for d in repeated)
    rounds = []
    for divisor in [*epoch_divisors(n_trials, factor), 1]:
        rounds.append((n_trials, with_fewer_epochs(base, divisor).training.max_n_epochs))
        n_trials = count_survivors(n_trials, factor, stage.select, min(n_fits, n_trials))
    return rounds


def _count_exhaustive(study: Study) -> int | None:
    """Return the epochs of every combination of what all stages vary; None with a range."""
    if not all(domain.is_list for stage in study.stages for domain in stage.space.values()):
        return None
    values: dict[str, set[Any]] = {}
    for step in _follow(study):
        for name, own in step.own.items():
            values.setdefault(name, set()).update(own)
    epochs = values.pop(EPOCHS, {study.base.training.max_n_epochs})
    return math.prod(map(len, values.values())) * int(sum(epochs))


@dataclass(frozen=True, slots=True)
class _Step:
    """A stage, as far as it is known before anything has run."""

    stage: Stage
    before: tuple["_Step", ...]
    start: Choices
    """Settings that the stage may start from."""
    own: Choices
    """Settings of the hyperparameters that it varies."""
    longest: int
    """Epochs of its longest trial."""

    @property
    def is_halved(self) -> bool:
        """Whether only a part of its trials is trained in full."""
        fidelity, n_trials = self.stage.fidelity, self.stage.n_trials
        if fidelity is None or n_trials is None:
            return False
        return bool(epoch_divisors(n_trials, fidelity.schedule.reduction_factor))

    @property
    def finishes_all(self) -> bool:
        """Whether each of its points is surely trained to its end, not the chosen one alone."""
        return self.stage.algorithm == "grid" and not (self.stage.scheduler or self.is_halved)

    def surely_finished(self, name: str) -> frozenset[Any]:
        """Return the settings of a hyperparameter that trials are surely finished at."""
        if name in self.own:
            return self.own[name]
        return self.start[name] if len(self.start[name]) == 1 else frozenset()


def _follow(study: Study) -> Iterator[_Step]:
    """Yield the stages of a study in their order."""
    before: tuple[_Step, ...] = ()
    start = {name: frozenset([value]) for name, value in study.base.params.items()}
    possible = possible_settings(study.stages, study.base)
    for stage, settings in zip(study.stages, possible, strict=True):
        own = {
            name: frozenset(settings[name] if domain.is_list else [object()])
            for name, domain in stage.space.items()
        }
        step = _Step(stage, before, start, own, int(max(settings[EPOCHS])))
        yield step
        before, start = (*before, step), {**start, **own}


def _count_epochs(step: _Step, base: TrialConfig, n_slots: int) -> int | None:
    """Return the most epochs that one slot trains in a stage; None if only time limits it."""
    stage, n_trials = step.stage, step.stage.n_trials
    if step.is_halved:
        assert n_trials is not None
        longest = base.with_params({EPOCHS: step.longest})
        # Random draws may repeat each other, and fewer trials may have fewer and longer rounds.
        fewest = n_trials if stage.algorithm == "grid" else 1
        return max(
            sum(
                _busiest_slot([epochs] * count, n_slots)
                for count, epochs in count_rounds(stage, longest, n)
            )
            for n in range(fewest, n_trials + 1)
        )
    bounds = []
    if stage.num_epochs is not None:
        # The last trial of a slot begins when all others are busy.
        bounds.append(step.longest + (stage.num_epochs - step.longest) // n_slots)
    if stage.algorithm == "grid":
        bounds.append(_busiest_slot(_epochs_to_train(step), n_slots))
    elif n_trials is not None:
        bounds.append(_busiest_slot([step.longest] * n_trials, n_slots))
    return min(bounds, default=None)


def _busiest_slot(epochs: Sequence[int], n_slots: int) -> int:
    r"""Return the most epochs that one of several slots trains, in whatever order trials begin.

    .. math:: \min\Big(\lceil n / m \rceil\, e_{max},\;
              e_{max} + \Big\lfloor \frac{\sum e - e_{max}}{m} \Big\rfloor\Big)

    The second bound holds because a trial begins no later than the others keep all slots busy.

    References
    ----------
    Graham (1969), Bounds on multiprocessing timing anomalies, SIAM J. Appl. Math. 17(2).
    """
    longest = max(epochs, default=0)
    by_rounds = math.ceil(len(epochs) / n_slots) * longest
    return min(by_rounds, longest + (sum(epochs) - longest) // n_slots)


def _epochs_to_train(step: _Step) -> list[int]:
    """Return the epochs of each point of a grid that no earlier stage has surely finished."""
    names = list(step.own)
    known: set[tuple[Any, ...]] = set()
    for i, other in enumerate(step.before):
        starts_new = not (step.stage.start_from or other.stage.start_from)
        if starts_new and other.finishes_all and _has_its_start(step, other, step.before[i + 1 :]):
            known |= set(
                itertools.product(
                    *(step.own[name] & other.surely_finished(name) for name in names)
                )
            )
    left = [point for point in itertools.product(*step.own.values()) if point not in known]
    epochs = {
        point: dict(zip(names, point, strict=True)).get(EPOCHS, step.longest) for point in left
    }
    # The choice that the stage starts from is finished, too, and may be any of these points.
    # A trial with new initial weights is another one than a trial that went on.
    is_of_kind = step.before and (step.stage.start_from or not step.before[-1].stage.start_from)
    can_start_at = [
        point for point in itertools.product(*(step.start[name] for name in names)) if is_of_kind
    ]
    if can_start_at and all(point in epochs for point in can_start_at):
        del epochs[min(can_start_at, key=epochs.__getitem__)]
    return list(epochs.values())


def _has_its_start(step: _Step, other: _Step, between: Sequence[_Step]) -> bool:
    """Return whether an earlier stage surely had the settings that a stage does not vary."""
    changed = {name for later in between for name in later.own} - set(step.own)
    return all(step.start[name] <= other.surely_finished(name) for name in changed)
