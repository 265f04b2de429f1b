"""Measure the cost of a study on this machine, by a short fit on its recordings."""

from dataclasses import dataclass

from psvae_tune.cluster.nodes import count_local_slots
from psvae_tune.study.check_buildable import check_buildable
from psvae_tune.study.estimate import estimate_epochs
from psvae_tune.study.load_sessions import choose_streamed, read_sessions
from psvae_tune.study.plan import StudyPlan
from psvae_tune.study.study_capacity import measure_plan
from psvae_tune.training.cost import measure_cost


@dataclass(frozen=True, slots=True)
class StudyCost:
    """Time and memory that a study takes on this machine."""

    epoch_s: float
    """Seconds that one trial takes for an epoch."""
    n_slots: int
    """Number of trials that run beside each other, each as fast as alone."""
    n_epochs: int | None
    """Number of epochs of the busiest slot; None if only time limits a stage."""
    trial_bytes: int
    """Memory of one trial, without the recordings, which all trials share."""
    recording_bytes: int
    """Memory of the recordings."""


def measure_study(plan: StudyPlan) -> StudyCost:
    """Read the recordings of a study, and train one trial on them for a moment.

    Raises
    ------
    ConfigError, DataError
        If a recording cannot be used, or a model cannot be built for it.
    """
    sessions = read_sessions(plan, choose_streamed(plan))
    plan = measure_plan(plan, sessions).plan
    check_buildable(plan.study, sessions)
    resources = plan.study.resources
    trial = measure_cost(sessions, plan.study.base, max(1, int(resources.cpus_per_trial)))
    n_slots = count_local_slots(resources)
    return StudyCost(
        epoch_s=trial.epoch_s,
        n_slots=n_slots,
        n_epochs=estimate_epochs(plan.study, n_slots).n_epochs,
        trial_bytes=trial.memory_bytes,
        recording_bytes=sum(session.frames.nbytes for session in sessions),
    )
