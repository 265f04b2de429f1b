"""Turn the published JSON files of a BehaveNet fit into a search-space file.

There is one file each for the model, the training, the computer and the data. They are JSON with
comments (``#`` or ``//`` to the end of a line). Their settings never share a name, so the files
may come in any order.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psvae_tune.config.json_text import parse_json
from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.config.session_list import FIELDS, FILE_NAME, read_sessions_csv
from psvae_tune.config.settings import setting_names
from psvae_tune.config.study import parse_study
from psvae_tune.config.training import TrainingConfig
from psvae_tune.config.trial import TrialConfig
from psvae_tune.errors import ConfigError

# Matches a string, which may hold a text like a comment, or a comment.
_STRING_OR_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*")|(?:#|//)[^\n]*')
_COMMA_BEFORE_END = re.compile(r'("(?:[^"\\\n]|\\.)*")|,(?=\s*[}\]])')

DATA_NAMES = ("trial_splits", "rng_seed_data")
"""Settings of the section ``data`` under the same names."""
ONLY_FILES = ("sessions_csv", *FIELDS)
"""Settings that name recordings."""
WITHOUT_MEANING = {
    "all_source": "sessions are listed one by one",
    "approx_batch_size": "a batch is a clip",
    "as_numpy": "batches are tensors",
    "batch_load": "recordings are read into memory once",
    "device": "a GPU is used where there is one",
    "export_latents": "latents are there for every model in MLflow",
    "export_train_plots": "training curves are there for every trial in MLflow",
    "frame_rate": "no model uses it",
    "gpus_viz": "see `resources.gpus_per_trial`",
    "mem_limit_gb": "batches are never cut into chunks",
    "n_input_channels": "follows from the recording",
    "n_labels": "follows from the recording",
    "n_parallel_gpus": "see `resources.gpus_per_trial`",
    "neural_bin_size": "no model uses it",
    "neural_type": "no model uses it",
    "pretrained_weights_path": "every fit starts from weights of its own",
    "ps_vae.gamma": "the two subspaces are orthogonal by construction",
    "tt_n_cpu_trials": "a grid holds all its trials",
    "tt_n_cpu_workers": "see `resources.max_concurrent_trials`",
    "tt_n_gpu_trials": "a grid holds all its trials",
    "use_label_mask": "label masks are used wherever the recording has them",
    "use_output_mask": "frame masks are used wherever the recording has them",
    "x_pixels": "follows from the recording",
    "y_pixels": "follows from the recording",
}
"""Settings that this project has no use for, each with the reason."""


@dataclass(frozen=True, slots=True)
class ImportedStudy:
    """Search space made of published settings."""

    raw: dict[str, Any]
    """Contents of a search-space file."""
    notes: tuple[str, ...]
    """Sentences, one for every setting that was left out or changed."""


def read_json_with_comments(path: Path) -> dict[str, Any]:
    """Return the settings of a published JSON file.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not JSON with comments, or holds no settings.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        bare = _STRING_OR_COMMENT.sub(lambda match: match[1] or "", text)
        content = parse_json(_COMMA_BEFORE_END.sub(lambda match: match[1] or "", bare))
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise ConfigError(
            str(path), f"is not JSON with comments: line {error.lineno}: {error.msg}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(str(path), f"is not JSON with comments: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(str(path), f"must hold settings, got {type(content).__name__}")
    return content


def import_settings(paths: Sequence[Path], data_folder: Path | None = None) -> ImportedStudy:
    """Turn the published settings files of a fit into a search space.

    Hyperparameters with lists of values become a grid, the product of all lists.

    Parameters
    ----------
    paths
        JSON files, in any order.
    data_folder
        Folder that holds ``lab/expt/animal/session/data.hdf5``; None for the working folder.

    Raises
    ------
    ConfigError
        If a file cannot be read, two files contradict each other, or the model is unknown.
    DataError
        If a sessions CSV cannot be used.
    """
    published, origin = _merge(paths)
    where = ", ".join(map(str, paths))
    name = published.get("model_class")
    if name not in MODEL_CONFIGS:
        raise ConfigError(
            where,
            f"model_class must be one of {', '.join(MODEL_CONFIGS)}, got {name!r}",
            hint="give the model file, ae_model.json, too",
        )
    notes: list[str] = []
    given = dict(_given(published, name, notes))
    sections: dict[str, dict[str, Any]] = {"model": {}, "training": {}}
    space = {}
    for key, value in given.items():
        if key in DATA_NAMES:
            continue
        section = TrialConfig.section_of(key)
        if isinstance(value, list):
            space[key] = {"grid_search": list(dict.fromkeys(value))}
            value = value[0]
        sections[section][key] = value
    architecture = sections["model"].get("ae_arch_json")
    if isinstance(architecture, str):
        sections["model"]["ae_arch_json"] = read_json_with_comments(
            origin["ae_arch_json"].parent / Path(architecture).expanduser()
        )
    data: dict[str, Any] = {"sessions": _sessions(published, origin, data_folder)}
    data |= {key: given[key] for key in DATA_NAMES if key in given}
    raw = {
        "experiment_name": _experiment_name(published, name),
        "data": data,
        **sections,
        "search": {
            "space": space
            or {"rng_seed_model": {"grid_search": [given.get("rng_seed_model", 0)]}},
            "objectives": _objectives(MODEL_CONFIGS[name].capabilities),
        },
    }
    # A study that cannot run is refused here, before a file is written.
    parse_study(raw, where)
    return ImportedStudy(raw, tuple(notes))


def _merge(paths: Sequence[Path]) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return the settings of all files, and the file of each."""
    merged: dict[str, Any] = {}
    origin: dict[str, Path] = {}
    problems = []
    for path in paths:
        for key, value in read_json_with_comments(path).items():
            if key in merged and merged[key] != value:
                there, here = (
                    f"{item!r} in {file.name}"
                    for item, file in ((merged[key], origin[key]), (value, path))
                )
                problems.append(f"`{key}` is {there}, got {here}")
            merged[key], origin[key] = value, path
    if problems:
        raise ConfigError(", ".join(map(str, paths)), problems, "give the files of one fit only")
    return merged, origin


def _given(
    published: Mapping[str, Any], model_class: str, notes: list[str]
) -> Iterator[tuple[str, Any]]:
    """Yield the settings that this project has, too. Side effects: adds a note for each other."""
    known = {*setting_names(MODEL_CONFIGS[model_class]), *setting_names(TrainingConfig)}
    elsewhere = {name for config in MODEL_CONFIGS.values() for name in setting_names(config)}
    for key, value in published.items():
        if key in (*ONLY_FILES, "experiment_name"):
            continue
        if key in WITHOUT_MEANING:
            notes.append(f"`{key}` is left out: {WITHOUT_MEANING[key]}")
        elif key in (known | set(DATA_NAMES)) and value is None:
            if key != "ae_arch_json":
                notes.append(f"`{key}` is null: the default of this project is used")
        elif key == "n_sessions_per_batch" and key in known and value == 1:
            notes.append(f"`{key}` is left out: the triplet loss needs 2 or more, got 1")
        elif key in known or key in DATA_NAMES:
            yield key, value
        elif key in elsewhere:
            notes.append(f"`{key}` is left out: `{model_class}` has no such setting")
        else:
            notes.append(f"`{key}` is left out: not known, got {value!r}")


def _sessions(
    published: Mapping[str, Any], origin: Mapping[str, Path], data_folder: Path | None
) -> list[str]:
    """Return the paths of the recordings that the data file names."""
    root = (data_folder or Path()).resolve()
    if listed := published.get("sessions_csv"):
        folder = origin["sessions_csv"].parent
        return read_sessions_csv((folder / Path(listed).expanduser()).resolve(), root)
    fields = [published.get(name) for name in FIELDS]
    if not all(isinstance(value, str) and value for value in fields):
        raise ConfigError(
            "data file",
            f"must name {', '.join(FIELDS)} or a sessions_csv, got {fields}",
            hint="give the data JSON too",
        )
    # "all" stands for every folder at its place, as in the reference implementation.
    pattern = "/".join("*" if value == "all" else str(value) for value in fields)
    if "all" not in fields:
        return [str(root / pattern / FILE_NAME)]
    found = sorted(str(path) for path in root.glob(f"{pattern}/{FILE_NAME}"))
    if not found:
        raise ConfigError("data file", f"no {FILE_NAME} below {root}/{pattern}", "use --data-dir")
    return found


def _experiment_name(published: Mapping[str, Any], model_class: str) -> str:
    name = published.get("experiment_name")
    return (
        re.sub(r"[^A-Za-z0-9_. -]", "-", name) if isinstance(name, str) and name else model_class
    )


def _objectives(capabilities: frozenset[str]) -> dict[str, str]:
    """Return the objectives: the error of the frames, and R2 of labels that are predicted."""
    return {"val/frame_mse": "min"} | (
        {"val/label_r2": "max"} if "labels_hat" in capabilities else {}
    )
