"""The report of a study: one HTML file with all its pictures, small enough for an e-mail."""

import base64
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from psvae_tune.config.metric_catalog import METRICS
from psvae_tune.config.trial import TrialConfig
from psvae_tune.errors import StudyError
from psvae_tune.results.baseline_report import describe_baselines, name_baselines
from psvae_tune.results.figures.images import Pixels, encode_image, resize, tile_shares
from psvae_tune.results.figures.study_figures import name_with_goal
from psvae_tune.results.logged_study import LoggedStudy
from psvae_tune.results.report_data import (
    Comparison,
    explain_choice,
    format_scores,
    format_value,
    read_comparison,
    session_table,
    trial_rows,
)
from psvae_tune.results.trial_record import TrialRecord

MAX_PICTURED = 100  # trials with pictures
STRIPS_BUDGET = 8_000_000  # bytes of the traversals of all trials on the front
_STRIP_SCALES = (1.0, 0.75, 0.5, 0.35)
_N_THUMBNAIL_ROWS = 6
_THUMBNAIL_ROW_HEIGHT = 40  # pixels
_SHOWN_ROW_HEIGHT = 56  # pixels on the page


def make_report(study: LoggedStudy, figures: Mapping[str, bytes]) -> str:
    """Return the report of a study as the text of an HTML file.

    Parameters
    ----------
    study
        The study, as read from MLflow.
    figures
        PNG files by their names.

    Raises
    ------
    StudyError
        If no trial has finished.
    """
    if not study.finished:
        raise StudyError(
            f"study {study.name!r}",
            f"has no finished trial to report, got {_count_states(study) or 'none at all'}",
            hint="resume it, or wait for its first trial",
        )
    comparisons = _read_comparisons(study, study.finished)
    rows = _make_rows(study, comparisons)
    strips = front_strips(study, comparisons)
    sentence, reasons = explain_choice(study)
    columns, table = _table(rows, study.varied)
    lines = name_baselines(study)
    return open_template("report.html").render(
        study=study,
        sentence=sentence,
        baselines=list(describe_baselines(study, study.chosen)) if study.chosen else [],
        curves=_curves(study),
        session_rows=session_table(study),
        reasons=reasons,
        counts=_count_states(study),
        axes=study.front_metrics,
        comparisons=strips,
        n_bases=max((len(item["images"]) for item in strips), default=0),
        columns=columns,
        table=table,
        stages=[{**item, "stage": name} for name, item in study.selection.items()],
        choices=[item for item in study.choices if item["by"] != "rule"],
        figures=[
            {"title": name.rpartition(".")[0].replace("_", " "), "src": _data_uri(png, "png")}
            for name, png in figures.items()
        ],
        sessions=study.sessions,
        commands=sorted(rows, key=lambda row: not row["is_chosen"]),
        data={
            "trials": rows,
            "axes": study.front_metrics,
            "axis_labels": [name_with_goal(name) for name in study.front_metrics],
            "baselines": [lines.get(name) for name in study.front_metrics],
            "axis_goals": [METRICS[name].goal for name in study.front_metrics],
        },
    )


def _make_rows(study: LoggedStudy, comparisons: Mapping[str, Comparison]) -> list[dict[str, Any]]:
    """Return the table of trials, each with its command and, if there is one, a picture."""
    rows = trial_rows(study)
    for row, trial in zip(rows, study.trials, strict=True):
        row["command"] = reproduce_command(study, trial)
        if trial.run_id in comparisons:
            row["thumbnail"] = _thumbnail(comparisons[trial.run_id])
    return rows


def _curves(study: LoggedStudy) -> str | None:
    """Return the picture of the training of the chosen trial, if there is one."""
    png = study.chosen and study.read_artifact(study.chosen.run_id, "figures/curves.png")
    return _data_uri(png, "png") if png else None


def open_template(name: str) -> Template:
    """Return the template of a page."""
    environment = Environment(
        loader=PackageLoader("psvae_tune.results", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _read_comparisons(study: LoggedStudy, trials: Sequence[TrialRecord]) -> dict[str, Comparison]:
    """Return the traversals of trials by their runs.

    The chosen trial and the front come first. A large study has more trials than are read,
    because a server is asked several times for each.
    """
    front = {trial.run_id for trial in study.front()}
    first = sorted(trials, key=lambda t: not (t.is_selected or t.run_id in front))
    return {
        trial.run_id: found
        for trial in first[:MAX_PICTURED]
        if (found := read_comparison(study, trial))
    }


def reproduce_command(study: LoggedStudy, trial: TrialRecord) -> str:
    """Return the command that trains a trial again from the study's search-space file."""
    if trial.path:
        return "psvae-tune run study.yaml   # it went on from other trials: the study trains them"
    parts = ["psvae-tune run study.yaml --inline"]
    for name in study.varied:
        if name in trial.params:
            section = TrialConfig.section_of(name)
            parts.append(f"--set {shlex.quote(f'{section}.{name}={trial.params[name]}')}")
    return " ".join(parts)


def _count_states(study: LoggedStudy) -> str:
    stopped = sum("stopped early" in trial.stop_reason for trial in study.trials)
    failed = sum(trial.status == "FAILED" for trial in study.trials)
    n_continued = sum(bool(trial.path) for trial in study.finished)
    counts = {"finished": len(study.finished), "stopped early": stopped, "failed": failed}
    left = len(study.trials) - sum(counts.values())
    parts = [
        f"{count} {what}" for what, count in {**counts, "not over": left}.items() if count > 0
    ]
    if not parts:
        return ""
    text = f"{len(study.trials)} trials: {', '.join(parts)}."
    if n_continued:
        text += (
            f" {n_continued} of them went on from others and were trained for longer than those "
            "with new weights, so their scores do not compare."
        )
    return text


def _chosen_first(study: LoggedStudy) -> list[TrialRecord]:
    return sorted(study.trials, key=lambda trial: not trial.is_selected)


def _thumbnail(comparison: Comparison) -> str:
    """Return the rows of unsupervised latents around the first base frame.

    These rows differ most between trials.
    """
    strip, n_rows = comparison.strips[0], len(comparison.names)
    first = comparison.n_supervised if comparison.n_supervised < n_rows else 0
    height = strip.shape[0] / n_rows
    last = min(n_rows, first + _N_THUMBNAIL_ROWS)
    cut = strip[round(first * height) : round(last * height)]
    return _to_web(resize(cut, min(cut.shape[0], (last - first) * _THUMBNAIL_ROW_HEIGHT)))


def front_strips(
    study: LoggedStudy, comparisons: Mapping[str, Comparison] | None = None
) -> list[dict[str, Any]]:
    """Return the traversals of the chosen trial and the front, scaled to `STRIPS_BUDGET`.

    They are read unless they are given.
    """
    front = {trial.run_id for trial in study.front()}
    wanted = [t for t in _chosen_first(study) if t.is_selected or t.run_id in front]
    if comparisons is None:
        comparisons = _read_comparisons(study, wanted)
    shown = [trial for trial in wanted if trial.run_id in comparisons]
    images: dict[str, list[str]] = {}
    for scale in _STRIP_SCALES:
        images = {
            trial.run_id: [
                _to_web(resize(strip, round(scale * strip.shape[0])))
                for strip in comparisons[trial.run_id].strips
            ]
            for trial in shown
        }
        if sum(len(image) for item in images.values() for image in item) <= STRIPS_BUDGET:
            break
    return [
        {
            "run_id": trial.run_id,
            "name": study.label(trial),
            "is_chosen": trial.is_selected,
            "scores": format_scores(study, trial),
            "names": comparisons[trial.run_id].names,
            "words": comparisons[trial.run_id].words,
            "movement": _movement(comparisons[trial.run_id]),
            "height": _SHOWN_ROW_HEIGHT * len(comparisons[trial.run_id].names),
            "images": images[trial.run_id],
        }
        for trial in shown
    ]


def _movement(comparison: Comparison) -> dict[str, float]:
    """Return where the moments of the movements are in a strip, which has a column more."""
    n_values, width = comparison.n_values, comparison.strips[0].shape[1]
    tile, distance = tile_shares(width, n_values + 1)
    return {"values": n_values, "tile": tile, "distance": distance}


def _table(
    rows: Sequence[Mapping[str, Any]], varied: Sequence[str]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the headings of the table of trials and its rows of cells."""
    metrics = list(rows[0]["metrics"])
    table = []
    for row in rows:
        mark = "chosen" if row["is_chosen"] else "front" if row["is_front"] else ""
        values = [row["name"], row["stage"], mark, row["state"]]
        values += [row["params"][name] for name in varied]
        cells = [_cell(value) for value in values]
        cells += [_cell(row["metrics"][key], row["errors"].get(key)) for key in metrics]
        table.append({"run_id": row["run_id"], "is_chosen": row["is_chosen"], "cells": cells})
    return ["trial", "stage", "", "state", *varied, *metrics], table


def _cell(value: Any, error: float | None = None) -> dict[str, Any]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    text = "" if value is None else str(value)
    if isinstance(value, float):
        text = format_value(value, error)
    return {"value": "" if value is None else value, "text": text, "is_number": is_number}


def _to_web(pixels: Pixels) -> str:
    return _data_uri(encode_image(pixels, "WEBP", quality=82, method=4), "webp")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
