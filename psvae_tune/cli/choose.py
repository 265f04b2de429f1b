"""``psvae-tune select``, ``promote``, ``export`` and ``predict``: what becomes of a choice."""

import getpass
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from psvae_tune.cli import options
from psvae_tune.cli.studies import find_store, find_study
from psvae_tune.errors import StorageError
from psvae_tune.files import write_bytes


@click.command()
@click.argument("study")
@click.option("--trial", required=True, help="The name, the run or the id of a trial.")
@click.option("--reason", default="", help="Why; kept beside the choice.")
@options.output
@options.tracking_uri
@options.verbose
def select(study: str, trial: str, reason: str, output: Path, tracking_uri: str | None) -> None:
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


@click.command()
@click.argument("model")
@click.argument("recording", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "folder",
    default=Path(),
    show_default="here",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where RECORDING.latents.h5 and .csv go.",
)
@click.option("--session", default=0, help="Whose units to use, for a model of several sessions.")
@options.output
@options.tracking_uri
@options.verbose
def predict(
    model: str,
    recording: Path,
    folder: Path,
    session: int,
    output: Path,
    tracking_uri: str | None,
) -> None:
    """Say the latents and labels of a new video or HDF5 file.

    MODEL is a `model.pt`, a folder made by `export`, or models:/NAME@champion.
    """
    from psvae_tune.models.model_file import load_model
    from psvae_tune.results.predictions import predict_recording, to_csv, to_hdf5

    if not recording.is_file():
        raise StorageError(str(recording), "is no file")
    if model.startswith("models:/"):
        from psvae_tune.tracking.model_registry import download_model

        uri, _ = find_store("", output, tracking_uri)
        with TemporaryDirectory() as temporary:
            saved = load_model(download_model(uri, model, Path(temporary)))
    else:
        path = Path(model)
        saved = load_model(path / "model.pt" if path.is_dir() else path)
    found = predict_recording(saved, recording, session)
    for suffix, content in (("h5", to_hdf5(found)), ("csv", to_csv(found))):
        file = folder / f"{recording.stem}.latents.{suffix}"
        try:
            write_bytes(file, content)
        except OSError as error:
            raise StorageError(str(file), f"cannot be written: {error.strerror}") from error
        click.echo(str(file))
