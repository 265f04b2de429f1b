"""Client of Ray Jobs: studies are submitted, followed and stopped from outside the cluster."""

import asyncio
import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import ray
from ray.exceptions import AuthenticationError

from psvae_tune.cluster.job import OUTPUT, STOP_WAIT_S, STUDY, Job, JobSpec
from psvae_tune.cluster.job_log import (
    JobReport,
    last_lines,
    read_report,
    without_reports,
)
from psvae_tune.cluster.nodes import Node, Nodes, one_line
from psvae_tune.cluster.ray_private import LOST_CONNECTION, read_ray_version, silence_jobs_client
from psvae_tune.config.study import Resources
from psvae_tune.errors import ClusterError

MAX_NODES = 10_000


@dataclass(frozen=True, slots=True)
class JobsClient:
    """A cluster that answers."""

    address: str
    _client: Any = field(repr=False)

    @classmethod
    def reach(cls, address: str) -> Self:
        """Reach a cluster that runs the version of Ray that is installed here.

        Parameters
        ----------
        address
            Address of the head, ``http://HEAD:8265``.

        Side effects: makes Ray use the token of the environment, and ignore any address there.

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
        # Ray prefers these to the address that it is called with.
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
        """Make sure that some node can hold a trial, if the head knows its nodes already.

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
        # A head that has just started knows of no node yet; the job checks again.
        if nodes.nodes:
            nodes.check_room(resources)

    def submit(self, spec: JobSpec) -> str:
        """Start a job; return its id.

        Side effects: sends the code and the files.

        Raises
        ------
        ClusterError
            If a text of the job holds a password.
        """
        spec.check_public()
        with TemporaryDirectory() as folder, _as_cluster_error(self.address):
            return str(
                self._client.submit_job(
                    entrypoint=spec.entrypoint,
                    runtime_env=spec.make_runtime_env(Path(folder)),
                    metadata={STUDY: spec.study, OUTPUT: spec.output},
                )
            )

    def wait_until_ready(self, job_id: str, sessions: Sequence[str]) -> str:
        """Wait until a job reports that it can run; return its description of the nodes.

        Parameters
        ----------
        job_id
            A job that was just submitted.
        sessions
            Recordings of the study. One that is here and not on the cluster is told as such.

        Side effects: removes a job that cannot run from the cluster's list.

        Raises
        ------
        ClusterError
            If it cannot run; then nothing has been trained.
        """
        log = ""
        with closing(self._tail(job_id)) as chunks:
            for chunk in chunks:
                log += chunk
                if (report := read_report(log)) is not None and report.is_ready:
                    return report.text
        job = self.find(job_id)
        if job.is_over:
            self.forget(job_id)
        if (report := read_report(log)) is None:
            problems = ["the job did not start", job.message, *last_lines(log)]
            raise ClusterError("on the cluster", problems)
        raise make_refusal(report, sessions)

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
                hint="psvae-tune jobs list shows those known; what a study has reached is "
                "in MLflow and its output folder, and psvae-tune jobs resume goes on with it",
            )
        return jobs[0]

    def jobs(self) -> list[Job]:
        """Return the jobs that are studies, the latest first."""
        with _as_cluster_error(self.address):
            found = [item for item in self._client.list_jobs() if STUDY in (item.metadata or {})]
        found.sort(key=lambda item: item.start_time or 0, reverse=True)
        return [Job.from_details(item) for item in found]

    def logs(self, job_id: str) -> str:
        """Return the log of a job so far."""
        with _as_cluster_error(self.address):
            return "".join(without_reports([str(self._client.get_job_logs(job_id))]))

    def follow(self, job_id: str) -> Iterator[str]:
        """Yield the log of a job, from its beginning to its end.

        Raises
        ------
        ClusterError
            If the cluster goes away meanwhile.
        """
        with closing(self._tail(job_id)) as chunks:
            yield from without_reports(chunks)

    def _tail(self, job_id: str) -> Generator[str, None, None]:
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


def make_refusal(report: JobReport, sessions: Sequence[str]) -> ClusterError:
    """Return the error of a job that cannot run, as it is seen from here."""
    missing = report.missing
    if missing is not None and missing in sessions and Path(missing).exists():
        return ClusterError(
            missing,
            "is here, but not on the cluster",
            hint="send it with --upload, or give --data the path that it has there, or a URL",
        )
    return ClusterError("on the cluster", report.text)


@contextmanager
def _as_cluster_error(address: str) -> Iterator[None]:
    """Turn the exceptions of the jobs client into one that names the cluster."""
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
    """Turn the end of a connection that the cluster did not announce into a lost connection."""
    try:
        yield
    except RuntimeError as error:
        if LOST_CONNECTION not in str(error):
            raise
        raise ConnectionError(f"it went away while job {job_id} was followed") from error
