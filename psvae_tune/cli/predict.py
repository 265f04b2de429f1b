"""``psvae-tune predict``: a fitted model is applied to a new recording."""

import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress as ProgressBar

from psvae_tune.api.models import load_model
from psvae_tune.cli import epilogs, options
from psvae_tune.errors import ConfigError, StorageError


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
@options.alf
@options.nwb
@options.overwrite
@options.output
@options.tracking_uri
@options.verbose
def predict(
    model: str,
    recording: Path,
    folder: Path,
    session: int,
    batch_size: int,
    wants_alf: bool,
    nwb_files: tuple[Path, ...],
    overwrite: bool,
    output: Path,
    tracking_uri: str | None,
) -> None:
    """Write latents and labels of a new video or HDF5 file, a row a frame.

    A video is cut and scaled as the one of the fit was when it was imported. MODEL is a
    `model.pt`, a folder made by `export`, or models:/NAME@champion.
    """
    from psvae_tune.results.prediction_files import ALF, FORMATS, write_predictions

    if not recording.is_file():
        raise StorageError(str(recording), "is no file")
    check_nwb_targets(nwb_files, 1, overwrite)
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
    for suffix in (*FORMATS, ALF) if wants_alf else FORMATS:
        file = folder / f"{recording.stem}.latents{suffix}"
        write_predictions(found, file)
        click.echo(str(file))
    for file in nwb_files:
        write_predictions(found, file, replaces=overwrite)
        click.echo(str(file))


def check_nwb_targets(files: tuple[Path, ...], n_sessions: int, replaces: bool) -> None:
    """Make sure before the work that latents can be written into the files of ``--nwb``.

    Raises
    ------
    ConfigError
        If there is not one file a session.
    PsvaeTuneError
        If a file cannot be written into.
    """
    if not files:
        return
    from psvae_tune.results.nwb_file import check_target
    from psvae_tune.results.prediction_files import NWB

    if len(files) != n_sessions or len(set(files)) != n_sessions:
        got = ", ".join(map(str, files))
        raise ConfigError("--nwb", f"must name one file a session, {n_sessions}, got {got}")
    for file in files:
        if file.suffix != NWB:
            raise ConfigError("--nwb", f"must be a file *{NWB}, got {str(file)!r}")
        check_target(file, replaces)
