"""A study is interrupted: by Ctrl-C, a batch system, a closed terminal, or a full disk."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psvae_tune.cluster.ray_private import kill_ray
from psvae_tune.errors import StudyInterrupted
from psvae_tune.files import is_disk_error
from psvae_tune.tracking.folders import StudyFolder

GRACE_S = 3.0
"""Seconds after SIGTERM or SIGHUP in which trials may end; then they are cut off."""
LIMIT_S = 4.5
"""Seconds after the first of these signals in which the process ends, whatever it waits for.

Docker kills after 10 seconds what does not end, Ray Jobs after a few, Slurm after 30.
"""


@contextmanager
def explain_interruption(folder: StudyFolder) -> Iterator["StopSignals"]:
    """Turn a request to stop a study into one error that says how to resume it.

    Ctrl-C, SIGTERM and SIGHUP all let the trials end in order, and a second one stops at once. So
    does the time that batch systems give. A signal that is ignored, as after ``nohup``, stays so.

    Parameters
    ----------
    folder
        Folder of the study. A request is passed on if the study has not begun there.

    Side effects: changes signal handlers, in the main thread only: until the context ends, or for
    good once SIGTERM or SIGHUP has come, because the process is about to end.

    Raises
    ------
    StudyInterrupted
        If the study was stopped at once.
    """
    signals = StopSignals(folder)
    try:
        with signals:
            yield signals
    except KeyboardInterrupt as error:
        if not folder.study_file.exists():
            raise  # nothing has begun
        raise _stopped_at_once(folder) from error


def _stopped_at_once(folder: StudyFolder) -> StudyInterrupted:
    return StudyInterrupted(
        f"study {folder.name}",
        "stopped at once: trials that were running go on from their last checkpoint",
        hint=f"psvae-tune resume {shlex.quote(str(folder.root))}",
    )


class StopSignals:
    """Handles SIGTERM and SIGHUP like Ctrl-C, but in limited time."""

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder
        self._before: dict[signal.Signals, Any] = {}
        self._is_over = threading.Event()
        self._is_told = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.getsignal(number)
            self.install()

    def install(self) -> None:
        """Set the handlers, which Ray replaces when this process joins a cluster."""
        for number in self._before:
            signal.signal(number, self._stop)

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        for number, handler in self._before.items():
            # A process that was told to end takes no second request while it says how to go on.
            signal.signal(number, signal.SIG_IGN if self._is_told else handler)

    def _stop(self, number: int, frame: Any) -> None:
        if not self._is_told:
            self._is_told = True
            threading.Thread(target=self._insist, daemon=True).start()
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's `command &`
            raise KeyboardInterrupt
        # Ray Tune lets its trials end at the first one, and is interrupted by the second.
        signal.raise_signal(signal.SIGINT)

    def _insist(self) -> None:
        """Stop at once when the time is over; end the process if it does not even do that."""
        if self._is_over.wait(GRACE_S):
            return
        os.kill(os.getpid(), signal.SIGTERM)
        if self._is_over.wait(LIMIT_S - GRACE_S):
            return
        root = self._folder.root
        if not isinstance(root, Path) or self._folder.study_file.exists():
            sys.stderr.write(f"\nerror: {_stopped_at_once(self._folder)}\n")
            sys.stderr.flush()
        kill_ray()
        os._exit(StudyInterrupted.exit_code)


@contextmanager
def explain_full_disk(folder: StudyFolder) -> Iterator[None]:
    """Turn the error of a disk that takes no more into one that says how to go on.

    Raises
    ------
    StudyInterrupted
        If the folder of the study can no longer be written.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_error(error):
            raise
        raise StudyInterrupted(
            f"study {folder.name}",
            f"cannot be kept: {error.strerror}; trials go on from their last checkpoint",
            hint=f"make room for {folder.root}, then psvae-tune resume {folder.root}",
        ) from error
