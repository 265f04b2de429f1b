"""``psvae-tune report`` and ``psvae-tune compare``: studies, looked at again."""

from pathlib import Path

import click

from psvae_tune.cli import options
from psvae_tune.cli.studies import find_study
from psvae_tune.errors import StorageError
from psvae_tune.files import write_bytes

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
