"""How many trials share a GPU: as many as fit, by the memory that the largest was seen to take."""

from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from psvae_tune.cluster.nodes import Nodes
from psvae_tune.config.study import Study
from psvae_tune.config.trial import TrialConfig
from psvae_tune.data.session import Session
from psvae_tune.errors import StudyError
from psvae_tune.training.batches import MAX_TRIALS_PER_GPU
from psvae_tune.training.cost import measure_cost

# What CUDA takes for every process beside what PyTorch counts, and room for what was not seen.
CONTEXT_BYTES = 600 * 2**20
MEMORY_MARGIN = 1.2
SIZE_PARAMETERS = ("n_ae_latents", "n_background", "n_sessions_per_batch")


def largest_configs(study: Study) -> list[TrialConfig]:
    """Return the settings of a study that may take the most memory: every architecture, largest.

    Parameters
    ----------
    study
        Whose stages may vary sizes and architectures.
    """
    domains = [item for stage in study.stages for item in stage.space.items()]
    sizes = {name: domain.extremes for name, domain in domains if name in SIZE_PARAMETERS}
    largest = {name: max(corners) for name, corners in sizes.items()}
    networks = [
        value for name, domain in domains if name == "ae_arch_json" for value in domain.extremes
    ]
    return [study.base.with_params(largest | {"ae_arch_json": value}) for value in networks] or [
        study.base.with_params(largest)
    ]


def share_gpu(needed_bytes: int, gpu_bytes: int) -> float:
    """Return the share of a GPU that a trial is given.

    Parameters
    ----------
    needed_bytes
        What the largest trial was seen to take at most.
    gpu_bytes
        What the smallest GPU has.

    Raises
    ------
    StudyError
        If a trial does not fit on a GPU.
    """
    n_trials = int(gpu_bytes // (MEMORY_MARGIN * needed_bytes + CONTEXT_BYTES))
    if not n_trials:
        raise StudyError(
            "resources.gpus_per_trial",
            f"the largest trial takes {needed_bytes / 2**30:.1f} GB on a GPU, which with room to "
            f"spare is more than the smallest has, got {gpu_bytes / 2**30:.1f} GB",
            hint="cut the recording into shorter clips, or set gpus_per_trial to a number",
        )
    return 1 / min(n_trials, MAX_TRIALS_PER_GPU)


def measure_gpu_share(study: Study, sessions: Any, nodes: Nodes) -> float:
    """Train the largest settings of a study for a moment, and see how many fit on a GPU.

    Parameters
    ----------
    study
        Whose trials are to be packed.
    sessions
        In Ray's object store.
    nodes
        Of the cluster that this process has joined; 0 is returned if none has a GPU.

    Side effects: trains on a GPU of the cluster for a few batches.

    Raises
    ------
    StudyError
        If a trial does not fit on a GPU.
    """
    if not nodes.total("GPU"):
        return 0.0
    cpus = study.resources.cpus_per_trial
    task = ray.remote(num_cpus=cpus, num_gpus=1)(_measure)
    needed = task.remote(sessions, largest_configs(study), max(1, int(cpus)))
    sizes = [
        ray.remote(num_cpus=0, num_gpus=0.01)(_gpu_bytes)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False))
        .remote()
        for node in nodes.nodes
        if node.resources.get("GPU")
    ]
    return share_gpu(ray.get(needed), min(ray.get(sizes)))


def _measure(sessions: list[Session], configs: list[TrialConfig], n_threads: int) -> int:
    """Run on a GPU: return the bytes that the largest of some settings takes."""
    return max(measure_cost(sessions, config, n_threads).memory_bytes for config in configs)


def _gpu_bytes() -> int:
    """Run on a GPU: return what it has."""
    return torch.cuda.get_device_properties(0).total_memory
