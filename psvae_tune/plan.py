"""What a study would do: its settings and its recordings, checked together before any of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psvae_tune.data.demo import demo_path
from psvae_tune.data.header import read_header
from psvae_tune.data.splits import split_clips
from psvae_tune.data.types import SessionHeader
from psvae_tune.errors import ConfigError, DataError
from psvae_tune.search_space import Study, parse_study


@dataclass(frozen=True, slots=True)
class Plan:
    """A study that can be started."""

    raw: dict[str, Any]
    """The search-space file after the changes of the command line."""
    study: Study
    headers: tuple[SessionHeader, ...]

    def count_split_frames(self) -> dict[str, int]:
        """Return how many frames of all sessions are in each split."""
        data = self.study.base.data
        counts = dict.fromkeys(("train", "val", "test"), 0)
        for header in self.headers:
            splits = split_clips(header.n_clips, data.trial_splits, data.rng_seed_data)
            for name in counts:
                clips = splits[name]  # type: ignore[index]
                counts[name] += sum(header.clip_lengths[clip] for clip in clips)
        return counts


def make_plan(raw: Mapping[str, Any], where: str) -> Plan:
    """Check a study and the headers of its recordings.

    Parameters
    ----------
    raw
        What `read_study_file` returned.
    where
        The file, to be named in an error.

    Raises
    ------
    ConfigError
        With every problem of the file.
    DataError
        If a recording cannot be used, or the recordings do not go together.
    """
    # Once without the recordings, so that a mistake in the file is told even if they are missing.
    study = parse_study(raw, where)
    needs_labels = study.base.model.needs_labels
    headers = tuple(
        read_header(session_path(name), needs_labels=needs_labels)
        for name in study.base.data.sessions
    )
    _check_together(headers)
    study = parse_study(raw, where, headers[0].n_labels)
    if study.base.model.needs_sessions and len(headers) < 2:
        raise ConfigError(
            where,
            f"data.sessions: `{study.base.model.model_class}` needs at least 2 sessions, got 1",
        )
    plan = Plan(dict(raw), study, headers)
    plan.count_split_frames()
    return plan


def session_path(name: str) -> Path:
    """Return the file of a session; ``demo`` is generated once."""
    return demo_path() if name == "demo" else Path(name)


def _check_together(headers: Sequence[SessionHeader]) -> None:
    first = headers[0]
    problems = []
    for header in headers[1:]:
        if header.frame_shape != first.frame_shape:
            problems.append(
                f"frames must be {first.frame_shape} (channel, height, width) as in "
                f"{first.path}, got {header.frame_shape} in {header.path}"
            )
        if header.label_names != first.label_names:
            problems.append(
                f"labels must be those of {first.path}, got {', '.join(header.label_names)} "
                f"in {header.path}"
            )
    if problems:
        raise DataError("data.sessions", problems)
