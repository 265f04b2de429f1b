"""``psvae-tune data``: recordings."""

import click

from psvae_tune.cli.data_import import import_
from psvae_tune.data.demo import demo_path


@click.group()
def data() -> None:
    """Look at recordings and make them."""


data.add_command(import_)


@data.command()
def demo() -> None:
    """Generate the demo recording, once, and print where it is."""
    click.echo(demo_path())
