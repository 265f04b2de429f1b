"""``psvae-tune choose``, ``promote``, ``export`` and ``predict``: what becomes of a choice."""

import getpass
from pathlib import Path

import click

from psvae_tune.cli import options
from psvae_tune.cli.find_study import find_study
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
    from psvae_tune.results.choices import override

    found = find_study(study, output, tracking_uri)
    chosen = found.find_trial(trial)
    override(found, chosen, getpass.getuser(), reason)
    click.echo(f"chosen: {found.label(chosen)}, run {chosen.run_id}")


@click.command()
@click.argument("study")
@click.option("--name", required=True, help="Of the registered model.")
@options.output
@options.tracking_uri
@options.verbose
def promote(study: str, name: str, output: Path, tracking_uri: str | None) -> None:
    """Register the chosen model of STUDY in MLflow, with the alias `champion`."""
    from psvae_tune.results.choices import promote as promote_study

    version = promote_study(find_study(study, output, tracking_uri), name)
    click.echo(f"models:/{name}@champion")
    click.echo(f"version {version}", err=True)


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

    found = find_study(study, output, tracking_uri)
    chosen = found.find_trial(trial) if trial else found.chosen
    if chosen is None:
        raise StorageError(f"study {study!r}", "has no chosen trial", hint="name one with --trial")
    export_trial(found, chosen, folder)
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
    found = find_study(study, output, tracking_uri)
    if file is None:
        from psvae_tune.results.publish import REPORT, publish

        publish(found)
        click.echo(f"{REPORT} of run {found.run_id}")
        return
    from psvae_tune.results.report import make_report
    from psvae_tune.results.report_data import make_study_figures

    figures = dict(make_study_figures(found)) if found.finished else {}
    _write(file, make_report(found, figures).encode())


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

    found = [find_study(study, output, tracking_uri) for study in dict.fromkeys(studies)]
    table = comparison_table(found)
    _write(file, draw_comparison(found))
    click.echo(table, nl=False)


def _write(file: Path, content: bytes) -> None:
    try:
        write_bytes(file, content)
    except OSError as error:
        raise StorageError(str(file), f"cannot be written: {error.strerror}") from error
    click.echo(str(file), err=True)
