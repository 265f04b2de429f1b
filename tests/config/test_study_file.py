import json
from pathlib import Path

import pytest

from psvae_tune.config.study_file import parse_set_options, read_study_file
from psvae_tune.errors import ConfigError, DataError

TEXT = """
data: {sessions: [demo, a/b.h5]}
model: {model_class: ps-vae}
search:
  stages:
    - name: alpha
      space: {ps_vae.alpha: {grid_search: [1]}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    ("setting", "place", "value"),
    [
        ("model.ps_vae.alpha=500", ["model", "ps_vae.alpha"], 500),
        ("training.max_n_epochs=30", ["training", "max_n_epochs"], 30),
        ("experiment_name=x", ["experiment_name"], "x"),
        ("data.trial_splits='8;1;1;0'", ["data", "trial_splits"], "8;1;1;0"),
        (
            "search.stages.alpha.space.ps_vae.beta={choice: [1, 2]}",
            ["search", "stages", 0, "space", "ps_vae.beta"],
            {"choice": [1, 2]},
        ),
        (
            "search.stages.alpha.scheduler.asha.grace_period=20",
            ["search", "stages", 0, "scheduler", "asha", "grace_period"],
            20,
        ),
    ],
)
def test_set_reaches_every_place(file, setting, place, value):
    node = read_study_file(file, parse_set_options([setting]))
    for part in place:
        node = node[part]
    assert node == value


@pytest.mark.parametrize(
    "setting",
    ["", "x", "=3", "model.=3", "search.stages.beta.seed=3", "search.stages.alpha=3",
     "model.a={", "experiment_name.x.y=3", "search.stages.alpha.name.x=3"],
)  # fmt: skip
def test_bad_settings_are_named(file, setting):
    with pytest.raises(ConfigError, match="setting "):
        read_study_file(file, parse_set_options(["experiment_name=name", setting]))


def test_sessions_are_relative_to_the_file_or_to_the_caller(file, tmp_path, monkeypatch):
    assert read_study_file(file)["data"]["sessions"] == ["demo", str(tmp_path / "a/b.h5")]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    raw = read_study_file(file, sessions=["c.h5"])
    assert raw["data"]["sessions"] == [str(tmp_path / "elsewhere/c.h5")]


def test_an_architecture_file_is_read_in(file, tmp_path):
    (tmp_path / "arch.json").write_text('{"ae_padding_type": "valid"}')
    raw = read_study_file(file, parse_set_options(["model.ae_arch_json=arch.json"]))
    assert raw["model"]["ae_arch_json"] == {"ae_padding_type": "valid"}
    with pytest.raises(ConfigError, match=r"absent\.json"):
        read_study_file(file, parse_set_options(["model.ae_arch_json=absent.json"]))
    (tmp_path / "arch.json").write_text('{"ae_batch_norm": true, "ae_batch_norm": false}')
    with pytest.raises(ConfigError, match=r"arch\.json.*`ae_batch_norm` stands twice"):
        read_study_file(file, parse_set_options(["model.ae_arch_json=arch.json"]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "is not YAML: line 1"),
        (b"", "must hold sections"),
        (b"- 1", "must hold sections, got list"),
        (b"\xff\xfe\x00", "is not text"),
        (b"!!python/object/apply:os.system [ls]", "is not YAML"),
        (b"[" * 5000, "is not YAML"),
    ],
)
def test_files_that_are_no_search_spaces(tmp_path, content, message):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_study_file(path)


def test_a_file_that_is_absent(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        read_study_file(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_study_file(tmp_path)


def test_a_sessions_csv_is_read_in(tmp_path):
    (tmp_path / "sessions.csv").write_text("lab,expt,animal,session\na,b,c,d\n")
    path = tmp_path / "study.yaml"
    path.write_text("data: {sessions: [sessions.csv], folder: data}")
    below = str(tmp_path / "data/a/b/c/d/data.hdf5")
    assert read_study_file(path)["data"] == {"sessions": [below]}
    path.write_text("data: {sessions: sessions.csv, folder: /data}")
    assert read_study_file(path)["data"] == {"sessions": ["/data/a/b/c/d/data.hdf5"]}
    raw = read_study_file(path, sessions=["demo:1", str(tmp_path / "sessions.csv")])
    assert raw["data"] == {"sessions": ["demo:1", "/data/a/b/c/d/data.hdf5"]}
    path.write_text("data: {folder: 3}")
    with pytest.raises(ConfigError, match="must be a path, got 3"):
        read_study_file(path)


@pytest.mark.parametrize("place", ["sessions", "folder"])
@pytest.mark.parametrize("name", ["a\0b.h5", "~nobody-of-that-name/a.h5"])
def test_paths_that_nothing_can_go_by(file, place, name):
    value = [name] if place == "sessions" else name
    with pytest.raises(DataError, match=f"data.{place}: must be a path"):
        read_study_file(file, parse_set_options([f"data.{place}={json.dumps(value)}"]))
