"""Start of Ray on this machine, and joining of a cluster."""

import logging
import os
import platform
import secrets
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import ray
from ray.exceptions import AuthenticationError

from psvae_tune.cluster.nodes import count_cpus, one_line
from psvae_tune.cluster.ray_private import (
    NO_SERVER_FOR_CLIENT,
    end_at_once,
    on_loopback,
    without_failure_handler,
)
from psvae_tune.errors import ClusterError

# Ray's workers inherit these variables. The time-out is for a trial that was stopped: its last
# checkpoint may be on the way to a slow store when Tune wants to reuse the worker. The allocator
# keeps freed memory, because every step needs tensors of the same sizes: a tenth of each step went
# into getting their memory from the system and returning it. Its variables are those of glibc.
WORKER_ENVIRONMENT = {
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "600",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
}
DRIVER_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def set_driver_environment() -> None:
    """Make Ray quiet.

    Side effects: sets variables of the environment that are not set; changes log levels.
    """
    os.environ.update({k: v for k, v in DRIVER_ENVIRONMENT.items() if k not in os.environ})
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


def start_ray(n_bytes: int) -> None:
    """Start Ray on this machine alone.

    Parameters
    ----------
    n_bytes
        Size of the recordings, which the object store must hold.

    Side effects: starts processes; `ray.shutdown` ends them.

    Raises
    ------
    ClusterError
        If it does not start.
    """
    set_driver_environment()
    # A token that only this process knows keeps other users of the machine out.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        with (
            on_loopback(),
            without_failure_handler(),
            _environment(WORKER_ENVIRONMENT),
            _deaf_to_stop_signals(),
        ):
            ray.init(
                address="local",
                num_cpus=count_cpus(),
                include_dashboard=False,
                logging_level="ERROR",
                log_to_driver=False,
                object_store_memory=int(1.2 * n_bytes) + 2**28,
            )
        end_at_once()
    except Exception as error:  # Ray raises bare ones, with a page of text
        why = str(error).partition(". ")[0]
        raise ClusterError("Ray", f"does not start on this machine: {why}") from error


@contextmanager
def _deaf_to_stop_signals() -> Iterator[None]:
    """Start processes that SIGTERM and SIGHUP do not end.

    Batch systems, containers and closed terminals send them to all processes of a study. Without
    Ray the driver could neither let its trials end nor tell anything. It ends Ray by itself, and
    Ray ends with it if it is killed. Ray blocks SIGINT likewise.

    Side effects: changes the signals that this thread takes until the context ends.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment, which processes that are started meanwhile inherit.

    Ray would set them as well, for workers of its own that it starts later and shares less.
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def join_cluster(address: str, environment: Mapping[str, str]) -> None:
    """Connect this process to a cluster, as a driver.

    Parameters
    ----------
    address
        ``auto`` for the cluster that this machine is a node of, or ``ray://HOST:10001``.
    environment
        Variables of the workers, added to those of the nodes and the job.

    Side effects: connects this process; `ray.shutdown` disconnects it.

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
            f"{ray.__version__}, Python {platform.python_version()}: {one_line(error)}",
        ) from error
    except (ConnectionError, ValueError, TimeoutError) as error:
        raise ClusterError(
            address,
            f"does not answer: {one_line(error)}",
            hint="auto is for a machine of the cluster; from elsewhere use psvae-tune submit. If "
            "the cluster asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
        ) from error


def _connect(address: str, environment: Mapping[str, str]) -> None:
    """Call `ray.init`; call it again if the head could not start a server for this client.

    Side effects: connects this process.
    """
    for is_last in (False, True):
        try:
            with without_failure_handler():
                ray.init(
                    address=address,
                    logging_level="ERROR",
                    log_to_driver=False,
                    runtime_env={"env_vars": dict(environment)},
                )
            return
        except ConnectionError as error:
            # The head forks that server while other threads run, so under load it may hang.
            if is_last or NO_SERVER_FOR_CLIENT not in str(error):
                raise
            ray.shutdown()
