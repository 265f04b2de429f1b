"""Jobs on a Ray cluster, from a machine that is none of it: submit, watch, stop.

A job is this very program, started on the cluster: its code, the search-space file and what the
command line says go along. Nothing secret does, because everyone who sees the cluster sees its
jobs; passwords and keys belong into the environment of the nodes.
"""

import asyncio
import os
import platform
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import ray
from ray.exceptions import AuthenticationError

import psvae_tune
from psvae_tune.cluster.job_log import first_line
from psvae_tune.cluster.nodes import Node, Nodes, one_line
from psvae_tune.cluster.ray_private import LOST_CONNECTION, read_ray_version, silence_jobs_client
from psvae_tune.config.study import Resources
from psvae_tune.errors import ClusterError, StorageError, TrackingError
from psvae_tune.files import is_url, locate
from psvae_tune.redaction import hide_passwords, holds_password
from psvae_tune.tracking.reachability import check_shareable, is_loopback

STUDY, OUTPUT = "psvae_tune.study", "psvae_tune.output"
STOP_WAIT_S = 60
MAX_NODES = 10_000
# Ray stops a job with a signal that leaves no time to save anything, unless it is told another.
GRACEFUL_STOP_ENV = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
TERMINAL_STATES = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a job is to do, and everything that it needs for that."""

    study: str
    output: str
    arguments: tuple[str, ...]
    """Of ``psvae-tune``."""
    tracking_uri: str
    files: Mapping[str, str] = field(default_factory=dict)
    """Texts that lie where the job starts."""
    package: str | None = None
    """A wheel or a requirement for pip on every node; None for the code that runs here."""


@dataclass(frozen=True, slots=True)
class Job:
    """A study on a cluster."""

    job_id: str
    study: str
    output: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    message: str
    started: datetime | None
    ended: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in TERMINAL_STATES


@dataclass(frozen=True, slots=True)
class JobsClient:
    """A cluster that answers."""

    address: str
    _client: Any = field(repr=False)

    @classmethod
    def reach(cls, address: str) -> Self:
        """Reach a cluster of the versions that run here.

        Parameters
        ----------
        address
            Of its head, ``http://HEAD:8265``.

        Side effects: has Ray use the token of the environment, and no address of it.

        Raises
        ------
        ClusterError
            If it does not answer, refuses the token, or runs another version of Ray.
        """
        if not address.startswith(("http://", "https://")):
            raise ClusterError(
                f"--address {address}",
                "must be that of the cluster's jobs",
                hint="http://HEAD:8265; ray:// and auto are for psvae-tune run",
            )
        # Ray heeds these more than what it is called with.
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            os.environ.pop(name, None)
        if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        from ray.job_submission import JobSubmissionClient

        silence_jobs_client()
        with _as_cluster_error(address):
            client = JobSubmissionClient(address)
            version = read_ray_version(client)
        if version != ray.__version__:
            raise ClusterError(
                address,
                f"runs Ray {version}, this machine Ray {ray.__version__}",
                hint=f"pip install 'ray[default]=={version}' here, or update the cluster",
            )
        return cls(address, client)

    def check_room(self, resources: Resources) -> None:
        """Make sure that some node can hold a trial, as far as the head tells of its nodes.

        Raises
        ------
        ClusterError
            If none can.
        """
        from ray.util.state import list_nodes

        with _as_cluster_error(self.address):
            found = list_nodes(self.address, limit=MAX_NODES, raise_on_missing_output=False)
        nodes = Nodes(
            tuple(
                Node(item.node_id, item.node_name, item.resources_total or {})
                for item in found
                if item.state == "ALIVE"
            )
        )
        # A head that has just started knows of no node yet; the job looks again.
        if nodes.nodes:
            nodes.check_room(resources)

    def submit(self, order: JobSpec) -> str:
        """Start a job; return its id.

        Side effects: sends the code and the files.

        Raises
        ------
        ClusterError
            If what it is told holds a password.
        """
        _check_public(order)
        environment = {
            **GRACEFUL_STOP_ENV,
            "MLFLOW_TRACKING_URI": order.tracking_uri,
            "PSVAE_TUNE_PYTHON": platform.python_version(),
            "NO_COLOR": "1",
        }
        with TemporaryDirectory() as folder, _as_cluster_error(self.address):
            runtime_env = {
                "working_dir": folder,
                "env_vars": environment,
                **_provide_package(order.package, Path(folder)),
            }
            for name, text in order.files.items():
                (Path(folder) / name).write_text(text, encoding="utf-8")
            return str(
                self._client.submit_job(
                    entrypoint=shlex.join(
                        ["python", "-m", "psvae_tune", *order.arguments, "--address", "auto"]
                    ),
                    runtime_env=runtime_env,
                    metadata={STUDY: order.study, OUTPUT: order.output},
                )
            )

    def find(self, name: str) -> Job:
        """Return a job by its id, or the latest of a study by the study's name.

        Raises
        ------
        ClusterError
            If there is none.
        """
        jobs = [job for job in self.jobs() if name in (job.job_id, job.study)]
        if not jobs:
            raise ClusterError(
                f"job {name}",
                f"is not known at {self.address}: a cluster forgets its jobs when its head ends",
                hint="psvae-tune jobs list tells which there are; what a study has reached is in "
                "MLflow and its output folder, and psvae-tune jobs resume goes on with it",
            )
        return jobs[0]

    def jobs(self) -> list[Job]:
        """Return the jobs that are studies, the latest first."""
        with _as_cluster_error(self.address):
            found = [item for item in self._client.list_jobs() if STUDY in (item.metadata or {})]
        found.sort(key=lambda item: item.start_time or 0, reverse=True)
        return [_to_job(item) for item in found]

    def logs(self, job_id: str) -> str:
        """Return what a job has printed so far."""
        with _as_cluster_error(self.address):
            return str(self._client.get_job_logs(job_id))

    def follow(self, job_id: str) -> Iterator[str]:
        """Yield what a job prints, from its beginning to its end.

        Raises
        ------
        ClusterError
            If the cluster goes away meanwhile.
        """
        chunks = self._client.tail_job_logs(job_id)
        loop = asyncio.new_event_loop()
        try:
            with _as_cluster_error(self.address), _as_connection_error(job_id):
                while (chunk := loop.run_until_complete(anext(chunks, None))) is not None:
                    yield str(chunk)
        finally:
            loop.run_until_complete(chunks.aclose())
            loop.close()

    def stop(self, job: Job) -> Job:
        """End a job so that it can save what it has; return it once it is over.

        Side effects: interrupts the job, and ends it by force if that takes too long.

        Raises
        ------
        ClusterError
            If it is over.
        """
        if job.is_over:
            raise ClusterError(f"job {job.job_id}", f"is over already: {job.status}")
        deadline = time.monotonic() + STOP_WAIT_S + 30
        with _as_cluster_error(self.address):
            self._client.stop_job(job.job_id)
        while not (job := self.find(job.job_id)).is_over and time.monotonic() < deadline:
            time.sleep(0.5)
        return job

    def forget(self, job_id: str) -> None:
        """Remove a job that is over from the cluster's list. Side effects: deletes it there."""
        with _as_cluster_error(self.address):
            self._client.delete_job(job_id)


def _check_public(order: JobSpec) -> None:
    told = [*order.arguments, order.output, order.tracking_uri, order.package or ""]
    told += order.files.values()
    if shown := [text for text in told if holds_password(text)]:
        raise ClusterError(
            "what a job is told",
            f"holds a password, got {hide_passwords(shown[0])!r:.200}",
            hint="everyone who sees the cluster sees it; passwords and keys belong into the "
            "environment of the nodes",
        )


def _provide_package(package: str | None, folder: Path) -> dict[str, Any]:
    """Return what makes nodes have the package. Side effects: copies code or a wheel."""
    if package is None:
        source = Path(psvae_tune.__file__).parent
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / source.name, ignore=skip)
        return {}
    if not package.endswith(".whl"):
        return {"pip": [package]}
    shutil.copy(package, folder)
    return {"pip": ["${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/" + Path(package).name]}


def _to_job(details: Any) -> Job:
    def at(milliseconds: int | None) -> datetime | None:
        return None if not milliseconds else datetime.fromtimestamp(milliseconds / 1000, UTC)

    return Job(
        job_id=details.submission_id,
        study=details.metadata[STUDY],
        output=details.metadata.get(OUTPUT, ""),
        status=str(getattr(details.status, "value", details.status)),
        message=first_line(details.message or ""),
        started=at(details.start_time),
        ended=at(details.end_time),
    )


def check_job_output(place: str) -> str:
    """Return where a job keeps a study, if that means the same on every machine.

    Raises
    ------
    StorageError
        If it is relative to where one happens to be, or a URL of a kind that nothing can reach.
    """
    if is_url(place):
        locate(place)
    elif not place.startswith("/"):
        raise StorageError(place, "must be a URL, or a path from / on that all nodes share")
    return place.rstrip("/")


def check_job_uri(uri: str | None, address: str) -> str:
    """Return the tracking URI of a job, if workers can reach it.

    Parameters
    ----------
    uri
        As it was asked for.
    address
        Of the cluster. One that is reached through this machine itself may be on it.

    Raises
    ------
    TrackingError
        If there is none, or it is of this machine alone.
    """
    if uri is None:
        raise TrackingError(
            "--tracking-uri", "is needed: the nodes must have a server that they all log to"
        )
    check_shareable(uri, is_remote=not is_loopback(address))
    return uri


@contextmanager
def _as_cluster_error(address: str) -> Iterator[None]:
    """Tell what the client of a cluster raises as what is wrong with the cluster."""
    import aiohttp
    import requests

    try:
        yield
    except AuthenticationError as error:
        has_token = os.environ.get("RAY_AUTH_MODE") == "token"
        raise ClusterError(
            address,
            "refuses the token" if has_token else "asks for a token",
            hint="set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the cluster's",
        ) from error
    except (ConnectionError, requests.RequestException, aiohttp.ClientError) as error:
        raise ClusterError(
            address,
            f"does not answer: {one_line(error)}",
            hint="is the cluster up, and is this the address of its dashboard, as seen from here?",
        ) from error
    except RuntimeError as error:
        raise ClusterError(address, f"refuses: {one_line(error)}") from error


@contextmanager
def _as_connection_error(job_id: str) -> Iterator[None]:
    """Tell an end of the connection that the cluster did not announce as a loss."""
    try:
        yield
    except RuntimeError as error:
        if LOST_CONNECTION not in str(error):
            raise
        raise ConnectionError(f"it went away while job {job_id} was followed") from error
