"""``psvae-tune predict``: a fitted model is applied to a new recording."""

import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress as ProgressBar

from psvae_tune.api.models import load_model
from psvae_tune.cli import epilogs, options
from psvae_tune.errors import StorageError


@click.command(epilog=epilogs.ROWS)
@click.argument("model")
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "folder",
    default=Path(),
    show_default="here",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for RECORDING.latents.h5, .csv and .parquet.",
)
@click.option(
    "--session", default=0, help="Session of the fit, from 0, whose label units are used."
)
@click.option(
    "--batch-size",
    default=256,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of frames that are encoded at a time; fewer need less memory.",
)
@options.output
@options.tracking_uri
@options.verbose
def predict(
    model: str,
    recording: Path,
    folder: Path,
    session: int,
    batch_size: int,
    output: Path,
    tracking_uri: str | None,
) -> None:
    """Write latents and labels of a new video or HDF5 file, a row a frame.

    A video is cut and scaled as the one of the fit was when it was imported. MODEL is a
    `model.pt`, a folder made by `export`, or models:/NAME@champion.
    """
    from psvae_tune.results.prediction_files import FORMATS, write_predictions

    if not recording.is_file():
        raise StorageError(str(recording), "is no file")
    fitted = load_model(model, output=output, tracking_uri=tracking_uri)
    began = time.perf_counter()
    with ProgressBar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("encoding frames", total=None)

        def show(n_done: int, total: int) -> None:
            bar.update(task, completed=n_done, total=total)

        found = fitted.predict(recording, session, batch_size, show)
    seconds, n_frames = time.perf_counter() - began, len(found.latents)
    speed = f"{n_frames / seconds:.0f} a second"
    click.echo(f"{n_frames} frames in {seconds:.1f} s, {speed}", err=True)
    for suffix in FORMATS:
        file = folder / f"{recording.stem}.latents{suffix}"
        write_predictions(found, file)
        click.echo(str(file))
