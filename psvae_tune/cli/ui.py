"""``psvae-tune ui``: open MLflow's pages on the studies of an output folder."""

import os
import shlex
import socket
import sys
from pathlib import Path
from typing import NoReturn

import click

from psvae_tune.cli import options
from psvae_tune.errors import StorageError, TrackingError
from psvae_tune.redaction import hide_passwords
from psvae_tune.tracking.client import TrackingTarget, find_database
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.moved_store import follow_move
from psvae_tune.tracking.reachability import check_answers

N_LINKS = 5
"""Number of studies whose links are printed, the latest first."""
SERVER_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Variables that make MLflow run one process without a job runner: 0.5 GB instead of 2.5."""


@click.command()
@options.output
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=5000,
    show_default=True,
    help="Port to listen on.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@options.verbose
def ui(output: Path, port: int, host: str) -> None:
    """Open MLflow's pages on the studies of an output folder.

    Studies that are kept by a server are shown there: their links are printed, and nothing is
    started for them. MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD name the account where
    that server has accounts; its pages ask for it again.
    """
    folder = OutputFolder(output.resolve())
    has_store = folder.database.exists()
    targets = [_find_target(folder, name) for name in folder.studies()[:N_LINKS]]
    if not targets and not has_store:
        raise StorageError(
            str(output),
            "holds no studies",
            hint="run one with psvae-tune run, or name its folder with --output",
        )
    here = [target for target in targets if target.uri == folder.default_tracking_uri]
    answers = [_show(target) for target in targets if target not in here]
    if not has_store:
        sys.exit(0 if all(answers) else TrackingError.exit_code)
    _check_free(host, port)
    follow_move(folder.database)
    for target in here:
        click.echo(f"{target.study}: {target.url(f'http://{host}:{port}')}")
    _serve(folder, host, port)


def _find_target(folder: OutputFolder, name: str) -> TrackingTarget:
    where = folder.study(name).read_tracking()
    return TrackingTarget(where["uri"], where["experiment_id"], name)


def _show(target: TrackingTarget) -> bool:
    """Print where a study is that another store keeps; return False if that does not answer."""
    if find_database(target.uri) is not None:
        store = shlex.quote(hide_passwords(target.uri))
        click.echo(f"{target.study}: mlflow server --backend-store-uri {store}")
        return True
    try:
        check_answers(target)
    except TrackingError as error:
        click.echo(f"error: {error}", err=True)
        return False
    click.echo(f"{target.study}: {target.url(target.uri)}")
    return True


def _serve(folder: OutputFolder, host: str, port: int) -> NoReturn:
    """Run MLflow's server in place of this process: a signal to this command ends it."""
    click.echo("Ctrl-C ends the server", err=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--backend-store-uri", folder.default_tracking_uri, "--workers", "1"]
    command += ["--default-artifact-root", folder.artifacts.as_uri()]
    sys.stdout.flush()
    os.execve(sys.executable, command, {**os.environ, **SERVER_ENVIRONMENT})


def _check_free(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise TrackingError(
            f"{host}:{port}",
            f"cannot be listened on: {error.strerror}",
            hint="choose another with --port",
        ) from error
