"""``psvae-tune choose``, ``promote``, ``export``, ``report`` and ``compare``."""

import shlex
from pathlib import Path

import click

from psvae_tune.api.studies import open_study
from psvae_tune.cli import epilogs, options
from psvae_tune.cli.predict import check_nwb_targets, check_overwrite
from psvae_tune.errors import StorageError
from psvae_tune.files import require_absent, write_bytes
from psvae_tune.redaction import hide_passwords


@click.command(epilog=epilogs.CHOOSE)
@click.argument("study")
@click.option("--trial", help="Name, run or id of the trial.")
@click.option("--reason", default="", help="Reason, which is kept beside the choice.")
@click.option(
    "--blind", is_flag=True, help="Judge pairs of trials on a page that does not name them."
)
@click.option("--rater", help="Name of the person who judges; by default that of the user.")
@options.output
@options.tracking_uri
@options.verbose
def choose(
    study: str,
    trial: str | None,
    reason: str,
    blind: bool,
    rater: str | None,
    output: Path,
    tracking_uri: str | None,
) -> None:
    """Choose another trial than the rule did.

    STUDY is its name or its folder. Your name and the reason are kept beside the choice.
    """
    if blind == (trial is not None):
        raise click.UsageError("Give either --trial or --blind.")
    result = open_study(study, output=output, tracking_uri=tracking_uri)
    if trial is not None:
        result = result.choose(trial, reason)
    else:
        result = result.judge(rater, on_ready=click.echo)
    click.echo(f"chosen: {result.logged.label(result.best)}, run {result.best.run_id}")


@click.command()
@click.argument("study")
@click.option("--name", required=True, help="Name that the model gets in the registry.")
@options.output
@options.tracking_uri
@options.verbose
def promote(study: str, name: str, output: Path, tracking_uri: str | None) -> None:
    """Register the chosen model of a study in MLflow.

    STUDY is its name or its folder. The model gets the alias `champion`.
    """
    click.echo(open_study(study, output=output, tracking_uri=tracking_uri).promote(name))


@click.command(epilog=f"{epilogs.ROWS}\n{epilogs.EXPORT}")
@click.argument("study")
@click.option("--trial", help="Name, run or id of the trial; by default the chosen one.")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="New folder to copy weights, settings, latents, figures and movies of the trial into.",
)
@click.option(
    "--optuna",
    "storage",
    metavar="URL",
    help="Storage of Optuna to write all trials to, such as sqlite:///study.db.",
)
@click.option(
    "--onnx",
    "graph",
    type=click.Path(path_type=Path, dir_okay=False),
    help="New file for the encoder of the trial, from frames to latents and labels, as ONNX.",
)
@click.option(
    "--session",
    type=int,
    help="Session of the fit, from 0, whose layers and label units --onnx takes.",
)
@click.option(
    "--sequences",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.npz",
    help="New NumPy file with an array of latents a clip, for models of sequences.",
)
@options.alf
@options.nwb
@options.overwrite
@options.output
@options.tracking_uri
@options.verbose
def export(
    study: str,
    trial: str | None,
    folder: Path | None,
    storage: str | None,
    graph: Path | None,
    session: int | None,
    sequences: Path | None,
    wants_alf: bool,
    nwb_files: tuple[Path, ...],
    overwrite: bool,
    output: Path,
    tracking_uri: str | None,
) -> None:
    """Copy a trial or a study out of MLflow, in files for other programs.

    STUDY is its name or its folder.
    """
    from psvae_tune.results import choices
    from psvae_tune.results.prediction_files import ALF, write_predictions
    from psvae_tune.results.sequence_file import write_sequences

    of_trial = bool(folder or graph or sequences or nwb_files)
    check_overwrite(overwrite, nwb_files)
    _refuse(wants_alf and not folder, "--alf needs --to, the folder that its files go to.")
    _refuse(session is not None and not graph, "--session needs --onnx, whose layers it names.")
    _refuse(trial and not of_trial, "--trial needs --to, --nwb, --onnx or --sequences.")
    _refuse(
        not (of_trial or storage),
        "Nothing to write: give --to, --nwb, --onnx, --sequences or --optuna.",
    )
    _check_new(folder, sequences)
    result = open_study(study, output=output, tracking_uri=tracking_uri)
    # All is checked before anything is written, lest a call that failed blocks the next.
    needs_latents = nwb_files or wants_alf or sequences
    predictions = result.predictions(trial) if needs_latents else ()
    check_nwb_targets(nwb_files, [item.rows for item in predictions], overwrite)
    if of_trial:
        chosen = result.logged.find_trial(trial) if trial else result.best
    if graph is not None:
        choices.check_onnx(result.logged, chosen, graph, session or 0)
    if storage is not None:  # first, because it checks itself what it is to write to
        pictures = result.to_optuna(storage)
        shown = map(shlex.quote, (hide_passwords(storage), "--artifact-dir", str(pictures)))
        click.echo(f"optuna-dashboard {' '.join(shown)}")
    if folder is not None:
        choices.export(result.logged, chosen, folder)
        click.echo(str(folder))
        for index, item in enumerate(predictions if wants_alf else ()):
            write_predictions(item, alf := folder / f"latents/session_{index}{ALF}")
            click.echo(str(alf))
    if sequences is not None:
        write_sequences(predictions, sequences)
        click.echo(str(sequences))
    for file, item in zip(nwb_files, predictions, strict=False):  # none, or one a session
        write_predictions(item, file, replaces=overwrite)
        click.echo(str(file))
    if graph is not None:
        choices.export_onnx(result.logged, chosen, graph, session or 0)
        click.echo(str(graph))


def _check_new(folder: Path | None, sequences: Path | None) -> None:
    """Make sure before the work that what is to be new does not exist."""
    from psvae_tune.results.sequence_file import check_sequences

    if folder is not None:
        require_absent(folder, "folder")
    if sequences is not None:
        check_sequences(sequences)


def _refuse(is_wrong: object, problem: str) -> None:
    """Raise a usage error where options do not go together."""
    if is_wrong:
        raise click.UsageError(problem)


file_option = click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write the report to; then nothing is changed in MLflow.",
)


@click.command()
@click.argument("study")
@options.output
@options.tracking_uri
@file_option
@options.verbose
def report(study: str, output: Path, tracking_uri: str | None, file: Path | None) -> None:
    """Make the figures and the report of a study again.

    STUDY is its name or its folder. Everything is read from MLflow.
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
    help="File to write the figure to.",
)
@options.verbose
def compare(studies: tuple[str, ...], output: Path, tracking_uri: str | None, file: Path) -> None:
    """Compare the chosen trials of several studies.

    Prints one table as CSV and draws one figure.
    """
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
