from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from psvae_tune.cli.commands import main
from psvae_tune.config.behavenet import import_settings, read_json_with_comments
from psvae_tune.config.study_file import read_study_file
from psvae_tune.data.demo import write_demo
from psvae_tune.errors import ConfigError
from psvae_tune.study.plan import make_plan

FILES = {
    "ae_model.json": """{
        # ---- what is often changed ----
        "experiment_name": "ps-example", # a name
        "model_type": "conv",
        "n_ae_latents": [6, 8], // two values
        "l2_reg": 0.0, "rng_seed_model": [0, 1, 2],
        "fit_sess_io_layers": false, "ae_arch_json": null,
        "model_class": "ps-vae", "conditional_encoder": false,
        "msp.alpha": null, "vae.beta": 1, "vae.beta_anneal_epochs": 100,
        "beta_tcvae.beta": 1, "beta_tcvae.beta_anneal_epochs": 100,
        "ps_vae.alpha": [100, 1000], "ps_vae.beta": 5, "ps_vae.gamma": 1, "ps_vae.delta": 1,
        "ps_vae.anneal_epochs": 100, "n_background": 3,
        "n_sessions_per_batch": 1,  # the last one, with a comma
    }""",
    "ae_training.json": """{
        "export_train_plots": true, "export_latents": true, "pretrained_weights_path": null,
        "val_check_interval": 1, "learning_rate": 1e-4, "max_n_epochs": 200, "min_n_epochs": 100,
        "enable_early_stop": false, "early_stop_history": 10, "rng_seed_train": null,
        "as_numpy": false, "batch_load": true, "rng_seed_data": 3, "train_frac": 0.5,
        "trial_splits": "8;1;1;0" // i;j;k;l
    }""",
    "ae_compute.json": """{
        "device": "cuda", "n_parallel_gpus": 1, "gpus_viz": "0;1",
        #"slurm": true, # left out
        "tt_n_gpu_trials": 1000, "tt_n_cpu_trials": 1000, "tt_n_cpu_workers": 5,
        "mem_limit_gb": 8.0
    }""",
    "data.json": """{
        "lab": "lab", "expt": "expt", "animal": "animal", "session": "2020//01 # a",
        "sessions_csv": "", "all_source": "save", "n_input_channels": 1, "y_pixels": 32,
        "x_pixels": 32, "use_output_mask": false, "use_label_mask": true,
        "neural_bin_size": null, "neural_type": "ca", "approx_batch_size": 200, "spam": 1
    }""",
}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return [tmp_path / name for name in FILES]


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_check_accepts_what_was_imported(files, tmp_path):
    recording = tmp_path / "lab/expt/animal/2020/01 # a/data.hdf5"
    recording.parent.mkdir(parents=True)
    write_demo(recording, n_clips=10, clip_length=6)
    study = tmp_path / "study.yaml"
    arguments = [*map(str, files), "--data-dir", str(tmp_path), "--to", str(study)]
    done = CliRunner().invoke(main, ["import-behavenet", *arguments])
    assert done.exit_code == 0, done.output
    checked = CliRunner().invoke(main, ["check", str(study)])
    assert checked.exit_code == 0, checked.output
    assert checked.output.startswith("ps-vae: up to 12 trials of up to 200 epochs")
    plan = make_plan(read_study_file(study), str(study))
    (stage,) = plan.study.stages
    assert {name: domain.values for name, domain in stage.space.items()} == {
        "n_ae_latents": (6, 8),
        "rng_seed_model": (0, 1, 2),
        "ps_vae.alpha": (100, 1000),
    }
    assert stage.objectives == {"val/frame_mse": "min", "val/label_r2": "max"}
    base = plan.study.base
    assert base.model.model_dump(by_alias=True)["ps_vae.beta"] == 5
    assert (base.training.learning_rate, base.training.train_frac) == (1e-4, 0.5)
    assert (base.data.rng_seed_data, base.data.sessions) == (3, (str(recording),))


def test_everything_left_out_is_told(files):
    imported = import_settings(files)
    kept = yaml.safe_dump(imported.raw)
    told = " ".join(imported.notes)
    for path in files:
        for key in read_json_with_comments(path):
            is_path = key in ("lab", "expt", "animal", "session", "sessions_csv", "ae_arch_json")
            assert is_path or key in kept or f"`{key}`" in told, key
    assert "`spam` is left out: not known, got 1" in imported.notes
    assert "`vae.beta` is left out: `ps-vae` has no such setting" in imported.notes
    assert "`rng_seed_train` is null: the default of this project is used" in imported.notes


def test_without_to_the_file_goes_to_stdout(files):
    done = CliRunner().invoke(main, ["import-behavenet", *map(str, files)])
    assert yaml.safe_load(done.stdout)["model"]["model_class"] == "ps-vae"
    assert "`spam` is left out" in done.stderr


def test_order_of_the_files_does_not_matter(files):
    assert import_settings(files).raw["model"] == import_settings(files[::-1]).raw["model"]


def test_several_sessions(files, tmp_path):
    edit(files[3], '"sessions_csv": ""', '"sessions_csv": "list.csv"')
    (tmp_path / "list.csv").write_text("lab,expt,animal,session\na,b,c,d\na,b,c,e\n")
    edit(files[0], '"ps-vae"', '"msps-vae"')
    edit(files[0], "[6, 8]", "[12, 16]")
    imported = import_settings(files, Path("/data"))
    assert imported.raw["data"]["sessions"] == [
        "/data/a/b/c/d/data.hdf5", "/data/a/b/c/e/data.hdf5",
    ]  # fmt: skip
    assert imported.raw["model"]["n_background"] == 3
    assert any("n_sessions_per_batch" in note for note in imported.notes)


def test_all_stands_for_every_folder(files, tmp_path):
    edit(files[3], '"animal": "animal"', '"animal": "all"')
    edit(files[3], '"2020//01 # a"', '"all"')
    for below in ("b/2", "a/1"):
        folder = tmp_path / "lab/expt" / below
        folder.mkdir(parents=True)
        (folder / "data.hdf5").touch()
    found = import_settings(files, tmp_path).raw["data"]["sessions"]
    assert found == [str(tmp_path / f"lab/expt/{below}/data.hdf5") for below in ("a/1", "b/2")]
    with pytest.raises(ConfigError, match=r"no data\.hdf5 below"):
        import_settings(files, tmp_path / "absent")


def test_an_architecture_file_is_beside_the_model_file(files, tmp_path):
    edit(files[0], '"ae_arch_json": null', '"ae_arch_json": "arch.json"')
    (tmp_path / "arch.json").write_text('{"ae_padding_type": "valid"} # no padding')
    assert import_settings(files).raw["model"]["ae_arch_json"] == {"ae_padding_type": "valid"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"ps-vae"', '"ps-vea"', "model_class must be one of .* got 'ps-vea'"),
        ('"rng_seed_model": [0, 1, 2]', '"rng_seed_data": 0', "`rng_seed_data` is 0 in ae_model"),
        ('"ps_vae.anneal_epochs": 100', '"ps_vae.anneal_epochs": 300', "at least the 300 epochs"),
        ('"model_type": "conv"', '"model_type" "conv"', "not JSON with comments: line 4"),
    ],
)
def test_files_that_cannot_be_used(files, old, new, message):
    edit(files[0], old, new)
    with pytest.raises(ConfigError, match=message):
        import_settings(files)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "got list"),
        (b"\xff", "is not JSON"),
        (b"", "line 1"),
        (b'{"a": 1, "b": [{"c": 1, "c": 1}]}', "`c` stands twice"),
    ],
)
def test_files_that_are_no_settings(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_json_with_comments(path)


def test_a_missing_data_file(files):
    with pytest.raises(ConfigError, match="must name lab, expt, animal, session"):
        import_settings(files[:3])
    with pytest.raises(ConfigError, match="No such file"):
        import_settings([files[0].parent / "absent.json"])
