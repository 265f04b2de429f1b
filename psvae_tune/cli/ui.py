"""``psvae-tune ui``: open MLflow's pages on the studies of an output folder."""

import os
import socket
import sys
from pathlib import Path

import click

from psvae_tune.cli import options
from psvae_tune.errors import StorageError, TrackingError
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.moved_store import follow_move

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
    """Open MLflow's pages on the studies of an output folder."""
    folder = OutputFolder(output.resolve())
    if not folder.database.exists():
        raise StorageError(
            str(output),
            "holds no studies",
            hint="run one with psvae-tune run, or name its folder with --output",
        )
    _check_free(host, port)
    follow_move(folder.database)
    for name in folder.studies()[:N_LINKS]:
        where = folder.study(name).read_tracking()
        target = TrackingTarget(where["uri"], where["experiment_id"], name)
        click.echo(f"{name}: {target.url(f'http://{host}:{port}')}")
    click.echo("Ctrl-C ends the server", err=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--backend-store-uri", folder.default_tracking_uri, "--workers", "1"]
    command += ["--default-artifact-root", folder.artifacts.as_uri()]
    sys.stdout.flush()
    # The server replaces this process, so that a signal to this command ends the server.
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
