"""Arguments and options that several commands share."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from psvae_tune.api.studies import DEFAULT_OUTPUT
from psvae_tune.redaction import start_logs

Command = TypeVar("Command", bound=Callable[..., Any])

study_file = click.argument("file", type=click.Path(path_type=Path))
sessions = click.option(
    "--data",
    "sessions",
    multiple=True,
    metavar="FILE",
    help="Recording, or CSV that lists some, instead of those of the file; may be repeated.",
)
settings = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, for example training.max_n_epochs=30; may be repeated.",
)
output = click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(DEFAULT_OUTPUT),
    show_default=True,
    help="Folder of all studies.",
)
storage = click.option(
    "--output",
    metavar="FOLDER",
    default=DEFAULT_OUTPUT,
    show_default=True,
    help="Folder of all studies: a path, or a URL such as s3://bucket/studies.",
)
cluster = click.option(
    "--address",
    metavar="auto|HOST:PORT|ray://HOST:10001",
    help="Ray cluster to run on, instead of this machine alone.",
)
tracking_uri = click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    show_envvar=True,
    metavar="URI",
    help="MLflow server or store; by default a store in the output folder.",
)
jobs_address = click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    show_envvar=True,
    required=True,
    metavar="http://HEAD:8265",
    help="Address of the cluster's jobs: that of the dashboard on its head.",
)
follow = click.option("--follow", is_flag=True, help="Print the log of the job until it ends.")


alf = click.option(
    "--alf",
    "wants_alf",
    is_flag=True,
    help="Also write a folder *.alf of NumPy files, as the International Brain Laboratory does.",
)
nwb = click.option(
    "--nwb",
    "nwb_files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="NWB file to write the latents and labels into, beside what it holds; once a session.",
)
overwrite = click.option(
    "--overwrite",
    is_flag=True,
    help="Replace latents and labels that the NWB file holds already; each time it gets larger.",
)


def _set_verbosity(context: click.Context, parameter: click.Parameter, is_verbose: bool) -> None:
    start_logs(logging.DEBUG if is_verbose else logging.WARNING)


verbose = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_set_verbosity,
    help="Show the logs of libraries, and tracebacks.",
)
