"""A study is written to a storage of Optuna, for ``optuna-dashboard`` and its plots.

A study of Optuna has one set of objectives, and stages differ in theirs: each stage becomes a
study of its own, called ``STUDY/STAGE``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from psvae_tune.config.stage import Stage
from psvae_tune.errors import StorageError, StudyError
from psvae_tune.results.logged_study import LoggedStudy
from psvae_tune.results.optuna_storage import (
    Writer,
    check_names_are_free,
    open_storage,
    reporting,
)
from psvae_tune.results.optuna_trial import (
    find_distribution,
    find_outcome,
    holds,
    to_category,
    to_outcome,
)
from psvae_tune.results.report_data import explain_choice, make_study_figures, trial_rows
from psvae_tune.results.trial_record import TrialRecord
from psvae_tune.tracking.trial_result import N_UNSUPERVISED

PICTURES = ("traversals", "reconstructions", "labels", "curves")
"""Figures of a trial, the most telling first."""


def write_to_optuna(study: LoggedStudy, url: str, folder: Path | None = None) -> Path:
    """Write every stage of a study to a storage of Optuna, all or none.

    Parameters
    ----------
    study
        Study, which may still run.
    url
        Storage of Optuna: the URL of a database, which is made if it is an absent SQLite file.
    folder
        Folder for the pictures; by default ``FILE.artifacts`` beside an SQLite ``FILE.db``, and
        ``STUDY.artifacts`` here for another database.

    Returns
    -------
    Path
        The folder of the pictures.

    Raises
    ------
    StorageError
        If the storage or the folder cannot be used, or the storage holds such a study already.
    StudyError
        If the study does not tell its stages.
    TrackingError
        If the tracking store cannot be read.
    """
    if not study.stages:
        raise StudyError(f"study {study.name!r}", "holds no `study.yaml`, which names its stages")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = [f"{study.name}/{stage.name}" for stage in study.stages]
    with open_storage(url, study.name, folder) as (storage, pictures):
        with reporting(url):
            check_names_are_free(storage, url, names)
        contents = [_read_stage(study, stage) for stage in study.stages]
        figures = dict(make_study_figures(study)) if study.finished else {}
        with reporting(url), _reporting_folder(pictures), Writer(storage, pictures) as writer:
            for stage, name, trials in zip(study.stages, names, contents, strict=True):
                made = writer.make_study(name, stage.objectives, _study_attributes(study, stage))
                writer.add_pictures(made, figures)
                for record, trial in trials:
                    trial.system_attrs |= writer.keep(_trial_pictures(study, record))
                    made.add_trial(trial)
    return pictures


@contextmanager
def _reporting_folder(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(str(folder), f"cannot be written: {error.strerror}") from error


def _study_attributes(study: LoggedStudy, stage: Stage) -> dict[str, Any]:
    choice = study.selection.get(stage.name, {})
    return {
        "stage": stage.name,
        "chosen": choice.get("name"),
        "reasons": choice.get("reasons"),
        "recommendation": explain_choice(study)[0],
        "mlflow_run": study.run_id,
    }


def _read_stage(study: LoggedStudy, stage: Stage) -> list[tuple[TrialRecord, FrozenTrial]]:
    """Return the trials that a stage compares, each with its form in Optuna."""
    records = _stage_trials(study, stage)
    rows = {row["run_id"]: row for row in trial_rows(study)}
    distributions = {
        name: find_distribution(domain, [r.params[name] for r in records if name in r.params])
        for name, domain in stage.space.items()
    }
    return [
        (record, _to_trial(study, stage, record, distributions, rows[record.run_id]))
        for record in records
    ]


def _stage_trials(study: LoggedStudy, stage: Stage) -> list[TrialRecord]:
    """Return the trials of a stage, and those of other stages that it had no need to repeat.

    The latter have the settings of its own trials apart from what it varies. A stage that goes on
    from the choice of the one before compares that one, too.
    """
    own = [trial for trial in study.trials if trial.stage == stage.name]
    earlier = study.stages[: study.stages.index(stage)]
    if not (own and earlier):
        return own
    before = study.selection.get(earlier[-1].name, {})
    fixed = {
        name: value
        for name, value in own[0].params.items()
        if name not in stage.space and all(trial.params.get(name) == value for trial in own)
    }

    def is_known(trial: TrialRecord) -> bool:
        if not trial.is_finished:
            return False
        if not all(holds(domain, trial.params.get(name)) for name, domain in stage.space.items()):
            return False
        if stage.start_from is not None:
            return trial.trial_id == before.get("trial_id")
        return not trial.path and fixed.items() <= trial.params.items()

    return [trial for trial in study.trials if trial in own or is_known(trial)]


def _to_trial(
    study: LoggedStudy,
    stage: Stage,
    record: TrialRecord,
    distributions: Mapping[str, BaseDistribution],
    row: Mapping[str, Any],
) -> FrozenTrial:
    params = {name: record.params[name] for name in distributions if name in record.params}
    attributes = {
        "name": row["name"],
        "state": record.state,
        "is_chosen": record.is_selected,
        "trial_id": record.trial_id,
        "mlflow_run": record.run_id,
        "stage": record.stage,
        "seed": record.params.get("rng_seed_model"),
        **row["metrics"],
    }
    ended = find_outcome(record)
    found: dict[str, Any] = {"state": TrialState.RUNNING}
    if ended is not None:
        n_unsupervised = record.params.get(N_UNSUPERVISED, 0)
        found = to_outcome(stage, ended, record.result().metrics, n_unsupervised)
    # As a list, Optuna and its dashboard both read them; with names only Optuna does.
    if constraints := found.pop("constraints", {}):
        found["system_attrs"] = {"constraints": list(constraints.values())}
        attributes["shortfalls"] = constraints
    if len(stage.objectives) == 1:
        # Optuna knows such values of one objective alone; the curves are among the pictures.
        (key,) = stage.objectives
        curve = study.history(record, key)
        found["intermediate_values"] = {epoch: value for _, epoch, value in curve}
    trial = create_trial(
        params={name: to_category(value) for name, value in params.items()},
        distributions={name: distributions[name] for name in params},
        user_attrs={key: value for key, value in attributes.items() if value is not None},
        **found,
    )
    trial.datetime_start = datetime.fromtimestamp(record.start_ms / 1000)
    if ended is not None and record.end_ms is not None:
        trial.datetime_complete = datetime.fromtimestamp(record.end_ms / 1000)
    return trial


def _trial_pictures(study: LoggedStudy, record: TrialRecord) -> dict[str, bytes]:
    contents = {
        f"{name}.png": study.read_artifact(record.run_id, f"figures/{name}.png")
        for name in PICTURES
    }
    return {name: content for name, content in contents.items() if content is not None}
