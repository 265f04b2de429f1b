"""Comparison of several studies, as a table and as a figure."""

from collections.abc import Sequence

from psvae_tune.errors import StudyError
from psvae_tune.results.figures.style import (
    FONT_SIZE,
    GREY,
    INKS,
    MARKERS,
    new_figure,
    tidy,
    to_png,
)
from psvae_tune.results.logged_study import LoggedStudy

_METRICS = ("frame_mse", "label_r2", "latent_correlation", "leak_r2")


def comparison_table(studies: Sequence[LoggedStudy]) -> str:
    """Return a CSV with one row a study: the chosen trial and its metrics.

    Raises
    ------
    StudyError
        If a study has no finished trial.
    """
    import pandas as pd

    rows = []
    for study in studies:
        _check(study)
        trial = study.chosen
        row = {
            "study": study.name,
            "experiment": study.experiment_name,
            "model_class": study.params.get("model_class", ""),
            "sessions": " ".join(str(item["name"]) for item in study.sessions),
            "n_trials": len(study.trials),
            "n_finished": len(study.finished),
            "chosen": "" if trial is None else study.label(trial),
        }
        if trial is not None:
            row |= {
                f"{split}/{name}": f"{trial.metrics[f'{split}/{name}']:.6g}"
                for split in ("best", "test")
                for name in _METRICS
                if f"{split}/{name}" in trial.metrics
            }
        rows.append(row)
    return str(pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def draw_comparison(studies: Sequence[LoggedStudy]) -> bytes:
    """Return a PNG with a panel a metric: all finished trials, with the chosen ones marked."""
    for study in studies:
        _check(study)
    metrics = [
        name
        for name in _METRICS
        if any(f"best/{name}" in trial.metrics for study in studies for trial in study.finished)
    ]
    height = 1.3 + 0.45 * len(studies)
    figure = new_figure(3.3 * len(metrics) + 1.2, height)
    for index, name in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), index + 1)
        for row, study in enumerate(studies):
            ink, marker = INKS[row % len(INKS)], MARKERS[row % len(MARKERS)]
            for trial in study.finished:
                if f"best/{name}" not in trial.metrics:
                    continue
                value = trial.metrics[f"best/{name}"]
                if trial.is_selected:
                    axes.plot(value, row, marker, color=ink, markersize=9, zorder=3)
                else:
                    axes.plot(value, row, "|", color=GREY, markersize=10)
        names = [f"{study.name}\n{study.params.get('model_class', '')}" for study in studies]
        axes.set_yticks(range(len(studies)), names if index == 0 else [""] * len(studies))
        axes.set_ylim(len(studies) - 0.5, -0.5)
        tidy(axes, name)
    figure.suptitle(
        "validation, best epoch; large: the chosen trial, bars: the others", fontsize=FONT_SIZE
    )
    return to_png(figure)


def _check(study: LoggedStudy) -> None:
    if not study.finished:
        raise StudyError(f"study {study.name!r}", "has no finished trial to compare")
