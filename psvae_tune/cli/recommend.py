"""``psvae-tune recommend``: write a search-space file for a recording."""

from pathlib import Path

import click
from rich.console import Console

from psvae_tune.api.studies import recommend_study
from psvae_tune.cli import options
from psvae_tune.errors import StorageError
from psvae_tune.files import write_bytes


@click.command()
@click.argument("session", type=click.Path())
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File to write instead of printing."
)
@click.option(
    "--hours",
    type=click.FloatRange(0, min_open=True),
    help="Hours that the study may take on this machine; fits get fewer epochs.",
)
@options.verbose
def recommend(session: str, output: Path | None, hours: float | None) -> None:
    """Write a search-space file for a recording, with reasons.

    SESSION is the HDF5 file of a recording with labels. The reason stands beside each value. A
    short fit measures the cost.
    """
    if output is not None and output.exists():
        raise StorageError(str(output), "exists", "choose another with --output")
    with Console(stderr=True).status("") as status:
        text = recommend_study(session, hours, progress=status.update)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        write_bytes(output, text.encode())
    except OSError as error:
        raise StorageError(str(output), f"cannot be written: {error.strerror}") from error
    click.echo(f"written    {output}")
    click.echo(f"run        psvae-tune run {output}")
