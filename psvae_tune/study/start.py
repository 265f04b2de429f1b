"""A study is started or resumed: its place is made sure of, its recordings are read, it runs."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import ray

from psvae_tune.cluster.job_log import report_ready
from psvae_tune.cluster.nodes import Nodes
from psvae_tune.cluster.ray_session import start_ray
from psvae_tune.config.study import Resources
from psvae_tune.data.session import Session
from psvae_tune.search.progress import StudyObserver, TrialReport
from psvae_tune.study.interrupt import explain_full_disk, explain_interruption
from psvae_tune.study.load_sessions import choose_streamed, read_sessions
from psvae_tune.study.location import join, open_location
from psvae_tune.study.plan import StudyPlan
from psvae_tune.study.resume_check import check_unchanged
from psvae_tune.study.shadowing import check_shadows
from psvae_tune.study.study_capacity import measure_plan
from psvae_tune.tracking.folders import OutputFolder

if TYPE_CHECKING:
    from psvae_tune.study.run import StudyOutcome


class RunObserver(StudyObserver, Protocol):
    """Receives everything that happens from the start of a study to its end."""

    def cluster_joined(self, nodes: Nodes, resources: Resources) -> None:
        """Every node of the cluster has been checked and can run trials."""

    def reading_started(self, n_frames: int, streamed: Sequence[str]) -> None:
        """Recordings of ``n_frames`` are read; the ``streamed`` ones stay in their files."""

    def frames_read(self, n_frames: int) -> None:
        """``n_frames`` of all recordings have been read so far."""

    def capacity_measured(self, lines: Sequence[str], warnings: Sequence[str]) -> None:
        """It is known how many unsupervised latents the frames keep active."""


class SilentObserver(RunObserver):
    """Shows nothing."""


def start_study(
    plan: StudyPlan,
    output: OutputFolder,
    name: str,
    observer: RunObserver,
    *,
    tracking_uri: str | None = None,
    address: str | None = None,
    accept_changes: bool = False,
) -> "StudyOutcome":
    """Run a study, or the rest of it, from its plan to its logged choice.

    Parameters
    ----------
    plan
        Settings and recordings.
    output
        Folder of all studies.
    name
        Name of the study; one of this name that was interrupted goes on.
    observer
        Told of everything that happens.
    tracking_uri
        Store or server of MLflow; by default that of the file, else one in ``output``.
    address
        Ray cluster to join, as in `join_cluster`; None for this machine alone.
    accept_changes
        Whether a study goes on although its settings or recordings have changed.

    Side effects: writes to the study's folder and to MLflow; starts Ray here, unless it joins a
    cluster; ends Ray, or leaves the cluster.

    Raises
    ------
    UserError
        If something stands in the way; then nothing has been trained.
    StudyError
        If the study was interrupted, or no trial can be chosen.
    """
    check_shadows(Path.cwd())
    folder = output.study(name)
    with explain_interruption(folder) as signals:
        location = open_location(plan, output, name, tracking_uri, is_shared=address is not None)
        if address is None:
            streamed = choose_streamed(plan)
        else:
            nodes, streamed = join(address, plan, output, location)
            signals.install()
            report_ready(nodes.describe(plan.study.resources))
            observer.cluster_joined(nodes, plan.study.resources)
        plan, sessions = _read(plan, streamed, observer)
        with explain_full_disk(folder), folder.lock():
            if not accept_changes:
                check_unchanged(folder, plan.contents, sessions)
            with _starting_ray(sessions) as wait_for_ray:
                # This import takes seconds, in which Ray starts.
                from psvae_tune.study.run import run

                return run(plan, sessions, location, observer, wait_for_ray)


def start_inline(
    plan: StudyPlan,
    output: OutputFolder,
    name: str,
    observer: RunObserver,
    *,
    tracking_uri: str | None = None,
) -> Iterator[TrialReport]:
    """Train the settings that a study begins with, in this process and without Ray.

    The parameters are those of `start_study`. Yields a report after every validation.
    """
    folder = output.study(name)
    with explain_interruption(folder):
        location = open_location(plan, output, name, tracking_uri)
        plan, sessions = _read(plan, choose_streamed(plan), observer)
        from psvae_tune.study.run import run_inline  # takes seconds, like the one above

        with explain_full_disk(folder), folder.lock():
            check_unchanged(folder, plan.contents, sessions)
            yield from run_inline(plan, sessions, location)


def _read(
    plan: StudyPlan, streamed: Sequence[str], observer: RunObserver
) -> tuple[StudyPlan, list[Session]]:
    """Read the recordings; return them, and the plan with what is taken from their frames."""
    observer.reading_started(sum(header.n_frames for header in plan.headers), streamed)
    sessions = read_sessions(plan, streamed, observer.frames_read)
    found = measure_plan(plan, sessions)
    observer.capacity_measured(found.lines, found.warnings)
    return found.plan, sessions


@contextmanager
def _starting_ray(sessions: Sequence[Session]) -> Iterator[Callable[[], None]]:
    """Start Ray in a thread, unless this process has joined a cluster; end it with the context.

    Yields a function that returns once Ray has started.
    """
    with ThreadPoolExecutor(1) as thread:
        start: Future[None] = Future()
        if ray.is_initialized():
            start.set_result(None)
        else:
            n_bytes = sum(session.frames.nbytes for session in sessions)
            start = thread.submit(start_ray, n_bytes)
        try:
            yield start.result
        finally:
            wait([start])
            ray.shutdown()
