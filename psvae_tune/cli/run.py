"""``psvae-tune run``, ``resume`` and ``sync``."""

import json
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from psvae_tune.api.studies import load_study
from psvae_tune.cli import epilogs, options
from psvae_tune.config.study_file import parse_set_options
from psvae_tune.config.wording import name_trial
from psvae_tune.errors import ConfigError
from psvae_tune.files import locate
from psvae_tune.study.plan import StudyPlan
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.study_name import check_name_is_free, claim_name

if TYPE_CHECKING:
    from psvae_tune.study.run import StudyOutcome


@click.command(epilog=epilogs.RUN)
@options.study_file
@options.sessions
@options.settings
@options.storage
@options.tracking_uri
@options.cluster
@click.option("--name", help="Name of the study; by default its experiment and the time.")
@click.option("--inline", is_flag=True, help="Train the first configuration here, without Ray.")
@click.option("--json", "as_json", is_flag=True, help="Print the selection as JSON.")
@options.verbose
def run(
    file: Path,
    sessions: tuple[str, ...],
    settings: tuple[str, ...],
    output: str,
    tracking_uri: str | None,
    address: str | None,
    name: str | None,
    inline: bool,
    as_json: bool,
) -> None:
    """Run the study of a search-space file."""
    if inline and address:
        raise ConfigError("--inline", f"trains in this process, not on the cluster {address}")
    plan = load_study(file, data=sessions, settings=parse_set_options(settings))
    folder = OutputFolder(locate(output))
    if name is not None:
        check_name_is_free(folder, name)
    claim = claim_name(folder, plan.study.experiment_name) if name is None else nullcontext(name)
    with claim as claimed:
        if inline:
            _train_inline(plan, folder, claimed, tracking_uri)
        else:
            _run(plan, folder, claimed, tracking_uri, as_json, address=address)


def _train_inline(
    plan: StudyPlan, output: OutputFolder, name: str, tracking_uri: str | None
) -> None:
    from psvae_tune.study.progress_table import show_progress
    from psvae_tune.study.start import start_inline

    with show_progress(plan) as table:
        for report in start_inline(plan, output, name, table, tracking_uri=tracking_uri):
            numbers = "  ".join(f"{k} {v:.4g}" for k, v in report.best_metrics.items())
            click.echo(f"epoch {report.epoch}  {report.failure or numbers}")


@click.command()
@click.argument("study")
@options.settings
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Resume although settings or recordings have changed since the study began.",
)
@options.tracking_uri
@options.cluster
@click.option("--json", "as_json", is_flag=True, help="Print the selection as JSON.")
@options.verbose
def resume(
    study: str,
    settings: tuple[str, ...],
    accept_changes: bool,
    tracking_uri: str | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Resume a study, or give it a larger budget.

    STUDY is its folder or the URL of it. Budgets (num_trials, num_epochs, time_budget_h) and
    resources may be changed with --set.
    """
    root = locate(study)
    output = OutputFolder(root.parent)
    output.study(root.name).read_study_file()  # a folder without a study is one error, with others
    plan = load_study(study, settings=parse_set_options(settings))
    _run(
        plan,
        output,
        root.name,
        tracking_uri,
        as_json,
        address=address,
        accept_changes=accept_changes,
    )


@click.command()
@click.argument("study")
@options.tracking_uri
@options.verbose
def sync(study: str, tracking_uri: str | None) -> None:
    """Deliver runs that the tracking server has not taken.

    STUDY is its folder or the URL of it. Nothing is delivered twice, and nothing is trained.
    """
    from psvae_tune.results.find_study import kept_uri
    from psvae_tune.study.delivery import sync_study
    from psvae_tune.study.location import StudyLocation
    from psvae_tune.tracking.client import TrackingTarget

    root = locate(study)
    folder = OutputFolder(root.parent).study(root.name)
    uri = tracking_uri or kept_uri(folder)
    target = TrackingTarget(uri, folder.read_tracking()["experiment_id"], folder.name)
    target.client()  # a store that was moved is put right before the study is locked
    choice = sync_study(StudyLocation(folder, target))
    if choice is not None:
        click.echo(f"model      {choice.model_uri}")
    click.echo("everything is delivered", err=True)


def _run(
    plan: StudyPlan,
    output: OutputFolder,
    name: str,
    tracking_uri: str | None,
    as_json: bool,
    *,
    address: str | None,
    accept_changes: bool = False,
) -> None:
    from psvae_tune.study.progress_table import show_progress
    from psvae_tune.study.start import start_study

    with show_progress(plan) as table:
        outcome = start_study(
            plan,
            output,
            name,
            table,
            tracking_uri=tracking_uri,
            address=address,
            accept_changes=accept_changes,
        )
    if as_json:
        stages = {item.stage.name: item.selection.to_dict() for item in outcome.stages}
        click.echo(json.dumps(stages, indent=2))
    else:
        _print_outcome(outcome, output)


def _print_outcome(outcome: "StudyOutcome", output: OutputFolder) -> None:
    last = outcome.stages[-1]
    for item in outcome.stages:
        click.echo(f"\n{item.stage.name}: {item.selection.chosen.name}")
        for reason in item.selection.reasons:
            click.echo(f"  {reason}")
    metrics = last.selection.chosen.metrics
    shown = {key: metrics[key] for key in ("test/frame_mse", "test/label_r2") if key in metrics}
    shown |= {key: metrics[key] for key in last.stage.objectives if key in metrics}
    logged = outcome.logged
    if logged is not None and logged.remarks:
        click.echo("\n" + "\n".join(logged.remarks))
    click.echo("")
    varied = dict.fromkeys(name for item in outcome.stages for name in item.stage.space)
    pick = {name: last.selection.chosen.params[name] for name in varied}
    click.echo(f"pick       {name_trial(pick)}")
    if logged is not None and (stands := logged.override) is not None:
        reason = stands["reason"] or "no reason given"
        click.echo(f"stands     {stands['name']}, chosen by {stands['by']}: {reason}")
    click.echo("scores     " + "  ".join(f"{key} {value:.4g}" for key, value in shown.items()))
    click.echo(f"model      {logged.model_uri if logged else 'waits for the tracking server'}")
    click.echo(f"study      {outcome.location.folder.root}")
    if logged is None:
        root = shlex.quote(str(outcome.location.folder.root))
        click.echo(f"later      psvae-tune sync {root}")
    _print_link(outcome, output)


def _print_link(outcome: "StudyOutcome", output: OutputFolder) -> None:
    target = outcome.location.target
    if output.is_here and target.uri == output.default_tracking_uri:
        click.echo(f"look       psvae-tune ui --output {shlex.quote(str(output.root))}")
        click.echo(f"           then {target.url('http://127.0.0.1:5000')}")
    else:
        click.echo(f"look       {target.url(target.uri)}")
