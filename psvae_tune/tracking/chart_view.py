"""How MLflow's pages open on a study: columns, order, filter and charts, kept as a shared view.

MLflow keeps the views that people share as tags of the experiment; one of ours lies among them,
so that its link shows the trials as they are meant to be looked at.
"""

import json
from collections.abc import Sequence
from typing import Any

from psvae_tune.tracking.client import KIND, PARETO, SELECTED, STAGE, STUDY, TrackingTarget

_PREFIX = "mlflow.sharedViewState."
_SECTION = "psvae-tune"


def save_view(target: TrackingTarget, varied: Sequence[str], metrics: Sequence[str]) -> None:
    """Set what the link of a study shows.

    Parameters
    ----------
    target
        The study.
    varied
        Names of hyperparameters: columns, and the axes of a chart.
    metrics
        Of the best epoch, without the prefix; the first two become a scatter plot, the first
        orders the table.

    Side effects: sets a tag of the experiment.
    """
    keys = [f"best/{name}" for name in metrics]
    columns = [
        *(f"params.`{name}`" for name in varied),
        *(f"metrics.`{key}`" for key in keys),
        *(f"tags.`{tag}`" for tag in (SELECTED, PARETO, STAGE)),
    ]
    state: dict[str, Any] = {
        "searchFilter": f"tags.`{STUDY}` = '{target.study}' AND tags.`{KIND}` = 'trial'",
        "orderByKey": f"metrics.`{keys[0]}`" if keys else "attributes.start_time",
        "orderByAsc": True,
        "selectedColumns": columns,
        "compareRunCharts": [*_charts(varied, keys)],
        "compareRunSections": [_section()],
        "isAccordionReordered": True,  # else the sections of metrics come before ours
    }
    target.client().set_experiment_tag(
        target.experiment_id, f"{_PREFIX}{target.view}", json.dumps(state)
    )


def _section() -> dict[str, Any]:
    return {
        "uuid": _SECTION,
        "name": "The study",
        "display": True,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
    }


def _charts(varied: Sequence[str], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return a scatter, one coloured by the first hyperparameter, and parallel coordinates."""
    charts: list[dict[str, Any]] = []
    if len(keys) > 1:
        axes = {"xaxis": {"key": keys[0], "type": "METRIC"}}
        axes["yaxis"] = {"key": keys[1], "type": "METRIC"}
        charts.append(_chart("SCATTER", 0, axes))
        if varied:
            colour = {"zaxis": {"key": varied[0], "type": "PARAM"}}
            charts.append(_chart("CONTOUR", 1, axes | colour))
    if varied and keys:
        charts.append(
            _chart(
                "PARALLEL",
                2,
                {
                    "selectedParams": list(varied),
                    "selectedMetrics": list(keys),
                    "showAllRuns": True,
                },
            )
        )
    return charts


def _chart(kind: str, index: int, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "uuid": f"{_SECTION}-{index}",
        "type": kind,
        "runsCountToCompare": 100,
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        **settings,
    }
