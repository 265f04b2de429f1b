"""Decide how many trials share one GPU.

Processes share a GPU by time slices: two trials that always compute on it train no more frames in
all than one. While a trial validates, or Python prepares, the GPU has time for another. So the
largest configurations of the study train for a few batches and validate, and the fewest trials
share a GPU that train as many frames in all as more would. They must also fit: the peak memory,
plus 20 % and 600 MB for CUDA, divides the free memory of the GPU that has the least.
"""

from collections.abc import Sequence
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from psvae_tune.cluster.nodes import Nodes
from psvae_tune.config.study import Study
from psvae_tune.config.trial import TrialConfig
from psvae_tune.data.session import Session
from psvae_tune.errors import StudyError
from psvae_tune.training.cost import TrialCost, measure_cost

CONTEXT_BYTES = 600 * 2**20
"""Memory that CUDA takes for every process; PyTorch does not count it."""
PACKINGS = (1, 2, 4)
"""Numbers of trials on one GPU that are compared."""
MIN_GAIN = 1.1
"""Factor by which more trials must train more frames in all."""
MEMORY_MARGIN = 1.2
"""Factor on the measured memory, because a few batches do not show the highest peak."""
SIZE_PARAMETERS = ("n_ae_latents", "n_background", "n_sessions_per_batch")
"""Parameters that increase the memory of a trial."""


def largest_configs(study: Study) -> list[TrialConfig]:
    """Return the configurations of a study that may take the most memory.

    There is one for each architecture, with the largest value of every size.

    Parameters
    ----------
    study
        Study whose stages may vary sizes and architectures.
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


def share_gpu(costs: Sequence[TrialCost], gpu_bytes: int) -> float:
    r"""Return the fraction of a GPU that each trial is given.

    The epochs a second of n trials with t seconds of steps and v seconds of validation in an epoch
    are

    .. math:: \min\left(\frac{n}{t + v}, \frac{1}{t}\right)

    Parameters
    ----------
    costs
        What the largest trials cost that are alone on a GPU.
    gpu_bytes
        Free memory of the GPU that has the least.

    Raises
    ------
    StudyError
        If a trial does not fit on a GPU.
    """
    needed = max(cost.memory_bytes for cost in costs)
    n_fitting = int(gpu_bytes // (MEMORY_MARGIN * needed + CONTEXT_BYTES))
    if not n_fitting:
        raise StudyError(
            "resources.gpus_per_trial",
            f"the largest trial takes {needed / 2**30:.1f} GB on a GPU, which with room to "
            f"spare is more than is free on one of them, got {gpu_bytes / 2**30:.1f} GB",
            hint="end other work on it, cut the recording into shorter clips, or set "
            "gpus_per_trial to a number",
        )
    best, *others = (n for n in PACKINGS if n <= n_fitting)
    # The trial that leaves the GPU the least time decides, because any may run beside it.
    busiest = max(costs, key=lambda cost: cost.train_s / cost.epoch_s)
    for n in others:
        if _epochs_per_second(busiest, n) >= MIN_GAIN * _epochs_per_second(busiest, best):
            best = n
    return 1 / best


def _epochs_per_second(cost: TrialCost, n_trials: int) -> float:
    return min(n_trials / cost.epoch_s, 1 / cost.train_s)


def measure_gpu_share(study: Study, sessions: Any, nodes: Nodes) -> float:
    """Measure the fraction of a GPU that a trial of a study needs; 0 if no node has a GPU.

    Parameters
    ----------
    study
        Study whose trials share GPUs.
    sessions
        Reference to the recordings in Ray's object store.
    nodes
        Nodes of the cluster that this process has joined.

    Side effects: trains the largest configurations on a GPU of the cluster for a few batches.

    Raises
    ------
    StudyError
        If a trial does not fit on a GPU.
    """
    if not nodes.total("GPU"):
        return 0.0
    cpus = study.resources.cpus_per_trial
    # Asked first, so that what the measurement leaves behind is not taken for other work.
    rooms = [
        ray.remote(num_cpus=0, num_gpus=0.01)(_free_bytes)
        .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False))
        .remote()
        for node in nodes.nodes
        if node.resources.get("GPU")
    ]
    task = ray.remote(num_cpus=cpus, num_gpus=1)(_measure)
    costs = task.remote(sessions, largest_configs(study), max(1, int(cpus)))
    return share_gpu(ray.get(costs), min(ray.get(rooms)))


def _measure(
    sessions: list[Session], configs: list[TrialConfig], n_threads: int
) -> list[TrialCost]:
    """Return what some configurations cost that are trained on this GPU."""
    return [measure_cost(sessions, config, n_threads) for config in configs]


def _free_bytes() -> int:
    """Return the memory of this GPU that nobody uses."""
    return torch.cuda.mem_get_info()[0]
