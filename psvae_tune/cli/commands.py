"""Group of all commands, which also prints the errors of this project.

Results go to stdout, messages to stderr. Each command imports large libraries only when it runs,
so that help and checks answer at once.
"""

import errno
import logging
import os
import sys
import traceback
from typing import Any

import click

from psvae_tune import __version__
from psvae_tune.cli.behavenet import import_behavenet
from psvae_tune.cli.check import check
from psvae_tune.cli.data import data
from psvae_tune.cli.jobs import jobs
from psvae_tune.cli.predict import predict
from psvae_tune.cli.recommend import recommend
from psvae_tune.cli.results import choose, compare, export, promote, report
from psvae_tune.cli.run import resume, run, sync
from psvae_tune.cli.submit import submit
from psvae_tune.cli.ui import ui
from psvae_tune.cluster.job_log import report_refusal
from psvae_tune.errors import (
    PsvaeTuneError,
    RecordingNotFoundError,
    StorageError,
    StudyInterrupted,
)
from psvae_tune.redaction import hide_passwords

EXAMPLES = """\b
Examples:
  psvae-tune run search_spaces/ps_vae.yaml
  psvae-tune check search_spaces/ps_vae.yaml --data session.h5
  psvae-tune run search_spaces/ps_vae.yaml --data session.h5 --set model.ps_vae.beta=5
  psvae-tune ui
"""


class Commands(click.Group):
    """Group of all commands, which prints an error of this project as one message."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program; after a study that was stopped, end it without delay.

        Python's own end takes seconds, which those who stop a study may not wait for.
        """
        try:
            return super().__call__(*args, **kwargs)
        except SystemExit as end:
            if not isinstance(end.__context__, StudyInterrupted):
                raise
            from psvae_tune.cluster.ray_private import kill_ray  # loaded by what was stopped

            kill_ray()  # a second signal may have cut short what ends it
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.__context__.exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of this project ends it with a message and an exit code."""
        try:
            return self._invoke(ctx)
        except PsvaeTuneError as error:
            if logging.getLogger("psvae_tune").isEnabledFor(logging.DEBUG):
                click.echo(hide_passwords(traceback.format_exc()), err=True)
            click.echo(f"error: {error}", err=True)
            missing = error.where if isinstance(error, RecordingNotFoundError) else None
            report_refusal(str(error), missing)
            sys.exit(error.exit_code)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as error:
            # The system raises it even where code only asks whether a file exists.
            if error.errno != errno.ENAMETOOLONG:
                raise
            name = str(error.filename)
            raise StorageError(f"{name:.80}…", f"is too long for a file: {len(name)}") from error


@click.group(
    cls=Commands,
    help="Search the hyperparameters of semi-supervised behavioural-video autoencoders.",
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
def main() -> None:
    """Gather the commands."""


REPORTING = (report, choose, promote, export, predict, compare)
for command in (
    run,
    resume,
    sync,
    submit,
    jobs,
    check,
    ui,
    *REPORTING,
    data,
    recommend,
    import_behavenet,
):
    main.add_command(command)
