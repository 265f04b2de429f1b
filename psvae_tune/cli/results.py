"""``psvae-tune choose``, ``promote``, ``export`` and ``predict``: what becomes of a choice."""

from pathlib import Path

import click

from psvae_tune.api.studies import open_study
from psvae_tune.cli import options
from psvae_tune.errors import StorageError
from psvae_tune.files import write_bytes


@click.command()
@click.argument("study")
@click.option("--trial", required=True, help="The name, the run or the id of a trial.")
@click.option("--reason", default="", help="Why; kept beside the choice.")
@options.output
@options.tracking_uri
@options.verbose
def choose(study: str, trial: str, reason: str, output: Path, tracking_uri: str | None) -> None:
    """Choose another trial of STUDY than the rule did, and keep who did it and why."""
    result = open_study(study, output=output, tracking_uri=tracking_uri).choose(trial, reason)
    click.echo(f"chosen: {result.logged.label(result.best)}, run {result.best.run_id}")


@click.command()
@click.argument("study")
@click.option("--name", required=True, help="Of the registered model.")
@options.output
@options.tracking_uri
@options.verbose
def promote(study: str, name: str, output: Path, tracking_uri: str | None) -> None:
    """Register the chosen model of STUDY in MLflow, with the alias `champion`."""
    click.echo(open_study(study, output=output, tracking_uri=tracking_uri).promote(name))


@click.command()
@click.argument("study")
@click.option("--trial", help="The name, the run or the id of a trial; default: the chosen one.")
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="A new folder.",
)
@options.output
@options.tracking_uri
@options.verbose
def export(
    study: str, trial: str | None, folder: Path, output: Path, tracking_uri: str | None
) -> None:
    """Copy weights, settings, latents, figures and movies of a trial of STUDY into a folder."""
    from psvae_tune.results.choices import export as export_trial

    result = open_study(study, output=output, tracking_uri=tracking_uri)
    chosen = result.logged.find_trial(trial) if trial else result.best
    export_trial(result.logged, chosen, folder)
    click.echo(str(folder))


file_option = click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report here and change nothing in MLflow.",
)


@click.command()
@click.argument("study")
@options.output
@options.tracking_uri
@file_option
@options.verbose
def report(study: str, output: Path, tracking_uri: str | None, file: Path | None) -> None:
    """Make the figures and the report of a study again, from MLflow alone.

    STUDY is its name or its folder.
    """
    result = open_study(study, output=output, tracking_uri=tracking_uri)
    result.report(file)
    if file is None:
        click.echo(f"report.html of run {result.logged.run_id}")
    else:
        click.echo(str(file), err=True)


@click.command()
@click.argument("studies", nargs=-1, required=True)
@options.output
@options.tracking_uri
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("comparison.png"),
    show_default=True,
    help="Where the figure goes.",
)
@options.verbose
def compare(studies: tuple[str, ...], output: Path, tracking_uri: str | None, file: Path) -> None:
    """Put the chosen trials of several studies into one table (CSV) and one figure."""
    from psvae_tune.results.comparison import comparison_table, draw_comparison

    found = [
        open_study(study, output=output, tracking_uri=tracking_uri).logged
        for study in dict.fromkeys(studies)
    ]
    table = comparison_table(found)
    _write(file, draw_comparison(found))
    click.echo(table, nl=False)


def _write(file: Path, content: bytes) -> None:
    try:
        write_bytes(file, content)
    except OSError as error:
        raise StorageError(str(file), f"cannot be written: {error.strerror}") from error
    click.echo(str(file), err=True)
