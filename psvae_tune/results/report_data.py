"""The figures, tables and sentences that a report shows of a study."""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from psvae_tune.config.wording import and_list
from psvae_tune.metrics.sampling_error import error_key
from psvae_tune.results.baseline_report import describe_baselines, list_warnings, name_baselines
from psvae_tune.results.figures.images import COMPARISON, Pixels
from psvae_tune.results.figures.parameter_figures import (
    draw_importance,
    draw_panels,
    draw_parallel,
)
from psvae_tune.results.figures.study_figures import draw_front, draw_progress
from psvae_tune.results.figures.style import to_png
from psvae_tune.results.logged_study import LoggedStudy, without_seed
from psvae_tune.results.study_measures import measure_importance, measure_progress
from psvae_tune.results.trial_record import TrialRecord


@dataclass(frozen=True, slots=True)
class Comparison:
    """The traversals of one trial around the base frames that all trials of a study share."""

    names: tuple[str, ...]
    n_supervised: int
    strips: tuple[Pixels, ...]
    """A picture a base frame, as `encode_strip` makes them."""
    words: tuple[str, ...]
    """What each latent moves with; empty where nothing is said."""
    n_values: int
    """Number of values of a latent, each a column of a strip."""


def read_comparison(study: LoggedStudy, trial: TrialRecord) -> Comparison | None:
    """Return the traversals of a trial around the shared base frames; None if it has none."""
    raw = study.read_artifact(trial.run_id, f"{COMPARISON}/traversals.json")
    if raw is None:
        return None
    description = json.loads(raw)
    strips = []
    for base in range(description["n_bases"]):
        content = study.read_artifact(trial.run_id, f"{COMPARISON}/strip_{base}.png")
        if content is not None:
            strips.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    if not strips:
        return None
    words = study.read_artifact(trial.run_id, f"{COMPARISON}/words.json")
    return Comparison(
        tuple(description["names"]),
        description["n_supervised"],
        tuple(strips),
        tuple(json.loads(words)) if words else ("",) * len(description["names"]),
        len(description["values"][0]),
    )


def session_table(study: LoggedStudy) -> list[dict[str, Any]]:
    """Return how far each block of latents of the chosen trial knows the sessions."""
    chosen = study.chosen
    raw = chosen and study.read_artifact(chosen.run_id, f"{COMPARISON}/sessions.json")
    return list(json.loads(raw)) if raw else []


def explain_choice(study: LoggedStudy) -> tuple[str, list[str]]:
    """Return the recommendation as a sentence, and its reasons."""
    chosen = study.chosen
    if chosen is None and (choice := study.choice) is not None:
        return f"The run of the chosen trial, {choice['name']}, was deleted.", []
    if chosen is None:
        return "Nothing is recommended yet: the study has not come to its end.", []
    settings = ", ".join(
        f"{name} = {chosen.params[name]:g}"
        if isinstance(chosen.params[name], float)
        else f"{name} = {chosen.params[name]}"
        for name in study.varied
        if name in chosen.params
    )
    scores = format_scores(study, chosen)
    sentence = f"Take {settings or chosen.name} ({scores} on the validation split)"
    if warnings := list_warnings(study, chosen):
        sentence += f", but {and_list(warnings)}"
    sentence += "."
    beside = list(describe_baselines(study, chosen))
    if (last := study.override) is not None:
        reason = (
            f"Chosen by {last['by']} on {last['time']}: {last['reason'] or 'no reason given'}."
        )
        first = study.choices[0]
        rule = [f"The rule had chosen {first['name']}."] if first["by"] == "rule" else []
        return sentence, [*beside, reason, *rule, *_rule_reasons(study)]
    return sentence, [*beside, *_rule_reasons(study)]


def format_scores(study: LoggedStudy, trial: TrialRecord) -> str:
    """Return the metrics of the front that a trial has, each with its sampling error."""
    keys = [f"best/{name}" for name in study.front_metrics]
    return ", ".join(
        f"{key.removeprefix('best/')} "
        f"{format_value(trial.metrics[key], trial.metrics.get(error_key(key)))}"
        for key in keys
        if key in trial.metrics
    )


def format_value(value: float, error: float | None) -> str:
    """Return a metric with its sampling error, if it has one."""
    return f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.2g}"


def _rule_reasons(study: LoggedStudy) -> list[str]:
    final = [*study.selection.values()][-1:]
    return [str(reason) for item in final for reason in item["reasons"]]


def make_study_figures(study: LoggedStudy) -> Iterator[tuple[str, bytes]]:
    """Yield the file name and the PNG of every figure that the study has enough trials for."""
    metrics = study.front_metrics
    keys = [f"best/{name}" for name in metrics]
    trials, front = study.finished, study.front()
    # Latents that have collapsed have no measure of their dependence.
    whole = [trial for trial in trials if all(key in trial.metrics for key in keys)]
    for name in without_seed(study.varied):
        panels = draw_panels(trials, name, study.varied)
        if panels is not None:
            yield f"panels_{name.replace('.', '_')}.png", to_png(panels)
    if len(metrics) == 2:
        labels = {trial.run_id: study.label(trial) for trial in whole}
        pair, reasons = (metrics[0], metrics[1]), explain_choice(study)[1]
        lines, meaning = name_baselines(study), study.front_meaning
        figure = draw_front(whole, front, pair, labels, reasons, meaning, lines)
        yield "front.png", to_png(figure)
    if len(whole) > 1 and study.varied and keys:
        parallel = draw_parallel(whole, front, [*study.varied, *keys])
        yield "parallel_coordinates.png", to_png(parallel)
        importance = measure_importance(whole, study.varied, keys)
        if importance:
            yield "importance.png", to_png(draw_importance(importance))
    epochs, points = measure_progress(study, keys) if keys else ([], np.empty(0))
    if len(epochs) > 1:
        yield "progress.png", to_png(draw_progress(epochs, points, metrics))


def trial_rows(study: LoggedStudy) -> list[dict[str, Any]]:
    """Return the settings and metrics of trials as the table shows them, a dict a trial."""
    front = {trial.run_id for trial in study.front()}
    keys = [
        key
        for key in ("best/frame_mse", "best/label_r2", "best/latent_correlation", "best/hsic",
                    "best/leak_r2", "best/active_units", "best/session_accuracy_u",
                    "best/epoch", "test/frame_mse", "test/label_r2")
        if any(key in trial.metrics for trial in study.trials)
    ]  # fmt: skip
    return [
        {
            "run_id": trial.run_id,
            "name": study.label(trial),
            "stage": trial.stage,
            "state": trial.state,
            "is_finished": trial.is_finished,
            "is_chosen": trial.is_selected,
            "is_front": trial.run_id in front,
            "params": {name: trial.params.get(name) for name in study.varied},
            "metrics": {key: _finite(trial.metrics, key) for key in keys},
            "errors": {
                key: trial.metrics[error_key(key)]
                for key in keys
                if error_key(key) in trial.metrics
            },
        }
        for trial in study.trials
    ]


def _finite(metrics: Mapping[str, float], key: str) -> float | None:
    value = metrics.get(key)
    return value if value is not None and np.isfinite(value) else None
