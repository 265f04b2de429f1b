"""The functions that a notebook calls: complete, light, documented, and as strict as commands."""

import doctest
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import psvae_tune as pt
from psvae_tune.cli.commands import main
from psvae_tune.tracking.folders import OutputFolder
from tests.support.studies import ARCHITECTURE, make_session

GOLDEN = Path(__file__).with_name("golden.json")
SMALL = {
    "model_class": "ps-vae",
    "n_ae_latents": "n_labels + 2",
    "ps_vae.alpha": 10,
    "ps_vae.beta": 2,
    "ps_vae.anneal_epochs": 1,
    "max_n_epochs": 2,
    "ae_arch_json": ARCHITECTURE,
}


def test_every_public_name_can_be_imported():
    assert sorted(pt.__all__) == sorted(pt._MODULES)
    assert set(pt.__all__) <= set(dir(pt))
    for name in pt.__all__:
        assert getattr(pt, name).__name__ == name
    with pytest.raises(AttributeError, match="fti"):
        pt.fti  # noqa: B018


def test_the_import_loads_nothing_heavy():
    program = "import sys, psvae_tune; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    loaded = done.stdout.decode().split()
    assert not {"torch", "ray", "mlflow", "pandas", "numpy"} & set(loaded)


@pytest.mark.parametrize("name", [name for name in pt.__all__ if name != "PsvaeTuneError"])
def test_every_public_name_has_an_example(name):
    assert "Examples\n" in inspect.getdoc(getattr(pt, name))


# The examples of `FittedModel` have a fitted model and a test of their own.
@pytest.mark.parametrize("module", ["api.models", "api.recordings", "api.studies"])
def test_the_examples_say_what_happens(module, root, monkeypatch):
    monkeypatch.chdir(root)
    found = doctest.testmod(
        importlib.import_module(f"psvae_tune.{module}"), optionflags=doctest.ELLIPSIS
    )
    assert found.attempted > 0
    assert found.failed == 0


def test_a_fit_has_the_numbers_of_a_trial():
    training = {"max_n_epochs": 3, "learning_rate": 3e-3, "precision": "float32"}
    config = SMALL | training | {"n_ae_latents": 4, "ps_vae.anneal_epochs": 2}
    epochs = []
    found = pt.fit(make_session(), config, device="cpu", callback=epochs.append)
    expected = json.loads(GOLDEN.read_text())["fits"]["ps-vae"]
    assert len(epochs) == len(found.history) == 3
    for key, value in found.metrics.items():
        assert value == pytest.approx(expected[key], rel=1e-4, abs=1e-6), key
    for key in ("train/frames_nll", "val/label_r2"):
        last = found.history[key].iloc[-1]
        assert last == pytest.approx(expected[f"epoch 3 {key}"], rel=1e-4)


def test_a_fitted_model_can_be_used_and_several_sessions_fitted():
    sessions = [make_session(seed) for seed in range(2)]
    weights = {"model_class": "msps-vae", "ps_vae.delta": 5, "n_background": 1}
    found = pt.fit(sessions, SMALL | weights | {"n_ae_latents": 6})
    assert found.model.transform(sessions[1], session_index=1).shape == (120, 6)


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code in (1, 2)
    return result.stderr


def test_a_wrong_file_is_the_same_error_as_on_the_command_line(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("model: {model_class: ps-vae, ps_vae.alhpa: 1}\nsearch: {}\n")
    with pytest.raises(pt.PsvaeTuneError) as error:
        pt.load_study(file, data=["demo"])
    assert "did you mean `ps_vae.alpha`?" in str(error.value)
    assert str(error.value) in call("check", file, "--data", "demo")


def test_a_wrong_setting_is_the_same_error_as_on_the_command_line(root):
    file = root / "search_spaces" / "ps_vae.yaml"
    with pytest.raises(pt.PsvaeTuneError) as error:
        pt.load_study(file, settings={"search.stages.alhpa.num_trials": 3})
    shown = call("check", file, "--set", "search.stages.alhpa.num_trials=3")
    assert str(error.value) in shown
    with pytest.raises(pt.PsvaeTuneError, match="must be made of numbers, texts"):
        pt.load_study(file, settings={"training.max_n_epochs": Path()})


@pytest.mark.parametrize("file", ["absent.yaml", "."])
def test_a_file_that_is_none_is_the_same_error_as_on_the_command_line(tmp_path, file):
    with pytest.raises(pt.PsvaeTuneError) as error:
        pt.load_study(tmp_path / file)
    assert str(tmp_path) in str(error.value)


def test_a_study_that_exists_is_refused_with_the_way_to_resume_it(root, tmp_path):
    plan = pt.load_study(root / "search_spaces" / "ps_vae.yaml")
    OutputFolder(tmp_path).study("taken").save_study_file(plan.contents)
    with pytest.raises(pt.PsvaeTuneError, match="'taken': exists in") as error:
        pt.run_study(plan, tmp_path, name="taken")
    file = root / "search_spaces" / "ps_vae.yaml"
    shown = call("run", file, "--output", tmp_path, "--name", "taken")
    assert str(error.value) in shown


def test_a_store_that_is_not_there_is_one_error(tmp_path):
    with pytest.raises(pt.PsvaeTuneError, match="holds no studies") as error:
        pt.open_study("absent", output=tmp_path)
    assert str(error.value) in call("report", "absent", "--output", tmp_path)
    with pytest.raises(pt.PsvaeTuneError, match="does not answer"):
        pt.open_study("absent", tracking_uri="http://127.0.0.1:9")


def test_a_model_that_is_not_there_is_one_error(tmp_path):
    with pytest.raises(pt.PsvaeTuneError, match="does not exist"):
        pt.load_model(tmp_path / "model.pt")


def test_an_unknown_argument_names_the_nearest_one():
    for function, wrong, near in (
        (pt.run_study, "nmae", "name"),
        (pt.load_study, "setings", "settings"),
        (pt.fit, "divice", "device"),
        (pt.import_session, "keypoint", "keypoints"),
    ):
        with pytest.raises(pt.PsvaeTuneError, match=f"did you mean '{near}'"):
            function("x", **{wrong: 1})


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({}, "needs"),
        (SMALL | {"ps_vae.alhpa": 1}, "did you mean `ps_vae.alpha`"),
        (SMALL | {"max_n_epochs": 0}, "training.max_n_epochs"),
        (SMALL | {"model_class": "psvae"}, "did you mean `ps-vae`"),
    ],
)
def test_a_wrong_configuration_is_one_error(config, problem):
    with pytest.raises(pt.PsvaeTuneError) as error:
        pt.fit(make_session(), config)
    assert problem in str(error.value) or "model_class" in str(error.value)


def test_recordings_that_are_not_there_are_one_error(tmp_path):
    with pytest.raises(pt.PsvaeTuneError, match="no such file"):
        pt.read_session(tmp_path / "absent.h5")
    with pytest.raises(pt.PsvaeTuneError, match="at least one recording"):
        pt.fit([], SMALL)
    with pytest.raises(pt.PsvaeTuneError, match=r"absent\.mp4"):
        pt.import_session(tmp_path / "absent.mp4", output=tmp_path / "session.h5")
    assert not list(tmp_path.iterdir())
