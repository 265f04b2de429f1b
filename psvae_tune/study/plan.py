"""The plan of a study: its settings and the headers of its recordings, checked together."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psvae_tune.config.hidden_labels import HIDDEN, list_parts, resolve_hidden_labels
from psvae_tune.config.metric_check import recording_problem
from psvae_tune.config.stage_settings import PossibleSettings, possible_settings
from psvae_tune.config.study import Study, parse_study, parse_unread_study, resolve_counts
from psvae_tune.config.wording import and_list, pluralise
from psvae_tune.data.demo import session_path
from psvae_tune.data.session import SessionHeader
from psvae_tune.data.session_header import read_header
from psvae_tune.data.splits import split_clips
from psvae_tune.errors import ConfigError, DataError
from psvae_tune.models.layers.architecture import plan_network


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """A study that can be started."""

    contents: dict[str, Any]
    """Contents of the search-space file, with the number that each ``n_labels + k`` stands for."""
    study: Study
    """The study that ``contents`` describe."""
    headers: tuple[SessionHeader, ...]
    """Headers of the recordings."""

    def count_split_frames(self) -> dict[str, int]:
        """Return the number of frames of all recordings in each split."""
        data = self.study.base.data
        counts = dict.fromkeys(("train", "val", "test"), 0)
        for header in self.headers:
            splits = split_clips(header.n_clips, data.trial_splits, data.rng_seed_data)
            for name in counts:
                clips = splits[name]  # type: ignore[index]
                counts[name] += sum(header.clip_lengths[clip] for clip in clips)
        return counts


def make_plan(raw: Mapping[str, Any], where: str) -> StudyPlan:
    """Check a study and the headers of its recordings.

    Parameters
    ----------
    raw
        Contents of the search-space file, from `read_study_file`.
    where
        Name of the file in an error.

    Raises
    ------
    ConfigError
        If the file is not valid, or asks for what the recordings do not have; the message names
        every problem.
    DataError
        If a recording cannot be used, or the recordings do not go together.
    """
    headers = _read_headers(raw, where)
    named = resolve_hidden_labels(raw, headers[0].label_names)
    contents = resolve_counts(named, headers[0].n_labels)
    study = parse_study(contents, where, headers[0].n_labels)
    if problems := list(dict.fromkeys(_recording_problems(study, headers))):
        raise ConfigError(where, problems)
    plan = StudyPlan(contents, study, headers)
    plan.count_split_frames()  # raises an error if a recording has too few clips
    return plan


def _read_headers(raw: Mapping[str, Any], where: str) -> tuple[SessionHeader, ...]:
    """Read the headers of a study's recordings.

    The file is checked first, as far as it can be without them, so that a mistake in the file is
    told even if a recording is missing.
    """
    base = parse_unread_study(raw, where).base
    headers = tuple(
        read_header(session_path(name), needs_labels=base.model.needs_labels)
        for name in base.data.sessions
    )
    if problems := list(find_differences(headers)):
        raise DataError("data.sessions", problems)
    return headers


def find_differences(headers: Sequence[SessionHeader]) -> Iterator[str]:
    """Yield the reasons why recordings do not go together into one study.

    Each recording may be listed once. All must have frames of the same shape, and the same
    labels.
    """
    first = headers[0]
    paths = [header.path for header in headers]
    for path in dict.fromkeys(paths):
        if paths.count(path) > 1:
            yield f"every recording may be listed once, got {path} {paths.count(path)} times"
    for header in headers[1:]:
        if header.frame_shape != first.frame_shape:
            yield (
                f"frames must be {first.frame_shape} (channel, height, width) as in "
                f"{first.path}, got {header.frame_shape} in {header.path}"
            )
        if header.label_names != first.label_names:
            yield (
                f"labels must be those of {first.path} ({_name_labels(first)}), "
                f"got {_name_labels(header)} in {header.path}"
            )


def _name_labels(header: SessionHeader) -> str:
    return ", ".join(header.label_names) or "none"


def _recording_problems(study: Study, headers: Sequence[SessionHeader]) -> Iterator[str]:
    """Yield what a study asks of its recordings and they do not have."""
    model, first = study.base.model, headers[0]
    n_sessions = len(headers)
    if model.needs_sessions and n_sessions < 2:
        yield f"data.sessions: `{model.model_class}` needs at least 2 sessions, got {n_sessions}"
    for where, count in _values_of(study, "n_sessions_per_batch"):
        if count is not None and count > max(n_sessions, 2):
            yield f"{where}: must be at most the {n_sessions} sessions, got {count}"
    if any(value for _, value in _values_of(study, "conditional_encoder")):
        if first.n_labels % 2:
            yield (
                "model.conditional_encoder: needs an x and a y of every point, "
                f"got an odd number of labels ({first.n_labels}) in {first.path}"
            )
        for header in headers:
            if not header.has_labels_sc:
                yield f"model.conditional_encoder: needs `labels_sc`, got none in {header.path}"
    yield from _hidden_problems(study, first)
    yield from _architecture_problems(study, first)
    yield from _metric_problems(study, first, n_sessions)


def _count_hidden(settings: PossibleSettings) -> tuple[int, int]:
    """Return the smallest and the largest number of labels that are hidden from a trial."""
    counts = [len(json.loads(names)) for names in settings[HIDDEN]]
    return min(counts), max(counts)


def _hidden_problems(study: Study, first: SessionHeader) -> Iterator[str]:
    """Yield why labels cannot be hidden from a model."""
    model = study.base.model
    possible = possible_settings(study.stages, study.base)
    for stage, settings in zip(study.stages, possible, strict=True):
        _, most = _count_hidden(settings)
        n_seen = first.n_labels - most
        if not most:
            continue
        place = f"search.stages.{stage.name}.{HIDDEN}"
        if model.needs_labels and not n_seen:
            yield f"{place}: hides all labels, and `{model.model_class}` needs some, got {most}"
        if any(value for _, value in _values_of(study, "conditional_encoder")):
            yield from _split_points(settings, first.label_names, place)
        n_others = model.count_supervised(n_seen) + model.count_background()
        if min(settings["n_ae_latents"]) <= n_others:
            yield (
                f"{place}: needs an unsupervised latent that could find the hidden labels, got "
                f"n_ae_latents {min(settings['n_ae_latents'])} for {n_seen} labels that are seen"
            )


def _split_points(
    settings: PossibleSettings, label_names: Sequence[str], place: str
) -> Iterator[str]:
    """Yield the points of which one coordinate alone is hidden from a conditional encoder."""
    for names in map(set, map(json.loads, settings[HIDDEN])):
        for part in list_parts(label_names):
            if len(names & set(part)) not in (0, len(part)):
                yield (
                    f"{place}: a conditional encoder needs an x and a y of every point, got "
                    f"{and_list(sorted(names & set(part)))} alone"
                )


def _metric_problems(study: Study, first: SessionHeader, n_sessions: int) -> Iterator[str]:
    """Yield metrics that something is chosen by and that these recordings cannot give."""
    model, best_epoch = study.base.model, study.base.training.best_epoch_metric
    possible = possible_settings(study.stages, study.base)
    for stage, settings in zip(study.stages, possible, strict=True):
        place = f"search.stages.{stage.name}"
        background = settings.get("n_background", (0,))
        fewest_hidden, most_hidden = _count_hidden(settings)
        n_seen = first.n_labels - fewest_hidden
        n_supervised = model.count_supervised(n_seen)
        fewest = min(settings["n_ae_latents"]) - n_supervised - max(background)
        n_supervised = model.count_supervised(first.n_labels - most_hidden)
        most = max(settings["n_ae_latents"]) - n_supervised - min(background)
        for key in dict.fromkeys([*stage.objectives, *stage.select.metrics]):
            counts = (n_sessions, n_seen, most, fewest_hidden)
            if problem := recording_problem(key, model, *counts):
                yield f"{place}: {problem}"
        # Every trial has a best epoch, but a trial without what the rule reads is set aside.
        if problem := recording_problem(best_epoch, model, n_sessions, n_seen, fewest):
            yield f"training.best_epoch_metric: {problem}"
        active = stage.select.require.get("val/active_units")
        if active and active.limit != "all" and active.shortfall(most, active.limit) > 0:
            yield (
                f"{place}.select: require: no trial has more than "
                f"{pluralise(most, 'unsupervised latent')}, got `val/active_units` '{active}'"
            )


def _values_of(study: Study, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every value that a setting of the model may take, each after its place in the file."""
    yield f"model.{name}", getattr(study.base.model, name, None)
    for stage in study.stages:
        if name in stage.space:
            for value in stage.space[name].extremes:
                yield f"search.stages.{stage.name}.space.{name}", value


def _architecture_problems(study: Study, header: SessionHeader) -> Iterator[str]:
    """Yield the reasons why the layers do not fit together, or not to the frames."""
    model = study.base.model
    if model.model_type != "conv":
        return
    n_seen = header.n_labels - len(study.base.data.hidden_labels)
    n_planes = n_seen // 2 if model.conditional_encoder else 0
    try:
        network = plan_network(model.ae_arch_json, header.n_channels, n_planes)
        n_latents = max(count for _, count in _values_of(study, "n_ae_latents"))
        network.check((header.height, header.width), n_latents)
    except ConfigError as error:
        for problem in error.problems:
            yield f"{error.where}: {problem}"
