"""The recordings of a study are read, each into memory unless it is too large."""

from collections.abc import Callable, Sequence

from psvae_tune.cluster.nodes import Nodes
from psvae_tune.data.memory_limits import room_for_recordings
from psvae_tune.data.session import Session
from psvae_tune.data.session_file import read_session
from psvae_tune.study.plan import StudyPlan

STORE_SHARE = 0.8
"""Share of a node's object store that recordings may fill; trials need the rest."""

OnFrames = Callable[[int], None]
"""Takes the number of frames of all recordings that have been read."""


def choose_streamed(plan: StudyPlan, nodes: Nodes | None = None) -> tuple[str, ...]:
    """Return the recordings that are too large for memory.

    Their clips are read from their files whenever they are needed.

    Parameters
    ----------
    plan
        The study.
    nodes
        Nodes of the cluster that this process has joined, which also need room for recordings.

    Returns
    -------
    tuple of str
        Paths of these recordings.
    """
    room = room_for_recordings()
    if nodes is not None:
        room = min(room, int(STORE_SHARE * nodes.store_bytes()))
    streamed = []
    for header in plan.headers:
        n_bytes = header.n_frames * header.frame_bytes
        if n_bytes > room:
            streamed.append(header.path)
        else:
            room -= n_bytes
    return tuple(streamed)


def read_sessions(
    plan: StudyPlan, streamed: Sequence[str], on_frames: OnFrames | None = None
) -> list[Session]:
    """Read the recordings of a study, and check their contents.

    Parameters
    ----------
    plan
        The study.
    streamed
        Paths of the recordings whose frames stay in their files.
    on_frames
        Called with the number of frames that have been read.

    Raises
    ------
    DataError
        If a recording cannot be used.
    """
    sessions: list[Session] = []
    needs_labels = plan.study.base.model.needs_labels
    for header in plan.headers:
        n_before = sum(session.header.n_frames for session in sessions)
        progress = None if on_frames is None else lambda n, first=n_before: on_frames(first + n)
        sessions.append(
            read_session(
                header.path,
                needs_labels=needs_labels,
                progress=progress,
                in_memory=header.path not in streamed,
            )
        )
    return sessions
