"""``psvae-tune submit``: a study is sent to a Ray cluster from outside it."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress as ProgressBar

from psvae_tune.cli import epilogs, options
from psvae_tune.cli.jobs import start_job
from psvae_tune.config.session_list import DEMO
from psvae_tune.config.study import parse_unread_study
from psvae_tune.config.study_file import parse_set_options, read_study_file
from psvae_tune.config.yaml_text import dump_yaml
from psvae_tune.errors import ConfigError
from psvae_tune.files import is_url, locate
from psvae_tune.study.plan import make_plan
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.study_name import check_name_is_free, name_study

STUDY_FILE = "study.yaml"


@click.command(epilog=epilogs.SUBMIT)
@options.study_file
@options.jobs_address
@options.sessions
@options.settings
@click.option(
    "--output",
    metavar="FOLDER",
    required=True,
    help="Folder of all studies: a path that all nodes share, or a URL such as s3://bucket/studies.",
)
@options.tracking_uri
@click.option("--name", help="Name of the study; by default its experiment and the time.")
@click.option(
    "--upload", "has_upload", is_flag=True, help="Send the recordings, which are on this machine."
)
@click.option(
    "--package",
    metavar="WHEEL|REQUIREMENT",
    help="Package that nodes install, such as psvae-tune==0.1.0; by default this code is sent.",
)
@options.follow
@options.verbose
def submit(
    file: Path,
    address: str,
    sessions: tuple[str, ...],
    settings: tuple[str, ...],
    output: str,
    tracking_uri: str | None,
    name: str | None,
    has_upload: bool,
    package: str | None,
    follow: bool,
) -> None:
    """Run the study of a search-space file on a Ray cluster.

    Recordings are paths on the cluster, or URLs that it reaches. Keys and passwords are not sent:
    the nodes need their own.
    """
    if package and package.endswith(".whl") and not Path(package).is_file():
        raise ConfigError("--package", f"no such file, got {package}")
    raw = read_study_file(file, parse_set_options(settings), sessions)
    study = parse_unread_study(raw, str(file))
    from psvae_tune.cluster.job import JobSpec, check_job_output, check_job_uri
    from psvae_tune.cluster.jobs import JobsClient

    name = name or name_study(study.experiment_name)
    output = check_job_output(output)
    uri = check_job_uri(tracking_uri or study.tracking.uri, address)
    cluster = JobsClient.reach(address)
    cluster.check_room(study.resources)
    if is_url(output):
        check_name_is_free(OutputFolder(locate(output)), name, "psvae-tune jobs resume")
    if has_upload:
        _upload(raw, file, OutputFolder(locate(output)))
    text = dump_yaml(raw)
    arguments = ("run", STUDY_FILE, "--output", output, "--name", name)
    spec = JobSpec(name, output, arguments, uri, {STUDY_FILE: text}, package)
    start_job(cluster, spec, follow, raw["data"]["sessions"])


def _upload(raw: dict[str, Any], file: Path, output: OutputFolder) -> None:
    """Send the recordings of a study, and replace their names by the URLs that they have then.

    Side effects: writes to the output folder; modifies ``raw`` in place.
    """
    make_plan(raw, str(file))  # raises before a recording is sent that cannot be used
    console = Console(stderr=True)
    with ProgressBar(console=console, transient=True, disable=not console.is_terminal) as bar:
        raw["data"]["sessions"] = [
            name if is_url(name) or DEMO.fullmatch(name) else _send(Path(name), output, bar)
            for name in raw["data"]["sessions"]
        ]


def _send(path: Path, output: OutputFolder, bar: ProgressBar) -> str:
    from psvae_tune.cluster.uploads import upload

    task = bar.add_task(f"sending {path.name}", total=path.stat().st_size)
    url, n_sent = upload(path, output, lambda n: bar.update(task, completed=n))
    size = f"{n_sent / 2**20:.1f} MB" if n_sent else "nothing, it is there already"
    bar.console.print(f"sent       {path.name}: {size}", highlight=False, markup=False)
    return url
