"""Every node is checked before anything is trained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from psvae_tune.cluster.nodes import Nodes
from psvae_tune.data.session_header import open_session
from psvae_tune.errors import ClusterError, PsvaeTuneError
from psvae_tune.files import write_bytes
from psvae_tune.redaction import hide_passwords
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.reachability import check_answers

ANSWER_S = 600
"""How long a node may take to start a worker and look around; it may have to install packages."""


def check_nodes(
    nodes: Nodes, output: OutputFolder, target: TrackingTarget, recordings: Sequence[str]
) -> None:
    """Make sure that a trial on any node could write its checkpoints and log its numbers.

    Parameters
    ----------
    nodes
        All of them.
    output, target
        Where trials write and log.
    recordings
        Those that trials read from their files.

    Side effects: writes a file to the output folder for as long as it takes; starts a worker on
    every node.

    Raises
    ------
    ClusterError
        With everything that any node lacks.
    """
    with _mark(output) as mark:
        task = ray.remote(num_cpus=0)(_look_around)
        answers = {
            node.name: task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False)
            ).remote(output, mark, target, recordings)
            for node in nodes.nodes
        }
        ray.wait(list(answers.values()), num_returns=len(answers), timeout=ANSWER_S)
        problems = [
            f"{name}: {problem}"
            for name, answer in answers.items()
            for problem in _collect(answer)
        ]
    if problems:
        raise ClusterError(f"{len(nodes.nodes)} nodes", problems)


@contextmanager
def _mark(output: OutputFolder) -> Iterator[str]:
    """Leave a file that nodes are to find. Side effects: writes it, and removes it after."""
    output.prepare()
    file = output.root / f".seen_by_all.{ray.get_runtime_context().get_job_id()}"
    write_bytes(file, b"")
    try:
        yield file.name
    finally:
        file.unlink()


def _collect(answer: Any) -> Sequence[str]:
    """Return what a node said, or why it said nothing."""
    try:
        problems: list[str] = ray.get(answer, timeout=0.1)
    except Exception as error:  # whatever keeps a worker from starting
        lines = [line for line in hide_passwords(str(error)).splitlines() if line.strip()]
        what = lines[-1].strip()[:300] if lines else type(error).__name__
        return [f"a worker cannot start there: {what}"]
    return problems


def _look_around(
    output: OutputFolder, mark: str, target: TrackingTarget, recordings: Sequence[str]
) -> list[str]:
    """Run on a node: say what a trial would miss there."""
    problems = []
    try:
        output.prepare()
        if not (output.root / mark).exists():
            problems.append(
                f"{output.root} is a folder of its own there; give a folder that all nodes share, "
                "or a URL"
            )
    except PsvaeTuneError as error:
        problems += error.problems
    try:
        check_answers(target)
    except PsvaeTuneError as error:
        problems.append(f"{error.where} {error.problems[0]}")
    for path in recordings:
        try:
            open_session(path).close()
        except PsvaeTuneError as error:
            problems.append(
                f"{path} is too large for memory and cannot be read from its file there: "
                f"{error.problems[0]}; give a path that all nodes share, or a URL"
            )
    return problems
