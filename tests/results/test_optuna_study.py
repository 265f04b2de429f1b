"""A study in a storage of Optuna, read back by Optuna and shown by its dashboard."""

import shlex
import shutil
import sqlite3
from contextlib import closing

import optuna
import pytest
import yaml

import psvae_tune as pt
from psvae_tune.data.demo import write_demo
from psvae_tune.tracking.study_run import StudyRun
from psvae_tune.tracking.tags import STAGE
from tests.support.logged_studies import RAW, call, log_study, with_space

SELECT = {"best": "val/frame_mse"}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of Optuna's sessions
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies")
    demo = folder / "demo.h5"
    write_demo(demo, n_clips=10, clip_length=8, size=16)
    log_study(folder, demo, "pair", n_cut=1, n_failed=1)
    one = yaml.safe_load(yaml.safe_dump(RAW))
    one["search"] |= {
        "name": "weights",
        "space": {"ps_vae.alpha": {"grid_search": [10, 100]}},
        "objectives": {"val/label_r2": "max"},
        "select": {
            "best": "val/label_r2",
            "require": {"val/active_units": ">= 0", "val/label_r2": ">= -9"},
        },
    }
    log_study(folder, demo, "one", one)
    return folder


@pytest.fixture(scope="module")
def pair(folder):
    return pt.open_study("pair", output=folder)


@pytest.fixture(scope="module")
def stored(pair, tmp_path_factory):
    """The URL of a storage that holds the study `pair`, and the folder of its pictures."""
    url = f"sqlite:///{tmp_path_factory.mktemp('optuna')}/study.db"
    return url, pair.to_optuna(url)


@pytest.fixture(scope="module")
def stored_one(folder, tmp_path_factory):
    """The URL of a storage that holds the study `one`, which has one objective and bounds."""
    url = f"sqlite:///{tmp_path_factory.mktemp('optuna')}/one.db"
    pt.open_study("one", output=folder).to_optuna(url)
    return url


def load(url, name):
    return optuna.load_study(study_name=name, storage=url)


def test_trials_have_the_states_values_and_params_that_mlflow_has(pair, stored):
    study = load(stored[0], "pair/search")
    assert [d.name for d in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert study.metric_names == ["val/frame_mse", "val/label_r2"]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "FAIL"]
    for trial, record in zip(study.trials, pair.logged.trials, strict=True):
        assert trial.params == {"ps_vae.alpha": record.params["ps_vae.alpha"]}
        choices = optuna.distributions.CategoricalDistribution((10, 100, 1000))
        assert trial.distributions == {"ps_vae.alpha": choices}
        assert trial.user_attrs["mlflow_run"] == record.run_id
        assert trial.user_attrs["trial_id"] == record.trial_id
        assert trial.user_attrs["stage"] == "search"
        assert trial.user_attrs["seed"] == record.params["rng_seed_model"]
        assert trial.datetime_start.timestamp() == pytest.approx(record.start_ms / 1000)
        assert trial.datetime_complete.timestamp() == pytest.approx(record.end_ms / 1000)
    (best,) = study.best_trials
    assert best.user_attrs["is_chosen"]
    metrics = pair.best.metrics
    assert best.values == [metrics["best/frame_mse"], metrics["best/label_r2"]]
    assert "stopped early" in study.trials[1].user_attrs["state"]


def test_the_curve_of_one_objective_is_kept(stored_one, folder):
    study, result = load(stored_one, "one/weights"), pt.open_study("one", output=folder)
    for trial, record in zip(study.trials, result.logged.trials, strict=True):
        curve = result.logged.history(record, "val/label_r2")
        assert [*trial.intermediate_values.items()] == [(epoch, v) for _, epoch, v in curve]
        assert trial.value == max(trial.intermediate_values.values())
    assert study.best_trial.user_attrs["is_chosen"]


def test_optuna_goes_on_from_a_study(stored, tmp_path):
    database = tmp_path / "study.db"
    shutil.copyfile(stored[0].removeprefix("sqlite:///"), database)
    study = load(f"sqlite:///{database}", "pair/search")
    study.sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=0)
    trial = study.ask({"ps_vae.alpha": study.trials[0].distributions["ps_vae.alpha"]})
    study.tell(trial, [0.0, 1.0])
    assert study.best_trials[-1].number == trial.number


def test_what_a_trial_lacks_is_told(stored_one, folder):
    records = pt.open_study("one", output=folder).logged.trials
    for trial, record in zip(load(stored_one, "one/weights").trials, records, strict=True):
        lacks = {
            "val/active_units": -record.metrics["best/active_units"],
            "val/label_r2": -9 - record.metrics["best/label_r2"],
        }
        assert trial.user_attrs["shortfalls"] == pytest.approx(lacks)
        assert [*trial.constraints.values()] == pytest.approx([*lacks.values()])


def test_the_pictures_are_those_of_mlflow(pair, stored):
    url, folder = stored
    assert folder == type(folder)(url.removeprefix("sqlite:///")).with_suffix(".artifacts")
    study = load(url, "pair/search")
    store = optuna.artifacts.FileSystemArtifactStore(folder)

    def pictures(target):
        found = optuna.artifacts.get_all_artifact_meta(target, storage=study._storage)
        return {item.filename: store.open_reader(item.artifact_id).read() for item in found}

    first, record = pictures(study.trials[0]), pair.logged.trials[0]
    assert {"traversals.png", "reconstructions.png", "curves.png"} <= set(first)
    for name, content in first.items():
        assert content == pair.logged.read_artifact(record.run_id, f"figures/{name}")
    assert pictures(study.trials[2]) == {}
    assert all(content.startswith(b"\x89PNG") for content in pictures(study).values())
    assert len(list(folder.iterdir())) == len(first) + len(pictures(study))


def test_a_study_is_not_written_twice(folder, stored):
    done = call("export", "pair", "--output", folder, "--optuna", stored[0])
    assert done.exit_code == 2
    assert "holds pair/search already" in done.output
    assert f"optuna delete-study --storage {stored[0]} --study-name pair/search" in done.output


def test_the_command_names_the_one_that_shows_the_study(folder, tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    done = call("export", "pair", "--output", folder, "--optuna", url)
    assert done.output == f"optuna-dashboard {url} --artifact-dir {tmp_path}/study.artifacts\n"
    done = call("export", "pair", "--output", folder)
    assert done.exit_code == 2
    assert "--optuna" in done.output


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("study.db", "Could not parse"),
        ("sqlite:///absent/folder/study.db", "unable to open database file"),
        ("nothing://x", "nothing"),
        ("redis://x:1", "redis"),
        ("sqlite:///{folder}/mlflow.db", "is the database of another program"),
        ("sqlite:///{folder}/demo.h5", "file is not a database"),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_error(folder, tmp_path, monkeypatch, url, problem):
    monkeypatch.chdir(tmp_path)
    before = (folder / "mlflow.db").read_bytes()
    url = url.format(folder=folder)
    done = call("export", "pair", "--output", folder, "--optuna", url)
    assert done.exit_code == 2, done.output
    assert problem in done.output
    assert "sqlite:///study.db" in done.output
    assert done.output.startswith(f"error: {url}: ")
    assert (folder / "mlflow.db").read_bytes() == before
    assert not list(tmp_path.iterdir())


def test_a_password_is_shown_nowhere(folder):
    url = "postgresql+psycopg://ann:s3cret@127.0.0.1:1/optuna"
    done = call("export", "pair", "--output", folder, "--optuna", url)
    assert done.exit_code == 2
    assert "s3cret" not in done.output


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file::memory:?uri=true",
        "sqlite:///file:/x?vfs=memdb&uri=true",
    ],
)
def test_a_storage_that_is_not_kept_is_one_error(folder, tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    done = call("export", "pair", "--output", folder, "--optuna", url)
    assert done.exit_code == 2, done.output
    assert done.output.startswith(f"error: {url}: is kept in memory only")
    assert "sqlite:///study.db" in done.output
    assert not list(tmp_path.iterdir())


def execute(database, *statements):
    """Execute statements of SQL in a file; return the rows of the last one."""
    with closing(sqlite3.connect(database)) as connection, connection:
        *_, rows = [connection.execute(statement).fetchall() for statement in statements]
    return rows


TABLES = "SELECT name, sql FROM sqlite_master ORDER BY name"


@pytest.mark.parametrize("columns", ["id, title", "study_id, study_name, subject NOT NULL"])
def test_the_studies_of_another_program_are_left_alone(folder, tmp_path, columns):
    database = tmp_path / "study.db"
    before = execute(database, f"CREATE TABLE studies ({columns})", TABLES)
    done = call("export", "pair", "--output", folder, "--optuna", f"sqlite:///{database}")
    assert done.exit_code == 2, done.output
    assert "is the database of another program" in done.output
    assert execute(database, TABLES) == before
    assert list(tmp_path.iterdir()) == [database]


@pytest.fixture
def empty(tmp_path):
    """A storage without studies."""
    optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db").engine.dispose()
    return tmp_path / "study.db"


def test_a_database_that_is_locked_or_read_only_is_one_error(folder, empty):
    def fails(url, problem):
        done = call("export", "pair", "--output", folder, "--optuna", url)
        assert done.exit_code == 2, done.output
        assert done.output.startswith(f"error: {url}: ")
        assert problem in done.output
        assert optuna.get_all_study_names(f"sqlite:///{empty}") == []
        assert list(empty.parent.iterdir()) == [empty]

    with closing(sqlite3.connect(empty)) as other:
        other.execute("BEGIN IMMEDIATE")
        fails(f"sqlite:///{empty}?timeout=0", "database is locked")
    fails(f"sqlite:///file:{empty}?mode=ro&uri=true", "attempt to write a readonly database")


@pytest.mark.parametrize("can_delete", [True, False])
def test_a_failure_amid_the_writing_is_the_error_that_is_told(pair, empty, can_delete):
    refuse = "CREATE TRIGGER {0}_{1} BEFORE {0} ON {1} BEGIN SELECT RAISE(FAIL, '{2}'); END"
    execute(empty, refuse.format("INSERT", "trial_values", "the disk is full"))
    if not can_delete:
        execute(empty, refuse.format("DELETE", "studies", "the disk is still full"))
    with pytest.raises(pt.PsvaeTuneError, match="Optuna: the disk is full"):
        pair.to_optuna(f"sqlite:///{empty}")
    left = [] if can_delete else ["pair/search"]
    assert optuna.get_all_study_names(f"sqlite:///{empty}") == left
    assert list(empty.parent.iterdir()) == [empty]


def test_a_failure_leaves_no_file_of_its_own(pair, folder, tmp_path):
    blocked = tmp_path / "study.artifacts"
    blocked.write_text("")
    url = f"sqlite:///{tmp_path}/study.db"
    done = call("export", "pair", "--output", folder, "--optuna", url)
    assert done.exit_code == 2, done.output
    assert done.output.startswith(f"error: {blocked}: cannot be made: ")
    assert "give another name for the database" in done.output
    with pytest.raises(pt.PsvaeTuneError, match="give another folder"):
        pair.to_optuna(url, blocked)
    assert list(tmp_path.iterdir()) == [blocked]
    blocked.unlink()
    assert pair.to_optuna(url) == blocked


def test_the_command_that_deletes_a_study_is_quoted(folder, stored, tmp_path):
    database = tmp_path / "my study.db"
    shutil.copyfile(stored[0].removeprefix("sqlite:///"), database)
    url = f"sqlite:///{database}?timeout=9"
    done = call("export", "pair", "--output", folder, "--optuna", url)
    command = done.output.partition("delete them: ")[2]
    expected = ["optuna", "delete-study", "--storage", url, "--study-name", "pair/search"]
    assert shlex.split(command) == expected


def test_a_stage_holds_the_trials_that_it_had_no_need_to_repeat(folder, tmp_path):
    space = {"ps_vae.alpha": {"grid_search": [10, 100]}, "ps_vae.beta": {"grid_search": [1, 2]}}
    raw = with_space(space)
    (folder / "stages").mkdir()
    logged = log_study(folder / "stages", folder / "demo.h5", "stages", raw)
    # As if alpha had been searched first; one trial has the other beta, but another alpha as well.
    stages = [
        {"name": name.removeprefix("ps_vae."), "space": {name: values}, "select": SELECT}
        | {"objectives": {"val/frame_mse": "min"}}
        for name, values in space.items()
    ]
    text = yaml.safe_dump(raw | {"search": {"stages": stages}})
    StudyRun(logged.target, logged.run_id).log_text(text, "study.yaml")
    pairs = {t.run_id: (t.params["ps_vae.alpha"], t.params["ps_vae.beta"]) for t in logged.trials}
    for run_id, pair in pairs.items():
        stage = "beta" if pair == (100, 2) else "alpha"
        logged.target.client().set_tag(run_id, STAGE, stage)
    url = f"sqlite:///{tmp_path}/study.db"
    pt.open_study("stages", output=folder / "stages").to_optuna(url)
    trials = load(url, "stages/beta").trials
    assert {pairs[trial.user_attrs["mlflow_run"]] for trial in trials} == {(100, 1), (100, 2)}
    assert {(t.user_attrs["stage"], t.params["ps_vae.beta"]) for t in trials} == {
        ("alpha", 1),
        ("beta", 2),
    }
    assert len(load(url, "stages/alpha").trials) == 3
