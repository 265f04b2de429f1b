"""The file of a store is found and looked at before MLflow opens it."""

import os
import sqlite3
from contextlib import closing

import pytest

from psvae_tune.errors import TrackingError
from psvae_tune.tracking.client import find_database
from psvae_tune.tracking.folders import OutputFolder


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "postgresql://host/name", "databricks"])
def test_a_store_that_is_no_file_has_none(uri):
    assert find_database(uri) is None


@pytest.mark.parametrize("name", ["plain", "a b", "100%25", "what?", "ä#1"])
def test_the_default_store_of_a_folder_is_found_whatever_its_name(tmp_path, name):
    output = OutputFolder(tmp_path / name)
    assert find_database(output.default_tracking_uri) == output.database


def test_options_behind_a_path_are_no_part_of_it(tmp_path):
    assert find_database(f"sqlite:///{tmp_path}/a.db?timeout=5") == tmp_path / "a.db"


def test_a_database_and_a_file_that_is_empty_yet_are_stores(tmp_path):
    path = tmp_path / "mlflow.db"
    path.touch()
    assert find_database(f"sqlite:///{path}") == path
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE experiments (name TEXT)")
    assert path.stat().st_size > 0
    assert find_database(f"sqlite:///{path}") == path


def test_another_file_is_no_store(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("SQLite is a database")
    with pytest.raises(TrackingError, match=r"notes\.txt.*is no SQLite database"):
        find_database(f"sqlite:///{path}")


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(TrackingError, match="cannot be read: Is a directory"):
        find_database(f"sqlite:///{tmp_path}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_of_somebody_else_is_no_store(tmp_path):
    path = tmp_path / "mlflow.db"
    path.touch(mode=0)
    with pytest.raises(TrackingError, match="cannot be read: Permission denied"):
        find_database(f"sqlite:///{path}")


def test_a_name_that_no_file_can_have_is_no_store():
    with pytest.raises(TrackingError, match=r"cannot be read: .*null"):
        find_database("sqlite:////tmp/a%00b.db")
