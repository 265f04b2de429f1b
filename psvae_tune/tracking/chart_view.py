"""The view of a study on MLflow's pages: its columns, order, filter and charts.

MLflow keeps a view that people share as a tag of the experiment. The view of a study is such a tag
as well, and the link to a study names it. MLflow does not document the keys of a view.
"""

import json
import logging
from collections.abc import Sequence
from typing import Any

from psvae_tune.tracking.client import TrackingTarget, reason_of
from psvae_tune.tracking.mlflow_private import VIEW_TAG
from psvae_tune.tracking.tags import KIND, PARETO, SELECTED, STAGE, STUDY

logger = logging.getLogger(__name__)

_SECTION = "psvae-tune"


def save_view(target: TrackingTarget, varied: Sequence[str], metrics: Sequence[str]) -> None:
    """Keep the view that the link to a study opens.

    A store that refuses it costs only the view: the pages then open with MLflow's own charts.

    Parameters
    ----------
    target
        The study.
    varied, metrics
        See `make_view`.

    Side effects: sets a tag of the experiment, or logs a warning.
    """
    view = json.dumps(make_view(target.study, varied, metrics))
    try:
        client = target.client()
        client.set_experiment_tag(target.experiment_id, f"{VIEW_TAG}{target.view}", view)
    except Exception as error:  # stores raise what their database or HTTP library raises
        why = reason_of(error)
        logger.warning("MLflow does not take the view of the study's charts: %s", why)


def make_view(study: str, varied: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    """Return the view of a study as MLflow's pages keep it.

    Parameters
    ----------
    study
        Name of the study.
    varied
        Names of hyperparameters. They are columns of the table and axes of a chart.
    metrics
        Names of metrics of the best epoch, without a prefix. The first two are the axes of a
        scatter plot, and the first one orders the table.
    """
    keys = [f"best/{name}" for name in metrics]
    columns = [
        *(f"params.`{name}`" for name in varied),
        *(f"metrics.`{key}`" for key in keys),
        *(f"tags.`{tag}`" for tag in (SELECTED, PARETO, STAGE)),
    ]
    return {
        "searchFilter": f"tags.`{STUDY}` = '{study}' AND tags.`{KIND}` != 'study'",
        "orderByKey": f"metrics.`{keys[0]}`" if keys else "attributes.start_time",
        "orderByAsc": True,
        "selectedColumns": columns,
        "compareRunCharts": [*_charts(varied, keys)],
        "compareRunSections": [_section()],
        "isAccordionReordered": True,  # otherwise sections of metrics come before this one
    }


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
