"""``psvae-tune import-behavenet``: import settings or a fitted model from BehaveNet."""

from pathlib import Path

import click

from psvae_tune.cli import options
from psvae_tune.config.behavenet import import_settings
from psvae_tune.config.yaml_text import dump_yaml
from psvae_tune.errors import ConfigError
from psvae_tune.files import write_bytes

EXAMPLES = """\b
Examples:
  psvae-tune import-behavenet ae_model.json ae_training.json ae_compute.json data.json \\
      --data-dir ~/data --to study.yaml
  psvae-tune import-behavenet ~/results/version_3 --data session.h5
"""


@click.command("import-behavenet", epilog=EXAMPLES)
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder that holds LAB/EXPT/ANIMAL/SESSION/data.hdf5.",
)
@click.option("--to", type=click.Path(path_type=Path), help="File to write the search space to.")
@options.sessions
@options.output
@options.tracking_uri
@click.option(
    "--name", default="behavenet", show_default=True, help="Name of the study of the run."
)
@options.verbose
def import_behavenet(
    paths: tuple[Path, ...],
    data_dir: Path | None,
    to: Path | None,
    sessions: tuple[str, ...],
    output: Path,
    tracking_uri: str | None,
    name: str,
) -> None:
    """Import settings or a fitted model from BehaveNet.

    PATHS are the JSON files of a fit, which become a search-space file. Or PATHS is the folder
    of one fitted version, which is scored on the recordings of --data and becomes a run in MLflow.
    """
    if not any(path.is_dir() for path in paths):
        _import_settings(paths, data_dir, to)
    elif len(paths) > 1:
        raise ConfigError("import-behavenet", "takes JSON files or one version folder, got both")
    elif not sessions:
        raise ConfigError(
            "import-behavenet",
            "needs recordings to score the fitted model on, got no --data",
            hint="--data session.h5, for several sessions in the order of the fit",
        )
    else:
        _import_version(paths[0], sessions, output, tracking_uri, name)


def _import_settings(paths: tuple[Path, ...], data_dir: Path | None, to: Path | None) -> None:
    imported = import_settings(paths, None if data_dir is None else data_dir.expanduser())
    text = dump_yaml(imported.raw)
    for note in imported.notes:
        click.echo(note, err=True)
    if to is None:
        click.echo(text, nl=False)
    else:
        write_bytes(to, text.encode())
        click.echo(f"written {to}; psvae-tune check {to} says what it would run", err=True)


def _import_version(
    path: Path, names: tuple[str, ...], output: Path, tracking_uri: str | None, name: str
) -> None:
    from psvae_tune.config.session_list import list_sessions
    from psvae_tune.results.behavenet import import_folder

    sessions = list_sessions(names, Path.cwd())
    for key, value in import_folder(path, sessions, output, tracking_uri, name).items():
        click.echo(f"{key} {value:.5g}")
    click.echo("clips that it was trained on may be among those it was scored on", err=True)
