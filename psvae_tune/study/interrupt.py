"""A study is interrupted: by Ctrl-C, by another signal, or by a disk that takes no more."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psvae_tune.errors import StudyInterrupted
from psvae_tune.files import is_disk_error
from psvae_tune.tracking.folders import StudyFolder


@contextmanager
def explain_interruption(folder: StudyFolder) -> Iterator[None]:
    """Turn any interruption of a study into one error that says how to go on.

    Parameters
    ----------
    folder
        Folder of the study. Ctrl-C is passed on if the study has not begun there.

    Raises
    ------
    StudyInterrupted
        If the study was stopped at once, or its folder can no longer be written.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        if not folder.study_file.exists():
            raise  # nothing has begun
        raise StudyInterrupted(
            f"study {folder.name}",
            "stopped at once: trials that were running go on from their last checkpoint",
            hint=f"psvae-tune resume {folder.root}",
        ) from error
    except OSError as error:
        if not is_disk_error(error):
            raise
        raise StudyInterrupted(
            f"study {folder.name}",
            f"cannot be kept: {error.strerror}; trials go on from their last checkpoint",
            hint=f"make room for {folder.root}, then psvae-tune resume {folder.root}",
        ) from error


@contextmanager
def sigterm_as_sigint() -> Iterator[None]:
    """Let SIGTERM stop a study as Ctrl-C does: batch systems and reboots send it.

    Side effects: changes the handler of SIGTERM until the context ends, in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's `command &`
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
