"""``psvae-tune jobs``: studies on a Ray cluster, watched and stopped from anywhere."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from psvae_tune.cli import options
from psvae_tune.config.study import parse_study
from psvae_tune.config.study_file import apply_settings, parse_set_options
from psvae_tune.errors import ClusterError, StudyError, StudyInterrupted
from psvae_tune.files import is_url, locate
from psvae_tune.tracking.folders import OutputFolder

if TYPE_CHECKING:
    from psvae_tune.cluster.jobs import Job, JobsClient, JobSpec

STARTED = "cluster    "
"""Begins the line that a study prints once it has looked at every node."""

job_argument = click.argument("name", metavar="JOB|STUDY")


@click.group()
def jobs() -> None:
    """Studies on a Ray cluster: list, status, logs, stop, resume."""


@jobs.command("list")
@options.jobs_address
@options.verbose
def list_jobs(address: str) -> None:
    """List the studies of a cluster, the latest first."""
    from psvae_tune.cluster.jobs import JobsClient

    for job in JobsClient.reach(address).jobs():
        click.echo(f"{job.job_id}  {job.status:<9}  {_time(job)}  {job.study}")


@jobs.command()
@job_argument
@options.jobs_address
@options.verbose
def status(name: str, address: str) -> None:
    """Tell how a study fares."""
    from psvae_tune.cluster.jobs import JobsClient

    job = JobsClient.reach(address).find(name)
    click.echo(f"job        {job.job_id}")
    click.echo(f"study      {job.study}, in {job.output}")
    click.echo(f"status     {job.status}")
    click.echo(f"time       {_time(job)}")
    if job.message:
        click.echo(f"message    {job.message}")


@jobs.command()
@job_argument
@options.jobs_address
@options.follow
@options.verbose
def logs(name: str, address: str, follow: bool) -> None:
    """Print what a study has printed."""
    from psvae_tune.cluster.jobs import JobsClient

    cluster = JobsClient.reach(address)
    job = cluster.find(name)
    if follow:
        _follow(cluster, job)
    else:
        click.echo(cluster.logs(job.job_id), nl=False)


@jobs.command()
@job_argument
@options.jobs_address
@options.verbose
def stop(name: str, address: str) -> None:
    """Stop a study as Ctrl-C would: what it has reached is kept."""
    from psvae_tune.cluster.jobs import JobsClient

    cluster = JobsClient.reach(address)
    job = cluster.stop(cluster.find(name))
    click.echo(f"{job.job_id} {job.status}")
    click.echo(f"resume     {_how_to_resume(job, address)}", err=True)


@jobs.command()
@click.argument("study")
@options.jobs_address
@options.settings
@options.tracking_uri
@options.follow
@options.verbose
def resume(
    study: str,
    address: str,
    settings: tuple[str, ...],
    tracking_uri: str | None,
    follow: bool,
) -> None:
    """Go on with a study on this cluster, wherever it began.

    STUDY is its folder: a URL, or a path on the cluster.
    """
    from psvae_tune.cluster.jobs import JobsClient, JobSpec, check_job_output, check_job_uri

    place, _, name = check_job_output(study).rpartition("/")
    resources = None
    if is_url(study):
        raw = OutputFolder(locate(place)).study(name).read_study_file()
        apply_settings(raw, parse_set_options(settings))
        parsed = parse_study(raw, study)
        resources, tracking_uri = parsed.resources, tracking_uri or parsed.tracking.uri
    uri = check_job_uri(tracking_uri, address)
    cluster = JobsClient.reach(address)
    if resources is not None:
        cluster.check_room(resources)
    changes = [word for setting in settings for word in ("--set", setting)]
    start_job(cluster, JobSpec(name, place, ("resume", study, *changes), uri), follow)


def start_job(
    cluster: "JobsClient", order: "JobSpec", follow: bool, sessions: Sequence[str] = ()
) -> None:
    """Submit a job and wait until it has found that it can run, or until its end.

    Parameters
    ----------
    cluster, order
        Where, and what.
    follow
        Whether to stay.
    sessions
        Recordings of the study, to tell one that is here and not on the cluster.

    Raises
    ------
    ClusterError
        If it cannot run; then nothing has been trained, and the job is forgotten.
    StudyError
        If it fails later.
    """
    job_id = cluster.submit(order)
    click.echo(f"job        {job_id}")
    click.echo(f"study      {order.study}, in {order.output}")
    seen = ""
    for chunk in cluster.follow(job_id):
        seen += chunk
        if any(line.startswith(STARTED) for line in seen.splitlines()):
            break
    job = cluster.find(job_id)
    if job.is_over and STARTED not in seen:
        cluster.forget(job_id)
        raise refusal(seen, sessions, job.message)
    click.echo(next(line for line in seen.splitlines() if line.startswith(STARTED)))
    click.echo(f"watch      psvae-tune jobs logs {job_id} --follow --address {cluster.address}")
    click.echo(f"stop       psvae-tune jobs stop {job_id} --address {cluster.address}")
    click.echo(f"look       psvae-tune report {order.study} --tracking-uri {order.tracking_uri}")
    if follow:
        _follow(cluster, job)


def refusal(log: str, sessions: Sequence[str], message: str) -> ClusterError:
    """Return the error that a job told before it had begun, or else what the cluster says."""
    from psvae_tune.cluster.job_log import last_error, last_lines

    text = last_error(log)
    if text is None:
        return ClusterError("on the cluster", ["the job did not start", message, *last_lines(log)])
    for path in sessions:
        if text.startswith(f"{path}: no such file") and Path(path).exists():
            return ClusterError(
                path,
                "is here, but not on the cluster",
                hint="send it with --upload, or give --data the path that it has there, or a URL",
            )
    what, _, hint = text.partition("\n\nhint: ")
    return ClusterError("on the cluster", what, hint or None)


def _follow(cluster: "JobsClient", job: "Job") -> None:
    """Print a job's log until it ends. Raises what it ended with."""
    try:
        for chunk in cluster.follow(job.job_id):
            click.echo(chunk, nl=False)
    except KeyboardInterrupt:
        click.echo(
            f"\nthe study goes on; psvae-tune jobs stop {job.job_id} --address "
            f"{cluster.address} ends it",
            err=True,
        )
        return
    job = cluster.find(job.job_id)
    if job.status == "STOPPED":
        raise StudyInterrupted(
            f"job {job.job_id}", "was stopped", hint=_how_to_resume(job, cluster.address)
        )
    if job.status != "SUCCEEDED":
        raise StudyError(
            f"job {job.job_id}",
            f"ended as {job.status}: {job.message}",
            hint=f"what it has reached is kept: {_how_to_resume(job, cluster.address)}",
        )


def _how_to_resume(job: "Job", address: str) -> str:
    place = shlex.quote(f"{job.output}/{job.study}")
    return f"psvae-tune jobs resume {place} --address {address}"


def _time(job: "Job") -> str:
    if job.started is None:
        return "not yet started"
    started = f"{job.started.astimezone():%Y-%m-%d %H:%M}"
    return started if job.ended is None else f"{started} to {job.ended.astimezone():%H:%M}"
