"""Everything of Ray that this package uses and that Ray does not promise to keep.

``pyproject.toml`` lists the names beside the version of Ray. `tests/cluster/test_ray_private.py`
fails with the name of each that another version has moved.
"""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ray._private import ray_constants, worker
from ray.util import client

SECRETS = {"AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"}
JOBS_CLIENT_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
NO_SERVER_FOR_CLIENT = "Initialization failure"
"""Part of the error of a head that could not start the process which serves a client."""
MANY_ACTORS = 2**20
"""Number of idle workers that Ray Tune keeps at most: all."""
LOST_CONNECTION = "closed unexpectedly"
"""Part of the error of a connection that ends while a job is followed."""


def withhold_secrets() -> None:
    """Keep Ray Tune from sending keys to its workers by way of a log: nodes have their own.

    Side effects: changes for good what this process sends.
    """
    from ray.tune.execution import class_cache  # takes seconds, and not all need Ray Tune

    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(SECRETS)


@contextmanager
def on_loopback() -> Iterator[None]:
    """Have a Ray that is started meanwhile listen on this machine only, not on all networks.

    Ray does so where it does not support clusters, and there is no setting for it: an address
    given to `ray.init` is replaced by one that others can reach.
    """
    with _constant("ENABLE_RAY_CLUSTER", False):
        yield


@contextmanager
def without_failure_handler() -> Iterator[None]:
    """Have a Ray that is started or joined meanwhile print no stack trace at SIGTERM.

    Its handler would reset the signal when Ray is shut down: a second one that comes then would
    end this process without a word. In the main thread `ray.init` sets another one, in Python.
    """
    with _constant("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", True):
        yield


@contextmanager
def _constant(name: str, value: bool) -> Iterator[None]:
    before = getattr(ray_constants, name)
    setattr(ray_constants, name, value)
    try:
        yield
    finally:
        setattr(ray_constants, name, before)


def end_at_once() -> None:
    """Have the Ray that this process has started end at once when it is shut down.

    Ray would send SIGTERM to its processes, one after another, and wait a second for each. What
    they have started would end seconds later.

    Side effects: changes what `ray.shutdown` and the end of this process do.
    """
    node = worker._global_node
    kill_all = node.kill_all_processes

    def kill(**how: Any) -> None:
        _kill_processes(node)
        kill_all(**how | {"allow_graceful": False})

    node.kill_all_processes = kill


def kill_ray() -> None:
    """Kill the Ray that this process has started, from any thread.

    If this process ended first, Ray's agents would look for their head for a minute.

    Side effects: ends processes; Ray can no longer be used.
    """
    if worker._global_node is not None:
        _kill_processes(worker._global_node)


def _kill_processes(node: Any) -> None:
    """Kill the processes that a node was started as, and then all that write to its logs.

    Of a process whose parent has ended, the logs alone tell whose it is. Those of a cluster that
    this process has joined are not its own.
    """
    _kill({info.process.pid for infos in node.all_processes.copy().values() for info in infos})
    if node.is_head():
        folder = os.path.realpath(node.get_session_dir_path())
        _kill(_list_writers(f"{folder}/") - {os.getpid()})


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _list_writers(folder: str) -> set[int]:
    """Return the processes that have a file of a folder open to write; Linux knows them."""
    return {int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _writes_to(entry, folder)}


def _writes_to(process: Path, folder: str) -> bool:
    with suppress(OSError):  # it has ended, or is another user's
        for file in (process / "fd").iterdir():
            if os.readlink(file).startswith(folder):
                info = (process / "fdinfo" / file.name).read_text()
                if int(info.partition("flags:")[2].split()[0], 8) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    return False


def keep_actors(tune_controller: Any, trial: Any) -> None:
    """Have Ray Tune keep every worker whose trial has ended for a trial that comes later.

    It keeps one otherwise, and ends those for which no trial waits. Workers that are kept end
    with its run.

    Parameters
    ----------
    tune_controller
        The controller, as a scheduler is given it.
    trial
        Any trial of it: all need the same resources.
    """
    tune_controller._actor_cache.increase_max(trial.placement_group_factory, by=MANY_ACTORS)


def is_client() -> bool:
    """Return whether this process uses a cluster through a ``ray://`` address."""
    return bool(client.ray.is_connected())


def read_ray_version(jobs_client: Any) -> str:
    """Return the version of Ray that a cluster runs. Side effects: asks its head."""
    return str(jobs_client._do_request("GET", "/api/version").json()["ray_version"])


def silence_jobs_client() -> None:
    """Have the client of Ray Jobs log warnings only. Side effects: sets levels of loggers."""
    for name in JOBS_CLIENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
