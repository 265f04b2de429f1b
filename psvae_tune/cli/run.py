"""``psvae-tune run`` and ``psvae-tune resume``."""

import json
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress as ProgressBar

from psvae_tune.cli import options
from psvae_tune.cli.find_study import kept_uri
from psvae_tune.config.study_file import apply_settings, read_study_file
from psvae_tune.config.wording import pluralise
from psvae_tune.errors import ConfigError, StorageError, TrackingError
from psvae_tune.files import locate
from psvae_tune.study.plan import StudyPlan, make_plan
from psvae_tune.tracking.folders import OutputFolder

if TYPE_CHECKING:
    from psvae_tune.cluster.nodes import Nodes
    from psvae_tune.data.session import Session
    from psvae_tune.study.run import StudyOutcome


@click.command()
@options.study_file
@options.sessions
@options.settings
@options.storage
@options.tracking_uri
@options.cluster
@click.option("--name", help="Of the study; by default that of the experiment and the time.")
@click.option("--inline", is_flag=True, help="Train one configuration here, without Ray.")
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
    plan = make_plan(read_study_file(file, settings, sessions), str(file))
    folder = OutputFolder(locate(output))
    name = name or name_study(plan.study.experiment_name)
    if folder.has_study(name):
        again = shlex.quote(str(folder.root / name))
        raise StorageError(
            f"study {name!r}",
            f"exists in {output}",
            hint=f"psvae-tune resume {again}, or choose another --name",
        )
    _run(plan, folder, name, tracking_uri, as_json, address=address, inline=inline)


def name_study(experiment_name: str) -> str:
    """Return what a study is called that was given no name."""
    return f"{experiment_name.strip().replace(' ', '-')}-{datetime.now():%Y%m%d-%H%M%S}"


@click.command()
@click.argument("study")
@options.settings
@click.option(
    "--accept-changes",
    is_flag=True,
    help="Go on although settings or recordings are not those that the study began with.",
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
    """Go on with a study that was interrupted, or give one a larger budget.

    STUDY is its folder or the URL of it. Budgets (num_trials, num_epochs, time_budget_h) and
    resources may be changed with --set.
    """
    root = locate(study)
    output = OutputFolder(root.parent)
    raw = output.study(root.name).read_study_file()
    apply_settings(raw, settings)
    plan = make_plan(raw, str(output.study(root.name).study_file))
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
    """Deliver what a tracking server that was away has not taken.

    STUDY is its folder or the URL of it. Nothing is delivered twice, and nothing is trained.
    """
    from psvae_tune.tracking.client import TrackingTarget
    from psvae_tune.tracking.outbox import deliver_all

    root = locate(study)
    output = OutputFolder(root.parent)
    folder = output.study(root.name)
    uri = tracking_uri or kept_uri(folder)
    target = TrackingTarget(uri, folder.read_tracking()["experiment_id"], folder.name)
    with folder.lock():
        n_waiting = deliver_all(folder, target)
    if n_waiting:
        raise TrackingError(
            f"tracking URI {uri}",
            f"has not taken what {n_waiting} trials have logged",
            hint="-v says why; the same command goes on where this one stopped",
        )
    if folder.unlogged.exists():
        # All of its trials have ended, so that nothing is left of it but to tell the choice.
        plan = make_plan(folder.read_study_file(), str(folder.study_file))
        _run(plan, output, folder.name, uri, False, address=None)
    click.echo("everything is delivered", err=True)


def _run(
    plan: StudyPlan,
    output: OutputFolder,
    name: str,
    tracking_uri: str | None,
    as_json: bool,
    *,
    address: str | None,
    inline: bool = False,
    accept_changes: bool = False,
) -> None:
    from psvae_tune.study.load_sessions import choose_streamed
    from psvae_tune.study.location import join, open_location
    from psvae_tune.study.run import run as run_study
    from psvae_tune.study.run import run_inline

    location = open_location(plan, output, name, tracking_uri, is_shared=address is not None)
    console = Console(stderr=True)
    if address:
        nodes, streamed = join(address, plan, output, location)
        console.print(_describe_nodes(nodes, plan), highlight=False, markup=False, soft_wrap=True)
    else:
        streamed = choose_streamed(plan)
    sessions = _read(plan, streamed, console)
    if inline:
        for progress in run_inline(plan, sessions, location):
            numbers = "  ".join(f"{k} {v:.4g}" for k, v in progress.metrics.items())
            click.echo(f"epoch {progress.epoch}  {progress.failure or numbers}")
        return
    from psvae_tune.cli.progress_table import StudyTable

    with StudyTable(console, plan.study.base.training.max_n_epochs) as display:
        outcome = run_study(plan, sessions, location, display, accept_changes=accept_changes)
    if as_json:
        stages = {item.stage.name: item.selection.to_dict() for item in outcome.stages}
        click.echo(json.dumps(stages, indent=2))
    else:
        _print_outcome(outcome, output)


def _describe_nodes(nodes: "Nodes", plan: StudyPlan) -> str:
    """Return the line that tells that every node has been looked at, and is fit."""
    resources = plan.study.resources
    gpus = 0.0 if resources.gpus_per_trial == "auto" else resources.gpus_per_trial
    n_slots = nodes.count_slots(resources.cpus_per_trial, gpus)
    return (
        f"cluster    {pluralise(len(nodes.nodes), 'node')}, "
        f"{pluralise(nodes.total('CPU'), 'CPU')}, {pluralise(nodes.total('GPU'), 'GPU')}: "
        f"up to {pluralise(n_slots, 'trial')} at a time. "
        "The others wait, and nodes that join later take them up"
    )


def _read(plan: StudyPlan, streamed: Sequence[str], console: Console) -> "list[Session]":
    from psvae_tune.study.load_sessions import read_sessions

    for path in streamed:
        line = f"recording  {path} is too large for memory: its clips are read as they are needed"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    n_frames = sum(header.n_frames for header in plan.headers)
    with ProgressBar(console=console, transient=True) as bar:
        task = bar.add_task("reading frames", total=n_frames)
        return read_sessions(plan, streamed, lambda n: bar.update(task, completed=n))


def _print_outcome(outcome: "StudyOutcome", output: OutputFolder) -> None:
    last = outcome.stages[-1]
    for item in outcome.stages:
        click.echo(f"\n{item.stage.name}: {item.selection.chosen.name}")
        for reason in item.selection.reasons:
            click.echo(f"  {reason}")
    metrics = last.selection.chosen.metrics
    shown = {key: metrics[key] for key in ("test/frame_mse", "test/label_r2") if key in metrics}
    shown |= {key: metrics[key] for key in last.stage.objectives if key in metrics}
    click.echo("")
    click.echo("pick       " + " ".join(item.selection.chosen.name for item in outcome.stages))
    logged = outcome.logged
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
