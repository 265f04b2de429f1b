"""``psvae-tune predict``: a fitted model is applied to a new recording."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress as ProgressBar

from psvae_tune.api.models import load_model
from psvae_tune.cli import epilogs, options
from psvae_tune.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from psvae_tune.data.frame_rows import FrameRows


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
    type=click.IntRange(min=1),
    help="Number of frames that are encoded at a time, instead of some hundred; fewer need less "
    "memory.",
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
    batch_size: int | None,
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
    from psvae_tune.models.encoding import N_FRAMES_AT_ONCE
    from psvae_tune.results.prediction_files import ALF, FORMATS, write_predictions
    from psvae_tune.results.recording_frames import open_recording

    check_overwrite(overwrite, nwb_files)
    if not recording.is_file():
        raise StorageError(str(recording), "is no file")
    opened = open_recording(recording) if nwb_files else None
    check_nwb_targets(nwb_files, [opened.rows] if opened else [], overwrite)
    fitted = load_model(model, output=output, tracking_uri=tracking_uri)
    began = time.perf_counter()
    with ProgressBar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("encoding frames", total=None)

        def show(n_done: int, total: int) -> None:
            bar.update(task, completed=n_done, total=total)

        # A session is read once; a video is opened again, with the view of the fit.
        source = opened.session if opened and opened.session else recording
        found = fitted.predict(source, session, batch_size or N_FRAMES_AT_ONCE, show)
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


def check_overwrite(replaces: bool, nwb_files: tuple[Path, ...]) -> None:
    """Make sure that ``--overwrite`` has something to do.

    Raises
    ------
    UsageError
        If there is no file of ``--nwb``.
    """
    if replaces and not nwb_files:
        raise click.UsageError("--overwrite needs --nwb, the file to replace latents in.")


def check_nwb_targets(
    files: tuple[Path, ...], rows: "Sequence[FrameRows]", replaces: bool
) -> None:
    """Make sure before the work that latents can be written into the files of ``--nwb``.

    Parameters
    ----------
    files
        The files.
    rows
        Rows of each session.
    replaces
        Whether predictions that are there may be replaced.

    Raises
    ------
    ConfigError
        If there is not one file a session.
    PsvaeTuneError
        If a file cannot be written into, or the times of a session are not such as it needs.
    """
    if not files:
        return
    from psvae_tune.results.nwb_file import check_target, require_times
    from psvae_tune.results.prediction_files import NWB

    if not len(files) == len({file.resolve() for file in files}) == len(rows):
        got = ", ".join(map(str, files))
        raise ConfigError("--nwb", f"must name one file a session, {len(rows)}, got {got}")
    for file, of_session in zip(files, rows, strict=True):
        if file.suffix != NWB:
            raise ConfigError("--nwb", f"must be a file *{NWB}, got {str(file)!r}")
        require_times(of_session, file)
        check_target(file, replaces)
