"""MLflow's pages open with the view of a study, and a study does not depend on it."""

import json
import logging
import sqlite3
from contextlib import closing

import pytest

from psvae_tune.tracking.chart_view import make_view, save_view
from psvae_tune.tracking.client import open_target

VARIED, METRICS = ["ps_vae.alpha"], ["frame_mse", "label_r2"]


@pytest.fixture
def target(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return open_target(uri, "view", "study", tmp_path / "artifacts")


def tags_of(target):
    return target.client().get_experiment(target.experiment_id).tags


def test_the_link_of_a_study_names_the_view_that_is_kept(target):
    save_view(target, VARIED, METRICS)
    key = target.url("http://server/").rpartition("viewStateShareKey=")[2]
    view = json.loads(tags_of(target)[f"mlflow.sharedViewState.{key}"])
    assert view == make_view("study", VARIED, METRICS)
    assert [chart["type"] for chart in view["compareRunCharts"]] == [
        "SCATTER",
        "CONTOUR",
        "PARALLEL",
    ]
    assert view["orderByKey"] == "metrics.`best/frame_mse`"


def test_a_store_that_refuses_the_view_costs_a_warning(target, tmp_path, caplog):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON experiment_tags "
            "WHEN NEW.key LIKE 'mlflow.sharedViewState%' "
            "BEGIN SELECT RAISE(ABORT, 'no such tag'); END"
        )
    with caplog.at_level(logging.WARNING):
        save_view(target, VARIED, METRICS)
    assert "does not take the view of the study's charts" in caplog.text
    assert "no such tag" in caplog.text
    assert not tags_of(target).keys() & {f"mlflow.sharedViewState.{target.view}"}


def test_a_view_that_is_too_long_for_a_tag_costs_a_warning(target, caplog):
    save_view(target, [f"hyperparameter_{number}" for number in range(1000)], METRICS)
    assert "does not take the view of the study's charts" in caplog.text
