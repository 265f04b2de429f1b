"""The command ``psvae-tune data import``: make a session from videos and pose files."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress as ProgressBar

from psvae_tune.cli import options
from psvae_tune.errors import ConfigError

if TYPE_CHECKING:
    from psvae_tune.data.importers.request import FrameRange, ImportRequest
    from psvae_tune.data.video import Crop

EPILOG = """\b
Which row of a pose file belongs to which frame:
  A row belongs to the frame that stands beside it: in the first column of
  DeepLabCut's tables, in a column `frame`, in the name of a labelled image
  (img0017.png), in SLEAP's files; in NWB files to the frame of its time, if
  there is not one row for each frame. Frames without a row are masked.
  Rows numbered 0, 1, 2 ... prove nothing. Row i then belongs to frame i if
  there are as many rows as frames; a blank line is a row. If there are as
  many rows as steps in time, frames that the camera dropped have rows.
  Otherwise three assumptions are compared: row i is frame i; the last row
  is the last frame; one file has every second, third ... frame of the other.
  The one is taken and reported under which labels and frames change at the
  same times: clearly more than labels shifted in time or reversed do, more
  than with any lag, and from the beginning to the end. If there is none, the
  import is refused and asks for --label-offset.

\b
What is stored:
  Labels are pixel positions in the stored frame: positions in the video,
  less the corner of --crop, times the factor that the frame is scaled by.
  Labels below --min-likelihood or outside --crop are masked. Frames before
  the first label and after the last are left out, unless --frames is given.
  A video that is turned when it is shown is stored as it is shown.
  A frame that is damaged repeats the one before, and its labels are masked.
  Every frame keeps its index in the video (group `frame_index`) and its time
  in seconds by the time stamps of the video, those of the first of several
  (group `time_s`). Where time stamps are missing, repeat or decrease, there
  is no `time_s`, and a note says so.
  From a SLEAP project of several videos, the poses of the video with the
  same file name are taken; where a person corrected a prediction, the
  corrected places.

\b
Examples:
  psvae-tune data import mouse.mp4 --pose mouseDLC.csv -o mouse.h5
  psvae-tune data import flies.mp4 --pose flies.slp --track fly_1 --crop 400x400+20+0 -o fly.h5
  psvae-tune data import left.mp4 right.mp4 --pose left.csv --pose right.csv -o two_views.h5
"""


@click.command("import", epilog=EPILOG)
@click.argument("videos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--pose",
    "poses",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Pose file of the first video; give it again for the second video, and so on.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Session file to write.",
)
@click.option("--overwrite", is_flag=True, help="Replace the session file if it exists.")
@click.option(
    "--size",
    metavar="WxH",
    help="Size of the stored frames; by default 128 pixels at the longer side.",
)
@click.option(
    "--crop",
    "crops",
    multiple=True,
    metavar="WxH+X+Y",
    help="Part of the video to store, in its pixels; once, or once for each video.",
)
@click.option("--colour", is_flag=True, help="Store three channels a camera instead of grey.")
@click.option(
    "--frames",
    metavar="START:STOP:STEP",
    help="Frames to store, by number from 0; STOP itself is left out.",
)
@click.option(
    "--clip-length",
    type=click.IntRange(min=1),
    help="Frames in a clip; by default 100, or fewer so that there are 20 clips.",
)
@click.option(
    "--track",
    "tracks",
    multiple=True,
    help="Animal to take, or `all`; may be repeated.",
)
@click.option(
    "--keypoints",
    multiple=True,
    metavar="A,B,…",
    help="Keypoints to take; once, or once for each pose file. By default all.",
)
@click.option(
    "--min-likelihood",
    type=click.FloatRange(0),
    help="Labels of a lower likelihood are masked; by default 0.9, for SLEAP and LEAP 0.",
)
@click.option(
    "--label-offset",
    type=int,
    metavar="N",
    help="Row i of the pose files, or the row numbered i, is frame i + N; by default found out, "
    "see below.",
)
@click.option(
    "--extra-labels",
    multiple=True,
    type=click.Path(path_type=Path),
    help="CSV file of further labels: named columns and a row for each frame, or for those that a "
    "column `frame` numbers; or one column NAME_times of event times in seconds. May be repeated.",
)
@options.verbose
def import_(videos: tuple[Path, ...], output: Path, overwrite: bool, **asked: Any) -> None:
    """Make a session from videos and the pose files of a tracker.

    The videos of several cameras become the channels of one session. Pose files may be of
    DeepLabCut, Lightning Pose, SLEAP, Facemap, LEAP or DeepPoseKit, NWB files with poses of
    ndx-pose, or tables with columns such as paw_x.
    """
    from psvae_tune.data.importers.plan import plan_import
    from psvae_tune.data.importers.write import check_output, import_session

    request = _parse_request(videos, **asked)
    check_output(output, overwrite)
    console = Console(stderr=True)
    with console.status("reading the videos and the pose files"):
        plan = plan_import(request)
    for note in plan.notes:
        click.echo(f"note: {note}", err=True)
    try:
        with ProgressBar(console=console, transient=True) as bar:
            task = bar.add_task("storing frames", total=len(plan.frames))
            notes = import_session(
                plan, output, replaces=overwrite, progress=lambda n: bar.update(task, completed=n)
            )
    except KeyboardInterrupt:
        click.echo("interrupted: the same command continues where this one stopped", err=True)
        sys.exit(1)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    shape = "×".join(str(size) for size in plan.frame_shape)
    n_labels = plan.arrays["labels"].shape[1] if "labels" in plan.arrays else 0
    click.echo(f"session    {output}")
    click.echo(
        f"frames     {len(plan.frames)} of {shape} at {plan.attributes['fps']:g} Hz "
        f"in {len(plan.clip_lengths)} clips of {plan.clip_lengths[0]}, {n_labels} labels"
    )
    click.echo(f"look       psvae-tune data check {output} --html")


def _parse_request(
    videos: tuple[Path, ...],
    *,
    poses: tuple[Path, ...],
    crops: tuple[str, ...],
    tracks: tuple[str, ...],
    keypoints: tuple[str, ...],
    size: str | None,
    frames: str | None,
    colour: bool,
    **same: Any,
) -> "ImportRequest":
    from psvae_tune.data.importers.request import FrameRange, make_request

    return make_request(
        videos,
        poses,
        crops=[_parse_crop(crop) for crop in crops],
        tracks=tracks,
        keypoints=[[part.strip() for part in text.split(",")] for text in keypoints],
        size=_parse_size(size) if size else None,
        is_colour=colour,
        frames=_parse_frames(frames) if frames else FrameRange(),
        **same,
    )


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})[x×]([1-9]\d{0,4})", text)
    if not match:
        raise ConfigError("--size", f"must read WxH, width first, as 128x96, got {text!r}")
    return int(match[1]), int(match[2])


def _parse_crop(text: str) -> "Crop":
    from psvae_tune.data.video import Crop

    match = re.fullmatch(r"([1-9]\d*)[x×]([1-9]\d*)\+(\d+)\+(\d+)", text)
    if not match:
        raise ConfigError("--crop", f"must read WxH+X+Y, as 200x100+40+0, got {text!r}")
    return Crop(*map(int, match.groups()))


def _parse_frames(text: str) -> "FrameRange":
    from psvae_tune.data.importers.request import FrameRange

    match = re.fullmatch(r"(\d*):(\d*)(?::([1-9]\d*))?", text)
    if not match:
        raise ConfigError("--frames", f"must read START:STOP or START:STOP:STEP, got {text!r}")
    start, stop, step = match.groups()
    return FrameRange(int(start or 0), int(stop) if stop else None, int(step or 1))
