from pathlib import Path

import pytest

from psvae_tune.config.session_list import list_sessions
from psvae_tune.data.demo import demo_path, session_path
from psvae_tune.errors import DataError


def test_names_become_absolute_and_demos_stay(tmp_path):
    assert list_sessions(["demo", "demo:3", "a/b.h5"], tmp_path) == [
        "demo", "demo:3", str(tmp_path / "a/b.h5"),
    ]  # fmt: skip
    assert session_path("demo:1") == demo_path(seed=1)
    assert session_path("demo") == demo_path()


def test_a_column_of_paths(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/sessions.csv").write_text(
        "\ufeffpath, note\n../first.h5,x\n/there/second.h5,\n", encoding="utf-8"
    )
    assert list_sessions(["demo", "lists/sessions.csv"], tmp_path) == [
        "demo", str(tmp_path / "first.h5"), "/there/second.h5",
    ]  # fmt: skip


def test_published_columns_in_any_order(tmp_path):
    path = tmp_path / "sessions.csv"
    path.write_text("session,animal,expt,lab\n2020-01-20-001, CSHL047 ,churchland,single-view\n")
    below = "single-view/churchland/CSHL047/2020-01-20-001/data.hdf5"
    assert list_sessions(["sessions.csv"], tmp_path) == [str(tmp_path / below)]
    assert list_sessions(["sessions.csv"], tmp_path, Path("/data")) == [f"/data/{below}"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (b"path\n", "must list at least one session"),
        (b"lab,expt,animal\na,b,c\n", "there is no session, got lab, expt, animal"),
        (b"path\na.h5\n\"\"\n", "line 3: `path` must not be empty"),
        (b"lab,expt,animal,session\na,b\n", "2 problems"),
        (b"path\n\xff\xfe\n", "is not a CSV file"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be_used(tmp_path, content, message):
    path = tmp_path / "sessions.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list_sessions(["sessions.csv"], tmp_path)


def test_a_list_that_is_absent(tmp_path):
    with pytest.raises(DataError, match=r"absent\.csv: cannot be read: No such file"):
        list_sessions(["absent.csv"], tmp_path)
