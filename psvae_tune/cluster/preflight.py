"""Check of every node before anything is trained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from psvae_tune.cluster.nodes import Nodes
from psvae_tune.data.untrusted_hdf5 import open_hdf5
from psvae_tune.errors import ClusterError, PsvaeTuneError
from psvae_tune.files import write_bytes
from psvae_tune.redaction import hide_passwords
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.reachability import check_answers

ANSWER_S = 600
"""Seconds that a node may take for its check.

It starts a worker first, and may have to install packages for that.
"""


def check_nodes(
    nodes: Nodes, output: OutputFolder, target: TrackingTarget, recordings: Sequence[str]
) -> None:
    """Make sure that a trial on any node could write its checkpoints and log its numbers.

    Parameters
    ----------
    nodes
        All nodes of the cluster that this process has joined.
    output, target
        Folder that trials write to, and server that they log to.
    recordings
        Recordings that trials read from their files, because they are too large for memory.

    Side effects: writes a file to the output folder, and removes it; starts a worker on every
    node.

    Raises
    ------
    ClusterError
        If a node lacks something; the error lists everything that any of them lacks.
    """
    with _shared_file(output) as name:
        task = ray.remote(num_cpus=0)(_find_problems)
        answers = {
            node.name: task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False)
            ).remote(output, name, target, recordings)
            for node in nodes.nodes
        }
        ray.wait(list(answers.values()), num_returns=len(answers), timeout=ANSWER_S)
        problems = [
            f"{name}: {problem}"
            for name, answer in answers.items()
            for problem in _read_answer(answer)
        ]
    if problems:
        raise ClusterError(f"{len(nodes.nodes)} nodes", problems)


@contextmanager
def _shared_file(output: OutputFolder) -> Iterator[str]:
    """Yield the name of a file in the output folder, which every node must find.

    Side effects: writes the file, and removes it at the end.
    """
    output.prepare()
    file = output.root / f".seen_by_all.{ray.get_runtime_context().get_job_id()}"
    write_bytes(file, b"")
    try:
        yield file.name
    finally:
        file.unlink()


def _read_answer(answer: Any) -> Sequence[str]:
    """Return the problems that a node has found, or the reason why its check did not run."""
    try:
        problems: list[str] = ray.get(answer, timeout=0.1)
    except Exception as error:  # whatever keeps a worker from starting
        lines = [line for line in hide_passwords(str(error)).splitlines() if line.strip()]
        what = lines[-1].strip()[:300] if lines else type(error).__name__
        return [f"a worker cannot start there: {what}"]
    return problems


def _find_problems(
    output: OutputFolder, shared_file: str, target: TrackingTarget, recordings: Sequence[str]
) -> list[str]:
    """Return everything that a trial would lack on the node that this runs on."""
    problems = []
    try:
        output.prepare()
        if not (output.root / shared_file).exists():
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
            open_hdf5(path).close()
        except PsvaeTuneError as error:
            problems.append(
                f"{path} is too large for memory and cannot be read from its file there: "
                f"{error.problems[0]}; give a path that all nodes share, or a URL"
            )
    return problems
