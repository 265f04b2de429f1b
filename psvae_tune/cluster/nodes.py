"""Nodes of a Ray cluster: their resources, and the number of trials that fit on them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import ray

from psvae_tune.config.study import Resources
from psvae_tune.config.wording import pluralise
from psvae_tune.errors import ClusterError
from psvae_tune.redaction import hide_passwords


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of a cluster."""

    node_id: str
    name: str
    resources: Mapping[str, float]

    def count_slots(self, cpus: float, gpus: float) -> int:
        """Return the number of trials that fit on the node at a time.

        Parameters
        ----------
        cpus, gpus
            CPUs and GPUs of one trial.
        """
        slots = [self.resources.get("CPU", 0) / cpus]
        if gpus:
            slots.append(self.resources.get("GPU", 0) / gpus)
        return int(min(slots) + 1e-9)


@dataclass(frozen=True, slots=True)
class Nodes:
    """All machines of a cluster that are up."""

    nodes: tuple[Node, ...]

    def count_slots(self, cpus: float, gpus: float) -> int:
        """Return the number of trials that fit at a time, each on one node."""
        return sum(node.count_slots(cpus, gpus) for node in self.nodes)

    def total(self, resource: str) -> float:
        """Return the amount of a resource on all nodes together."""
        return sum(node.resources.get(resource, 0) for node in self.nodes)

    def store_bytes(self) -> int:
        """Return the number of bytes that the smallest object store of any node holds."""
        return int(min(node.resources.get("object_store_memory", 0) for node in self.nodes))

    def describe(self, resources: Resources) -> str:
        """Return a sentence on the size of the cluster and the number of trials that fit."""
        n_slots = self.count_slots(resources.cpus_per_trial, _known_gpus(resources))
        return (
            f"{pluralise(len(self.nodes), 'node')}, {pluralise(self.total('CPU'), 'CPU')}, "
            f"{pluralise(self.total('GPU'), 'GPU')}: "
            f"up to {pluralise(n_slots, 'trial')} at a time. "
            "The others wait, and nodes that join later take them up"
        )

    def check_room(self, resources: Resources) -> None:
        """Make sure that some node can hold a trial.

        Raises
        ------
        ClusterError
            If none can.
        """
        cpus, gpus = resources.cpus_per_trial, _known_gpus(resources)
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


def _known_gpus(resources: Resources) -> float:
    """Return the number of GPUs of a trial; 0 for ``auto``, which is measured later."""
    return 0.0 if resources.gpus_per_trial == "auto" else resources.gpus_per_trial


def _describe(resources: Mapping[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPU, {resources.get('GPU', 0):g} GPU"


def one_line(error: Exception) -> str:
    """Return the message of an error in one line, without passwords."""
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


def count_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS does not bind processes to CPUs


def count_local_slots(resources: Resources) -> int:
    """Return the number of trials that this machine trains at a time, each as fast as alone.

    A GPU counts for one trial: trials that share it are taken to be no faster together than one
    after the other.
    """
    import torch  # takes a second, which the clients of a cluster can do without

    n_gpus = torch.cuda.device_count()
    machine = Node("local", "this machine", {"CPU": count_cpus(), "GPU": n_gpus})
    n_slots = machine.count_slots(resources.cpus_per_trial, min(n_gpus, 1))
    n_concurrent = resources.max_concurrent_trials
    return max(1, n_slots if n_concurrent == "auto" else min(n_slots, n_concurrent))
