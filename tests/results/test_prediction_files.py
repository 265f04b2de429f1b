"""Rows of a fitted study in every format, from commands and from Python."""

import json
import re
from dataclasses import replace
from fractions import Fraction

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import psvae_tune as pt
from psvae_tune.cli.commands import main
from psvae_tune.cli.predict import check_nwb_targets
from psvae_tune.data.demo import write_demo
from psvae_tune.data.frame_rows import OF_RECORDING, OF_VIDEO, SECONDS
from psvae_tune.errors import ConfigError, StorageError
from tests.support.logged_studies import log_study, with_space

STEP = Fraction(1001, 30000)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with one study of a recording whose second half is of a later hour."""
    folder = tmp_path_factory.mktemp("studies")
    demo = folder / "mouse.h5"
    write_demo(demo, n_clips=10, clip_length=12)
    index = 2 * np.arange(120) + 1000 * (np.arange(120) >= 60)
    with h5py.File(demo, "a") as file:
        for i, name in enumerate(sorted(file["images"])):
            file[f"frame_index/{name}"] = index[12 * i : 12 * i + 12]
            file[f"time_s/{name}"] = [float(n * STEP) for n in index[12 * i : 12 * i + 12]]
    log_study(folder, demo, "study")
    return folder


@pytest.fixture(scope="module")
def result(folder):
    return pt.open_study("study", output=folder)


@pytest.fixture(scope="module")
def model(result):
    return result.best_model()


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_table_of_a_study_is_that_of_its_model(folder, result, model):
    (found,) = result.predictions()
    session = pt.read_session(folder / "mouse.h5")
    table = found.to_frame()
    np.testing.assert_array_equal(table["frame_index"], session.frame_index)
    np.testing.assert_array_equal(table["time_s"], session.time_s)
    names = [f"mask: {name}" for name in session.header.label_names]
    np.testing.assert_array_equal(table[names], session.label_masks)
    expected = model.predict(folder / "mouse.h5").to_frame()
    pd.testing.assert_frame_equal(table, expected, atol=1e-4)
    latents = [f"latent: {name}" for name in model.latent_names]
    np.testing.assert_allclose(table[latents], model.transform(session), atol=1e-4)
    assert found.model["run_id"] == result.best.run_id
    assert found.model == model.predict(folder / "mouse.h5").model
    for trial in result.trials().index:
        assert result.predictions(trial)[0].model["trial"] == trial


def test_a_parquet_file_has_named_columns_and_units(folder, model, tmp_path):
    found = model.predict(folder / "mouse.h5")
    pt.write_predictions(found, tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "x.parquet"), found.to_frame())
    schema = pq.read_schema(tmp_path / "x.parquet")
    units = json.loads(schema.metadata[b"units"])
    assert units["frame_index"] == OF_VIDEO
    assert units["time_s"] == SECONDS
    assert set(units) == set(schema.names) - {"session", "clip"}
    about = json.loads(schema.metadata[b"model"])
    assert about["settings"]["model_class"] == "ps-vae"
    assert about["run_id"]


def test_a_time_that_is_not_known_is_null_in_parquet(folder, model, tmp_path):
    found = model.predict(pt.read_session(folder / "mouse.h5").frames[:5])
    pt.write_predictions(found, tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert table["time_s"].null_count == 5
    assert table["frame_index"].to_pylist() == list(range(5))
    assert json.loads(table.schema.metadata[b"units"])["frame_index"] == OF_RECORDING


def test_alf_files_of_an_object_have_a_row_a_frame(folder, model, tmp_path):
    found = model.predict(folder / "mouse.h5")
    pt.write_predictions(found, tmp_path / "x.alf")
    for stem, values in (("latents", found.latents), ("labels", found.labels_hat)):
        arrays = {
            path.name.split(".")[1]: np.load(path)
            for path in tmp_path.glob(f"x.alf/_psvae_{stem}.*.npy")
        }
        assert {len(array) for array in arrays.values()} == {120}
        np.testing.assert_array_equal(arrays["values"], values)
        np.testing.assert_array_equal(arrays["times"], found.rows.time_s)
        about = json.loads((tmp_path / f"x.alf/_psvae_{stem}.metadata.json").read_text())
        assert len(about["columns"]) == values.shape[1]
    index = np.load(tmp_path / "x.alf/_psvae_latents.frames.npy")
    np.testing.assert_array_equal(index, found.rows.frame_index)
    clips = np.load(tmp_path / "x.alf/_psvae_latents.clips.npy")
    np.testing.assert_array_equal(clips, found.rows.clip_of_frames)
    masks = np.load(tmp_path / "x.alf/_psvae_labels.masks.npy")
    np.testing.assert_array_equal(masks, found.label_masks)
    # What a later model does not say is not left over from an earlier one.
    bare = replace(found, label_names=(), labels_hat=None, label_masks=None)
    pt.write_predictions(bare, tmp_path / "x.alf")
    assert not list(tmp_path.glob("x.alf/_psvae_labels.*"))
    assert list(tmp_path.glob("x.alf/_psvae_latents.*"))


@pytest.mark.parametrize("name", ["latents.times", "labels.masks", "labels.times"])
def test_alf_files_of_two_recordings_are_never_mixed(folder, model, tmp_path, name):
    found, alf = model.predict(folder / "mouse.h5"), tmp_path / "x.alf"
    pt.write_predictions(found, alf)
    blocked = alf / f"_psvae_{name}.npy"  # by a folder, which no file can take the place of
    blocked.unlink()
    blocked.mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        pt.write_predictions(replace(found, latents=found.latents + 1), alf)
    assert not list(alf.glob("*.values.npy"))


def test_a_file_of_no_known_format_is_refused(folder, model, tmp_path):
    found = model.predict(folder / "mouse.h5")
    with pytest.raises(StorageError, match=r"must end in one of .*\.nwb, got '\.xls'"):
        pt.write_predictions(found, tmp_path / "x.xls")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        pt.write_predictions(found, tmp_path / "file" / "x.csv")


def test_an_export_and_a_prediction_have_the_same_rows_in_all_files(folder, result, tmp_path):
    done = call("export", "study", "--to", tmp_path / "copy", "--output", folder, "--alf")
    assert done.exit_code == 0, done.output
    copy = tmp_path / "copy"
    assert done.stdout.split() == [str(copy), str(copy / "latents/session_0.alf")]
    done = call("predict", tmp_path / "copy", folder / "mouse.h5", "--to", tmp_path, "--alf")
    assert done.exit_code == 0, done.output
    suffixes = [line.rpartition(".")[2] for line in done.stdout.split()]
    assert suffixes == ["h5", "csv", "parquet", "alf"]
    tables = [
        read(file.with_suffix(suffix))
        for file in (tmp_path / "copy/latents/session_0.x", tmp_path / "mouse.latents.x")
        for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet))
    ]
    for table in tables:
        pd.testing.assert_frame_equal(table, tables[0], check_dtype=False, rtol=1e-4, atol=1e-4)
    assert tables[0]["time_s"].tolist() == result.predictions()[0].rows.time_s.tolist()
    for alf in (tmp_path / "copy/latents/session_0.alf", tmp_path / "mouse.latents.alf"):
        times = np.load(alf / "_psvae_latents.times.npy")
        assert times.tolist() == tables[0]["time_s"].tolist()
    about = pq.read_schema(tmp_path / "mouse.latents.parquet").metadata[b"model"]
    assert json.loads(about)["run_id"] == result.best.run_id


@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # of MLflow, which it may not see
def test_a_promoted_model_knows_its_run(folder, result):
    uri = result.promote("mouse")
    model = pt.load_model(uri, output=folder)
    assert model.origin == {
        "model": "models:/mouse@champion",
        "version": "1",
        "run_id": result.best.run_id,
        "study": "study",
        "trial": result.logged.label(result.best),
    }
    assert pt.load_model("models:/mouse/1", output=folder).origin["run_id"] == result.best.run_id


def test_latents_without_frames_are_an_error(folder, result):
    (file,) = folder.rglob(f"{result.best.run_id}/artifacts/latents/session_0.h5")
    content = file.read_bytes()
    try:
        for damaged in (content[:200], b""):
            file.write_bytes(damaged)
            with pytest.raises(StorageError, match="holds no latents of known frames"):
                result.predictions()
        with h5py.File(file, "w") as written:
            written["latents/trial_0000"] = np.zeros((3, 2))
        with pytest.raises(StorageError, match="holds no latents of known frames"):
            result.predictions()
    finally:
        file.write_bytes(content)


@pytest.mark.filterwarnings("ignore")  # of pynwb
def test_commands_write_into_an_nwb_file(folder, result, tmp_path):
    from pynwb import NWBHDF5IO

    made, nwb = tmp_path / "copy", tmp_path / "mouse.nwb"
    done = call("export", "study", "--to", made, "--output", folder, "--nwb", nwb)
    assert done.exit_code == 0, done.output
    (found,) = result.predictions()
    with NWBHDF5IO(str(nwb), "r") as io:
        series = io.read().processing["behavior"]["psvae_latents"]
        np.testing.assert_array_equal(series.timestamps[:], found.rows.time_s)
        np.testing.assert_array_equal(series.data[:], found.latents)
        about = json.loads(series.comments)
        assert about["run_id"] == result.best.run_id
        assert about["settings"]["ps_vae.alpha"] == result.best.params["ps_vae.alpha"]
    arguments = ("predict", made, folder / "mouse.h5", "--to", tmp_path / "new", "--nwb", nwb)
    done = call(*arguments)
    assert done.exit_code == 2
    assert "holds psvae_latents" in done.output
    assert not (tmp_path / "new").exists()
    done = call(*arguments, "--overwrite")
    assert done.exit_code == 0, done.output
    assert str(nwb) in done.stdout
    with NWBHDF5IO(str(nwb), "r") as io:
        latents = io.read().processing["behavior"]["psvae_latents"].data[:]
        np.testing.assert_allclose(latents, found.latents, atol=1e-4)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a.nwb", "b.nwb"], "must name one file a session, 1, got"),
        (["a.h5"], r"must be a file \*\.nwb, got"),
    ],
)
def test_an_nwb_file_that_cannot_be_is_refused_before_the_export(folder, tmp_path, files, words):
    options = [part for file in files for part in ("--nwb", tmp_path / file)]
    done = call("export", "study", "--to", tmp_path / "copy", "--output", folder, *options)
    assert done.exit_code == 2
    assert re.search(words, done.output)
    assert not list(tmp_path.iterdir())


def test_one_nwb_file_is_not_of_two_sessions_under_two_paths(result, tmp_path):
    (found,) = result.predictions()
    files = (tmp_path / "a.nwb", tmp_path / ".." / tmp_path.name / "a.nwb")
    with pytest.raises(ConfigError, match="must name one file a session, 2, got"):
        check_nwb_targets(files, [found.rows] * 2, replaces=False)
    check_nwb_targets((files[0], tmp_path / "b.nwb"), [found.rows] * 2, replaces=False)


@pytest.fixture(scope="module")
def timeless(tmp_path_factory):
    """Return a folder with one study of a recording that says no times."""
    folder = tmp_path_factory.mktemp("timeless")
    write_demo(folder / "mouse.h5", n_clips=10, clip_length=12)
    log_study(
        folder, folder / "mouse.h5", "study", with_space({"ps_vae.alpha": {"grid_search": [10]}})
    )
    return folder


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--nwb", "n.nwb"], "holds no times of its frames"),
        (["--onnx", "there.onnx"], "exists already"),
        (["--onnx", "n.onnx", "--session", 7], "must be 0 to 0, got 7"),
        (["--optuna", "sqlite:///there.db"], "already"),
    ],
)
def test_an_export_that_fails_writes_nothing(timeless, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.onnx").write_text("")
    if "--optuna" in options:
        pt.open_study("study", output=timeless).to_optuna("sqlite:///there.db")
    before = sorted(tmp_path.rglob("*"))
    done = call("export", "study", "--output", timeless, "--to", "new", *options)
    assert done.exit_code == 2
    assert words in done.output
    assert sorted(tmp_path.rglob("*")) == before


def test_an_export_into_a_folder_that_is_there_writes_nothing_else(timeless, tmp_path):
    database = f"sqlite:///{tmp_path}/x.db"
    to = ("--to", tmp_path, "--optuna", database, "--onnx", tmp_path / "x.onnx")
    done = call("export", "study", "--output", timeless, *to)
    assert done.exit_code == 2
    assert "choose another folder" in done.output
    assert not list(tmp_path.iterdir())


def test_a_prediction_for_nwb_without_times_encodes_nothing(timeless, tmp_path):
    call("export", "study", "--output", timeless, "--to", tmp_path / "copy")
    made = ("--to", tmp_path / "new", "--nwb", tmp_path / "n.nwb")
    done = call("predict", tmp_path / "copy", timeless / "mouse.h5", *made)
    assert done.exit_code == 2
    assert "holds no times of its frames" in done.output
    assert "frames in" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("export", "study", "--to", "x", "--overwrite"), "--overwrite needs --nwb"),
        (("predict", "model.pt", "mouse.h5", "--overwrite"), "--overwrite needs --nwb"),
        (("export", "study", "--to", "x", "--session", 0), "--session needs --onnx"),
        (("export", "study", "--optuna", "sqlite:///x.db", "--trial", "a"), "--trial needs --to"),
        (("export", "study", "--alf"), "--alf needs --to"),
        (("export", "study"), "Nothing to write"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(arguments, words):
    done = call(*arguments)
    assert done.exit_code == 2
    assert words in done.output
