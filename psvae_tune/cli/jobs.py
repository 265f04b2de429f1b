"""``psvae-tune jobs``: studies on a Ray cluster are watched, stopped and resumed from outside."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from psvae_tune.cli import options
from psvae_tune.config.study import parse_unread_study
from psvae_tune.config.study_file import apply_settings, parse_set_options
from psvae_tune.files import is_url, locate
from psvae_tune.tracking.folders import OutputFolder

if TYPE_CHECKING:
    from psvae_tune.cluster.job import Job, JobSpec
    from psvae_tune.cluster.jobs import JobsClient

job_argument = click.argument("name", metavar="JOB|STUDY")


@click.group()
def jobs() -> None:
    """List, follow, stop and resume the studies on a Ray cluster."""


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
    """Show the state of a study."""
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
    """Print the log of a study."""
    from psvae_tune.cluster.jobs import JobsClient

    cluster = JobsClient.reach(address)
    job = cluster.find(name)
    if follow:
        _follow(cluster, job.job_id)
    else:
        click.echo(cluster.logs(job.job_id), nl=False)


@jobs.command()
@job_argument
@options.jobs_address
@options.verbose
def stop(name: str, address: str) -> None:
    """Stop a study as Ctrl-C would; its results so far are kept."""
    from psvae_tune.cluster.jobs import JobsClient

    cluster = JobsClient.reach(address)
    job = cluster.stop(cluster.find(name))
    click.echo(f"{job.job_id} {job.status}")
    click.echo(f"resume     {job.resume_command(address)}", err=True)


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
    """Resume a study on this cluster, wherever it began.

    STUDY is its folder: a URL, or a path on the cluster.
    """
    from psvae_tune.cluster.job import JobSpec, check_job_output, check_job_uri
    from psvae_tune.cluster.jobs import JobsClient

    place, _, name = check_job_output(study).rpartition("/")
    resources = None
    if is_url(study):
        raw = OutputFolder(locate(place)).study(name).read_study_file()
        apply_settings(raw, parse_set_options(settings))
        parsed = parse_unread_study(raw, study)
        resources, tracking_uri = parsed.resources, tracking_uri or parsed.tracking.uri
    uri = check_job_uri(tracking_uri, address)
    cluster = JobsClient.reach(address)
    if resources is not None:
        cluster.check_room(resources)
    changes = [word for setting in settings for word in ("--set", setting)]
    start_job(cluster, JobSpec(name, place, ("resume", study, *changes), uri), follow)


def start_job(
    cluster: "JobsClient", spec: "JobSpec", follow: bool, sessions: Sequence[str] = ()
) -> None:
    """Submit a job, and wait until it can run; with ``follow``, until its end.

    Parameters
    ----------
    cluster, spec
        The cluster, and the job.
    follow
        Whether to print the log of the job until it ends.
    sessions
        Recordings of the study. One that is here and not on the cluster is told as such.

    Raises
    ------
    ClusterError
        If it cannot run; then nothing has been trained, and the job is forgotten.
    StudyError
        If it fails later.
    """
    job_id = cluster.submit(spec)
    click.echo(f"job        {job_id}")
    click.echo(f"study      {spec.study}, in {spec.output}")
    click.echo(f"cluster    {cluster.wait_until_ready(job_id, sessions)}")
    click.echo(f"watch      psvae-tune jobs logs {job_id} --follow --address {cluster.address}")
    click.echo(f"stop       psvae-tune jobs stop {job_id} --address {cluster.address}")
    click.echo(f"look       psvae-tune report {spec.study} --tracking-uri {spec.tracking_uri}")
    if follow:
        _follow(cluster, job_id)


def _follow(cluster: "JobsClient", job_id: str) -> None:
    """Print the log of a job until it ends; raise what it ended with."""
    try:
        for text in cluster.follow(job_id):
            click.echo(text, nl=False)
    except KeyboardInterrupt:
        click.echo(
            f"\nthe study goes on; psvae-tune jobs stop {job_id} --address {cluster.address} "
            "ends it",
            err=True,
        )
        return
    cluster.find(job_id).check_outcome(cluster.address)


def _time(job: "Job") -> str:
    if job.started is None:
        return "not yet started"
    started = f"{job.started.astimezone():%Y-%m-%d %H:%M}"
    return started if job.ended is None else f"{started} to {job.ended.astimezone():%H:%M}"
