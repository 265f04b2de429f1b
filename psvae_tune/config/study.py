"""Parse the contents of a search-space file into a study.

All problems of a file are reported together, each with its place. Nothing here opens a recording
or imports Ray or torch.
"""

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from psvae_tune.config.hidden_labels import HIDDEN, resolve_hidden_labels
from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.config.settings import Settings, parse_settings, setting_names
from psvae_tune.config.stage import Stage
from psvae_tune.config.stage_check import check_latents, check_pairs, check_repeats, check_stage
from psvae_tune.config.stage_settings import possible_settings
from psvae_tune.config.trial import TrialConfig, parse_trial_config
from psvae_tune.errors import ConfigError, nearest
from psvae_tune.redaction import holds_password


class Resources(Settings):
    """CPUs and GPUs of each trial, and the number of trials that run at a time."""

    cpus_per_trial: Annotated[float, Field(gt=0)] = 1
    """Number of CPUs that Ray reserves for a trial."""
    gpus_per_trial: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Share of a GPU that Ray reserves for a trial; ``auto`` measures how many trials fit."""
    max_concurrent_trials: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Largest number of trials at a time; ``auto`` for as many as the machines have room for."""


class Tracking(Settings):
    """MLflow store of the runs, and the format of their movies."""

    uri: str | None = None
    """Tracking URI of MLflow; None for an SQLite file and a folder beside the study."""
    movies: Literal["mp4", "gif", "none"] = "mp4"
    """Format of the movies that each trial leaves."""

    @field_validator("uri")
    @classmethod
    def _holds_no_password(cls, uri: str | None) -> str | None:
        if uri is not None and holds_password(uri):
            raise ValueError(
                "holds a password, and the file is kept and shown; give it as MLFLOW_TRACKING_URI"
            )
        return uri


class Study(Settings):
    """All settings of one search-space file."""

    experiment_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_. -]+$", min_length=1)]
    """Name of the experiment in MLflow."""
    base: TrialConfig
    """Settings of a trial that the first stage starts from."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    """Stages in their order; each starts from the choice of the one before."""
    resources: Resources
    """CPUs and GPUs of each trial."""
    tracking: Tracking
    """MLflow store of the runs."""


SECTIONS = (
    "experiment_name",
    "data",
    "model",
    "training",
    "search",
    "resources",
    "tracking",
)
"""Sections of a search-space file."""


def parse_study(raw: Mapping[str, Any], where: str, n_labels: int | None = None) -> Study:
    """Validate the contents of a search-space file.

    Parameters
    ----------
    raw
        Contents of the file.
    where
        Name of the file in an error.
    n_labels
        Number of labels of the recordings. With None, which is for recordings that are not read
        yet, ``n_labels`` in the file counts as 0.

    Raises
    ------
    ConfigError
        If the contents are invalid; the message names every problem.
    """
    problems = [
        f"{name}: not a known section"
        + (f"; did you mean `{near}`?" if (near := nearest(str(name), SECTIONS)) else "")
        for name in raw
        if name not in SECTIONS
    ]
    stages = _parse_stages(resolve_counts(raw.get("search"), n_labels), problems)
    sections = {name: raw.get(name) or {} for name in ("model", "training", "data")}
    sections["model"] = resolve_counts(sections["model"], n_labels)
    base = None
    try:
        base = parse_trial_config(_with_first_values(sections, stages), where)
    except ConfigError as error:
        # Whether an invalid stage would give a setting is not known, so that it is not missed.
        named = _names_in(raw.get("search")) if problems else set()
        missed = {f"model.{name}: is required" for name in named}
        problems += [problem for problem in error.problems if problem not in missed]
    resources = parse_settings(Resources, raw.get("resources") or {}, "resources", problems)
    tracking = parse_settings(Tracking, raw.get("tracking") or {}, "tracking", problems)
    if base is not None:
        problems += check_pairs(stages, base)
        possible = possible_settings([stage for stage, _ in stages], base)
        for (stage, place), settings in zip(stages, possible, strict=True):
            problems += check_stage(stage, place, base, settings)
            if n_labels is not None:
                problems += check_repeats(stage, place, base)
                problems += check_latents(stage, place, base, settings, n_labels)
    study = None
    if not problems:
        fields = {
            "experiment_name": raw.get("experiment_name"),
            "base": base,
            "stages": [stage for stage, _ in stages],
            "resources": resources,
            "tracking": tracking,
        }
        study = parse_settings(Study, fields, "", problems)
    if study is None:
        raise ConfigError(where, problems)
    return study


def parse_unread_study(raw: Mapping[str, Any], where: str) -> Study:
    """Validate the contents of a search-space file whose recordings are not read yet.

    The parameters and the errors are those of `parse_study`.
    """
    return parse_study(resolve_hidden_labels(raw, None), where)


def read_stages(contents: Mapping[str, Any]) -> tuple[Stage, ...]:
    """Return the stages of a study that has begun, from the contents of its file.

    They were checked with their model when it began, and are not checked so again, because an
    earlier version may have taken what this one refuses. Settings that no longer exist are left
    out.
    """
    search = resolve_counts(contents["search"], None)
    return tuple(
        Stage.model_validate({k: value for k, value in raw.items() if k in Stage.model_fields})
        for raw in search.get("stages", [search])
    )


def _parse_stages(raw: Any, problems: list[str]) -> list[tuple[Stage, str]]:
    """Return the valid stages, each with its place in the file. Side effects: adds problems."""
    if not isinstance(raw, Mapping) or not raw:
        problems.append(f"search: must be a stage or `stages`, a list of stages, got {raw!r}")
        return []
    if "stages" not in raw:
        placed = [("search", raw)]
    elif list(raw) != ["stages"] or not isinstance(raw["stages"], list) or not raw["stages"]:
        problems.append("search: must be one stage, or `stages` alone with a list of stages")
        return []
    else:
        placed = [
            (f"search.stages.{item.get('name', i) if isinstance(item, dict) else i}", item)
            for i, item in enumerate(raw["stages"])
        ]
    stages = [
        (stage, place)
        for place, item in placed
        if (stage := parse_settings(Stage, item, place, problems)) is not None
    ]
    first = placed[0][1]
    if isinstance(first, Mapping) and first.get("start_from") is not None:
        problems.append(
            f"{placed[0][0]}.start_from: there is no stage before, whose choice it could go on "
            f"from, got {first['start_from']!r}"
        )
    for (before, _), (stage, place) in itertools.pairwise(stages):
        if stage.start_from is not None and HIDDEN in before.space:
            problems.append(
                f"{place}.start_from: no trial can go on from those of `{before.name}`, which do "
                f"not see all labels, got {stage.start_from!r}"
            )
    names = [stage.name for stage, _ in stages]
    problems += [
        f"search.stages: names must differ, got `{name}` {names.count(name)} times"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    return stages


def _names_in(raw: Any) -> set[str]:
    """Return the names of all settings in a part of a file."""
    if isinstance(raw, Mapping):
        return set(map(str, raw)).union(*map(_names_in, raw.values()))
    return set().union(*map(_names_in, raw)) if isinstance(raw, list) else set()


def _with_first_values(
    sections: dict[str, Any], stages: list[tuple[Stage, str]]
) -> dict[str, Any]:
    """Fill in hyperparameters that only a space gives, with the first value there."""
    model = dict(sections["model"]) if isinstance(sections["model"], Mapping) else {}
    known = MODEL_CONFIGS.get(str(model.get("model_class")))
    for stage, _ in stages:
        for name, domain in stage.space.items():
            if known and name in setting_names(known):
                model.setdefault(name, domain.extremes[0])
    return {**sections, "model": model or sections["model"]}


def resolve_counts(raw: Any, n_labels: int | None) -> Any:
    """Replace ``n_labels + k`` by the number that it stands for, anywhere in a part of a file.

    Parameters
    ----------
    raw
        Part of the contents of a search-space file.
    n_labels
        Number of labels; None counts as 0.
    """
    if isinstance(raw, Mapping):
        return {name: resolve_counts(value, n_labels) for name, value in raw.items()}
    if isinstance(raw, list):
        return [resolve_counts(value, n_labels) for value in raw]
    if isinstance(raw, str):
        left, plus, right = (part.strip() for part in raw.partition("+"))
        if left == "n_labels" and plus and right.isdecimal():
            return (n_labels or 0) + int(right)
    return raw
