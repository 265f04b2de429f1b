"""A job on a Ray cluster: its description before it is submitted, its state afterwards.

A job is this program, started on the cluster. It is sent its code, its search-space file and its
command line, and no secret: everyone who sees the cluster sees its jobs. Passwords and keys belong
in the environment of the nodes.
"""

import platform
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import psvae_tune
from psvae_tune.cluster.job_log import SUBMITTER_PYTHON, first_line
from psvae_tune.errors import (
    ClusterError,
    StorageError,
    StudyError,
    StudyInterrupted,
    TrackingError,
)
from psvae_tune.files import is_url, locate
from psvae_tune.redaction import hide_passwords, holds_password
from psvae_tune.tracking.reachability import check_shareable, is_loopback

STUDY, OUTPUT = "psvae_tune.study", "psvae_tune.output"
"""Keys of a job's metadata."""
TERMINAL_STATES = ("SUCCEEDED", "FAILED", "STOPPED")
STOP_WAIT_S = 60
# Ray stops a job with a signal that leaves no time to save anything, unless it is told another.
GRACEFUL_STOP_ENV = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job that can be submitted."""

    study: str
    output: str
    arguments: tuple[str, ...]
    """Arguments of ``psvae-tune``."""
    tracking_uri: str
    files: Mapping[str, str] = field(default_factory=dict)
    """Texts of the files in the folder where the job starts, by name."""
    package: str | None = None
    """Wheel or requirement that pip installs on every node; None: the code that runs here."""

    @property
    def entrypoint(self) -> str:
        """Command line of the job."""
        return shlex.join(["python", "-m", "psvae_tune", *self.arguments, "--address", "auto"])

    def check_public(self) -> None:
        """Refuse a password, which everyone who sees the cluster would see.

        Raises
        ------
        ClusterError
            If any text of the job holds one.
        """
        texts = [*self.arguments, self.output, self.tracking_uri, self.package or ""]
        texts += self.files.values()
        if secret := [text for text in texts if holds_password(text)]:
            raise ClusterError(
                "a job",
                f"must hold no password, got {hide_passwords(secret[0])!r:.200}",
                hint="everyone who sees the cluster sees its jobs; passwords and keys belong in "
                "the environment of the nodes",
            )

    def make_runtime_env(self, folder: Path) -> dict[str, Any]:
        """Return Ray's description of the job's environment.

        Parameters
        ----------
        folder
            An empty folder, which Ray sends.

        Side effects: writes the files and the code, or the wheel, to the folder.
        """
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        environment = {
            **GRACEFUL_STOP_ENV,
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            SUBMITTER_PYTHON: platform.python_version(),
            "NO_COLOR": "1",
        }
        settings = {"working_dir": str(folder), "env_vars": environment}
        if self.package is None:
            source = Path(psvae_tune.__file__).parent
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / source.name, ignore=skip)
            return settings
        if not self.package.endswith(".whl"):
            return settings | {"pip": [self.package]}
        shutil.copy(self.package, folder)
        wheel = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/" + Path(self.package).name
        return settings | {"pip": [wheel]}


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

    @classmethod
    def from_details(cls, details: Any) -> Self:
        """Return a job as Ray's ``JobDetails`` describe it."""

        def at(milliseconds: int | None) -> datetime | None:
            return None if not milliseconds else datetime.fromtimestamp(milliseconds / 1000, UTC)

        return cls(
            job_id=details.submission_id,
            study=details.metadata[STUDY],
            output=details.metadata.get(OUTPUT, ""),
            status=str(getattr(details.status, "value", details.status)),
            message=first_line(details.message or ""),
            started=at(details.start_time),
            ended=at(details.end_time),
        )

    @property
    def is_over(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self.status in TERMINAL_STATES

    def resume_command(self, address: str) -> str:
        """Return the command that goes on with the study on a cluster."""
        folder = shlex.quote(f"{self.output}/{self.study}")
        return f"psvae-tune jobs resume {folder} --address {address}"

    def check_outcome(self, address: str) -> None:
        """Raise the end of a job that is over, unless it succeeded.

        Parameters
        ----------
        address
            Address of the cluster, for the hint.

        Raises
        ------
        StudyInterrupted
            If it was stopped.
        StudyError
            If it failed.
        """
        if self.status == "STOPPED":
            raise StudyInterrupted(
                f"job {self.job_id}", "was stopped", hint=self.resume_command(address)
            )
        if self.status != "SUCCEEDED":
            raise StudyError(
                f"job {self.job_id}",
                f"ended as {self.status}: {self.message}",
                hint=f"what it has reached is kept: {self.resume_command(address)}",
            )


def check_job_output(output: str) -> str:
    """Return the output folder of a job, if it means the same on every machine.

    Raises
    ------
    StorageError
        If it is a relative path, or a URL of a kind that nothing can reach.
    """
    if is_url(output):
        locate(output)
    elif not output.startswith("/"):
        raise StorageError(output, "must be a URL, or a path from / on that all nodes share")
    return output.rstrip("/")


def check_job_uri(uri: str | None, address: str) -> str:
    """Return the tracking URI of a job, if workers can reach it.

    Parameters
    ----------
    uri
        The URI that was asked for; None if there was none.
    address
        Address of the cluster. If it is this machine's own, the URI may be, too.

    Raises
    ------
    TrackingError
        If there is no URI, or it means this machine alone.
    """
    if uri is None:
        raise TrackingError(
            "--tracking-uri", "is needed: the nodes must have a server that they all log to"
        )
    check_shareable(uri, is_remote=not is_loopback(address))
    return uri
