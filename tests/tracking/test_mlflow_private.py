"""Everything that the package uses of MLflow unasked still exists in the installed version."""

import importlib
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import mlflow
import pytest
from mlflow.utils import validation

from psvae_tune.tracking import mlflow_private
from psvae_tune.tracking.chart_view import make_view
from psvae_tune.tracking.client import open_target
from tests.support.imports import list_imports

VIEW = make_view("study", ["ps_vae.alpha"], ["frame_mse", "label_r2"])
PAGES = Path(mlflow.__file__).parent / "server" / "js" / "build" / "static" / "js"


def keys_of(value: Any) -> Iterator[str]:
    """Yield every key of a view, also those of its parts."""
    if isinstance(value, dict):
        yield from value
        value = [*value.values()]
    if isinstance(value, list):
        for item in value:
            yield from keys_of(item)


WORDS_OF_PAGES = {
    mlflow_private.VIEW_TAG,
    *keys_of(VIEW),
    *(f'"{chart["type"]}"' for chart in VIEW["compareRunCharts"]),
    *re.findall(r"(\w+)=", mlflow_private.view_address("1", "key")),
}


@pytest.fixture(scope="module")
def pages():
    """Return the programs of MLflow's pages, which no documentation describes."""
    return "".join(path.read_text(errors="replace") for path in sorted(PAGES.glob("*.js")))


@pytest.mark.parametrize("word", sorted(WORDS_OF_PAGES))
def test_the_pages_still_know_a_word_of_the_chart_view(pages, word):
    assert word in pages, f"{word} has gone from MLflow's pages"


@pytest.fixture(scope="module")
def variables(root):
    """Return the variables of MLflow that any module of the package names."""
    files = (root / "psvae_tune").rglob("*.py")
    return {name for path in files for name in re.findall(r"\bMLFLOW_[A-Z_]+", path.read_text())}


def test_variables_are_still_read(variables):
    assert variables >= mlflow_private.ENVIRONMENT.keys()
    known = vars(importlib.import_module("mlflow.environment_variables"))
    assert not {name for name in variables if name not in known}


def test_the_description_is_still_a_tag():
    assert resolve_name("mlflow.utils.mlflow_tags.MLFLOW_RUN_NOTE") == (mlflow_private.DESCRIPTION)


@pytest.mark.parametrize(
    ("limit", "at_least"),
    [
        ("MAX_PARAM_VAL_LENGTH", mlflow_private.MAX_PARAM_LENGTH),
        ("MAX_METRICS_PER_BATCH", mlflow_private.MAX_METRICS),
    ],
)
def test_a_store_still_takes_as_much(limit, at_least):
    assert getattr(validation, limit) >= at_least, limit


@pytest.mark.parametrize("name", ["test/label_r2/paw", "a!b", "../a", "a//b", "a/./b", "[0]"])
def test_a_key_that_was_made_safe_is_still_taken(name):
    validation._validate_metric_name(mlflow_private.metric_key(name))


@pytest.mark.parametrize("name", mlflow_private.LOGGERS)
def test_a_logger_still_has_its_name(name):
    module = importlib.import_module(name)
    assert any(
        "getLogger(__name__)" in path.read_text()
        for path in Path(str(module.__file__)).parent.rglob("*.py")
    ), name


def test_files_still_lie_where_they_are_written(tmp_path):
    """MLflow finds a file that was written beside it, and writes its own to the same place."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    target = open_target(uri, "files", "study", tmp_path / "artifacts")
    client = target.client()
    run = client.create_run(target.experiment_id)
    files = tmp_path / "files"
    (files / "figures").mkdir(parents=True)
    (files / "figures" / "ours.png").write_bytes(b"ours")
    mlflow_private.keep_files(client, run.info.run_id, run.info.artifact_uri, files)
    client.log_text(run.info.run_id, "theirs", "figures/theirs.txt")
    found = {item.path for item in client.list_artifacts(run.info.run_id, "figures")}
    assert found == {"figures/ours.png", "figures/theirs.txt"}
    here = mlflow_private.local_folder(run.info.artifact_uri)
    assert (here / "figures" / "theirs.txt").read_text() == "theirs"
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        for table, column in mlflow_private.ARTIFACT_COLUMNS:
            store.execute(f"SELECT {column} FROM {table}")
        # All other columns of places would have to be changed when a store is moved.
        tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master")}
        found = {
            (table, column[1])
            for table in tables - {"workspaces"}  # which this package makes none of
            for column in store.execute(f"PRAGMA table_info({table})").fetchall()
            if any(word in column[1] for word in ("artifact", "storage_location"))
        }
    assert found <= {*mlflow_private.ARTIFACT_COLUMNS}, found


def test_two_files_import_mlflow(root):
    users = {
        path.name
        for path in (root / "psvae_tune").rglob("*.py")
        if any(module.partition(".")[0] == "mlflow" for module in list_imports(path))
    }
    assert users == {"client.py", "model_registry.py"}


def test_what_is_private_is_listed_beside_the_version(root):
    pyproject = (root / "pyproject.toml").read_text()
    listed = [
        mlflow_private.VIEW_TAG,
        mlflow_private.DESCRIPTION,
        "MAX_PARAM_VAL_LENGTH",
        "MAX_METRICS_PER_BATCH",
        *mlflow_private.LOGGERS,
    ]
    assert not [name for name in listed if name not in pyproject]
