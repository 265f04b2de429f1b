"""A Ray cluster that others have started: joining it, and whether each node can do its part."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import AuthenticationError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from psvae_tune.config.study import Resources
from psvae_tune.data.session_header import open_session
from psvae_tune.errors import ClusterError, PsvaeTuneError
from psvae_tune.files import write_bytes
from psvae_tune.redaction import hide_passwords
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.reachability import check_answers

ANSWER_S = 600
"""How long a node may take to start a worker and look around; it may have to install packages."""


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a cluster."""

    node_id: str
    name: str
    resources: Mapping[str, float]

    def count_slots(self, cpus: float, gpus: float) -> int:
        """Return how many trials fit on it at a time."""
        slots = [self.resources.get("CPU", 0) / cpus]
        if gpus:
            slots.append(self.resources.get("GPU", 0) / gpus)
        return int(min(slots) + 1e-9)


@dataclass(frozen=True, slots=True)
class Nodes:
    """The machines of a cluster that are up."""

    nodes: tuple[Node, ...]

    def count_slots(self, cpus: float, gpus: float) -> int:
        """Return how many trials fit at a time, each on one node."""
        return sum(node.count_slots(cpus, gpus) for node in self.nodes)

    def total(self, resource: str) -> float:
        """Return how much of a resource all nodes have."""
        return sum(node.resources.get(resource, 0) for node in self.nodes)

    def store_bytes(self) -> int:
        """Return what the smallest object store of them all holds."""
        return int(min(node.resources.get("object_store_memory", 0) for node in self.nodes))

    def check_room(self, resources: Resources) -> None:
        """Make sure that some node can hold a trial.

        Raises
        ------
        ClusterError
            If none can.
        """
        cpus = resources.cpus_per_trial
        gpus = 0.0 if resources.gpus_per_trial == "auto" else resources.gpus_per_trial
        if self.count_slots(cpus, gpus):
            return
        largest = "; ".join(sorted({_describe(node.resources) for node in self.nodes}))
        raise ClusterError(
            "resources",
            f"a trial needs {_describe({'CPU': cpus, 'GPU': gpus})}, no node has as much: "
            f"got nodes of {largest or 'nothing'}",
            hint="ask for less with --set resources.cpus_per_trial=… or gpus_per_trial, or start "
            "a node that is large enough; a cluster that grows by itself needs one to go by",
        )


def _describe(resources: Mapping[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPU, {resources.get('GPU', 0):g} GPU"


def join_cluster(address: str, environment: Mapping[str, str]) -> None:
    """Become a driver of a cluster.

    Parameters
    ----------
    address
        ``auto`` for the cluster that this machine is a node of, or ``ray://HOST:10001``.
    environment
        Of the workers, beside what the nodes and the job have.

    Side effects: connects this process; `ray.shutdown` ends that, the cluster stays.

    Raises
    ------
    ClusterError
        If it cannot be joined.
    """
    try:
        _connect(address, environment)
    except AuthenticationError as error:
        raise ClusterError(
            address,
            "refuses this token" if "nvalid" in str(error) else "asks for a token",
            hint="set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH",
        ) from error
    except RuntimeError as error:
        if "ersion" not in str(error):
            raise
        raise ClusterError(
            address,
            "runs other versions than this machine with Ray "
            f"{ray.__version__}, Python {platform.python_version()}: {shorten(error)}",
        ) from error
    except (ConnectionError, ValueError, TimeoutError) as error:
        raise ClusterError(
            address,
            f"does not answer: {shorten(error)}",
            hint="auto is for a machine of the cluster; from elsewhere use psvae-tune submit. If "
            "the cluster asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
        ) from error


def _connect(address: str, environment: Mapping[str, str]) -> None:
    """Call `ray.init`, once more if the head could not start what serves this client.

    Side effects: connects this process.
    """
    for is_last in (False, True):
        try:
            ray.init(
                address=address,
                logging_level="ERROR",
                log_to_driver=False,
                runtime_env={"env_vars": dict(environment)},
            )
            return
        except ConnectionError as error:
            # A busy head forks it from among threads, which now and then leaves it hanging.
            if is_last or "Initialization failure" not in str(error):
                raise
            ray.shutdown()


def shorten(error: Exception) -> str:
    """Return what a library of the cluster says, in one line and without secrets."""
    return " ".join(hide_passwords(str(error)).split())[:200]


def list_nodes() -> Nodes:
    """Return the nodes of the cluster that this process has joined."""
    return Nodes(
        tuple(
            Node(item["NodeID"], item["NodeManagerHostname"], item["Resources"])
            for item in ray.nodes()
            if item["Alive"]
        )
    )


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
