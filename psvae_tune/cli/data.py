"""The commands ``psvae-tune data …``: make, check, list and split recordings."""

import csv
import io
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress as ProgressBar
from rich.progress import TaskID

from psvae_tune.cli import epilogs, options
from psvae_tune.cli.data_import import import_
from psvae_tune.config.session_list import DEMO
from psvae_tune.data.demo import session_path
from psvae_tune.data.session_header import read_header
from psvae_tune.data.splits import split_clips
from psvae_tune.errors import ConfigError, DataError, StorageError
from psvae_tune.files import write_bytes
from psvae_tune.study.plan import find_differences

paths = click.argument("paths", metavar="H5…", nargs=-1, required=True)
_SIGNS = {"train": "T", "val": "V", "test": "E", "gap": "."}


@click.group()
def data() -> None:
    """Make recordings from videos, check them, and list them."""


data.add_command(import_)


@data.command(epilog=epilogs.WORLDS)
@click.argument("name", default="demo")
def demo(name: str) -> None:
    """Generate a demo recording, unless it exists, and print its path.

    NAME is demo, demo:SEED, demo:WORLD or demo:WORLD:SEED, as in `data.sessions`.
    """
    if DEMO.fullmatch(name) is None:
        raise click.BadParameter(
            f"must be demo, demo:SEED, demo:WORLD or demo:WORLD:SEED, got {name!r}",
            param_hint="NAME",
        )
    click.echo(session_path(name))


@data.command()
@paths
@options.verbose
def info(paths: tuple[str, ...]) -> None:
    """Print the frames, clips and labels of sessions, without reading the frames."""
    for path in paths:
        header = read_header(path, needs_labels=False)
        shape = "×".join(map(str, header.frame_shape))
        lengths = sorted(set(header.clip_lengths))
        length = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
        has = {
            "label masks": header.has_label_masks,
            "places in pixels": header.has_labels_sc,
            "frame masks": header.has_frame_masks,
            "frame indices": header.has_frame_index,
            "frame times": header.has_times,
        }
        click.echo(path)
        click.echo(f"  frames   {header.n_frames} of {shape}")
        click.echo(f"  clips    {header.n_clips} of {length} frames")
        click.echo(f"  labels   {header.n_labels}: {', '.join(header.label_names) or 'none'}")
        click.echo(f"  with     {', '.join(name for name, is_there in has.items() if is_there)}")


@data.command()
@paths
@click.option(
    "--html",
    "page",
    is_flag=False,
    flag_value="check.html",
    metavar="[FILE]",
    type=click.Path(path_type=Path),
    help="Also write an HTML page with pictures; by default check.html.",
)
@options.verbose
def check(paths: tuple[str, ...], page: Path | None) -> None:
    """Check the quality of sessions before spending GPU time on them.

    Each line is bad, look or good: a problem to fix, one to look at, or none. The check covers
    the number of clips, pixel values, repeated and dropped frames, masked, jumping and redundant
    labels, labels that lag behind the frames, and the length of clips.
    """
    from psvae_tune.data.quality_findings import find_issues
    from psvae_tune.data.quality_measures import measure_session

    if page is not None and page.suffix not in (".html", ".htm"):
        raise ConfigError("--html", f"must be a page to write, *.html, got {str(page)!r}")
    headers = [read_header(path, needs_labels=False) for path in paths]
    sessions = []
    with ProgressBar(console=Console(stderr=True), transient=True) as bar:
        for path, header in zip(paths, headers, strict=True):
            task = bar.add_task(Path(path).name, total=header.n_frames)
            measures = measure_session(path, _Advance(bar, task))
            sessions.append((measures, find_issues(measures)))
    for path, (_, findings) in zip(paths, sessions, strict=True):
        click.echo(path)
        for item in findings:
            click.echo(f"  {item.level:<5}{item.about}: {item.text}")
            if item.fix and item.level != "good":
                click.echo(f"       fix: {item.fix}")
    if page is not None:
        from psvae_tune.results.recording_page import build_session_page

        _write(page, build_session_page(sessions))
        click.echo(f"page {page}")


@data.command()
@paths
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="CSV file to write."
)
@options.verbose
def merge(paths: tuple[str, ...], output: Path) -> None:
    """List several sessions in a CSV file, for data.sessions of a study or for --data.

    The sessions must have the same labels, and frames of the same shape. They are not copied.
    """
    headers = [read_header(path, needs_labels=False) for path in paths]
    if problems := list(find_differences(headers)):
        raise DataError("sessions", problems, "import them with the same options")
    if output.exists():
        raise StorageError(str(output), "exists", "choose another with --output")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path"])
    writer.writerows([str(Path(path).resolve())] for path in paths)
    _write(output, text.getvalue())
    n_frames = sum(header.n_frames for header in headers)
    click.echo(f"{output}: {len(paths)} sessions, {n_frames} frames")


@data.command()
@paths
@click.option(
    "--trial-splits",
    default="8;1;1;0",
    show_default=True,
    metavar="TRAIN;VAL;TEST;GAP",
    help="Clips in each part of a block, as in a study.",
)
@click.option("--seed", default=0, show_default=True, help="Seed rng_seed_data of the study.")
@click.option("--show", is_flag=True, help="Print every clip: T train, V val, E test, . gap.")
@options.verbose
def split(paths: tuple[str, ...], trial_splits: str, seed: int, show: bool) -> None:
    """Print which clips a study would train, validate and test on."""
    for path in paths:
        header = read_header(path, needs_labels=False)
        splits = split_clips(header.n_clips, trial_splits, seed, where=path)
        names = ["gap"] * header.n_clips
        for name in ("train", "val", "test"):
            for clip in splits[name]:
                names[clip] = name
        click.echo(path)
        for name in dict.fromkeys(_SIGNS):
            lengths = [n for n, s in zip(header.clip_lengths, names, strict=True) if s == name]
            if lengths:
                click.echo(f"  {name:<6}{len(lengths)} clips, {sum(lengths)} frames")
        if show:
            signs = "".join(_SIGNS[name] for name in names)
            for start in range(0, len(signs), 50):
                click.echo(f"  {start:>6}  {signs[start : start + 50]}")


class _Advance:
    """Sets a progress bar to the number of frames that have been read."""

    def __init__(self, bar: ProgressBar, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def __call__(self, n_done: int) -> None:
        self._bar.update(self._task, completed=n_done)


def _write(path: Path, text: str) -> None:
    try:
        write_bytes(path, text.encode())
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise StorageError(str(path), f"cannot be written: {words}") from error
