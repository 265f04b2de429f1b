"""Fitted version folders, made from the outputs of the reference implementation."""

import csv
import io
import pickle
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from psvae_tune.cli.commands import main
from psvae_tune.data.session_file import read_session, write_session
from psvae_tune.errors import DataError, PsvaeTuneError, StorageError
from psvae_tune.results.behavenet import import_version, read_version
from psvae_tune.results.fitted_model import FittedModel
from psvae_tune.tracking.client import open_target

ARCHITECTURE = {
    "ae_network_type": "strides_only", "ae_padding_type": "same", "ae_batch_norm": False,
    "ae_batch_norm_momentum": None, "symmetric_arch": True,
    "ae_encoding_n_channels": [2, 3], "ae_encoding_kernel_size": [3, 3],
    "ae_encoding_stride_size": [2, 2], "ae_encoding_layer_type": ["conv", "conv"],
    "ae_decoding_last_FF_layer": 0,
}  # fmt: skip
META = {
    "model_class": "ps-vae", "model_type": "conv", "experiment_name": "published run",
    "n_ae_latents": 3, "ps_vae.alpha": 1000, "ps_vae.beta": 5, "ps_vae.anneal_epochs": 100,
    "l2_reg": 0.0, "rng_seed_model": 1, "learning_rate": 0.0001, "max_n_epochs": 200,
    "rng_seed_train": None, "trial_splits": "8;1;1;0", "rng_seed_data": 0, "train_frac": 0.5,
    "fit_sess_io_layers": False, "conditional_encoder": False, "n_background": 3,
    "y_pixels": 8, "x_pixels": 12, "lab": "here", **ARCHITECTURE,
}  # fmt: skip


def make_state() -> dict[str, torch.Tensor]:
    """Parameters of such a model under the published names."""
    rng = torch.Generator().manual_seed(0)
    shapes = {
        "encoding.encoder.conv0.weight": (2, 1, 3, 3), "encoding.encoder.conv0.bias": (2,),
        "encoding.encoder.conv1.weight": (3, 2, 3, 3), "encoding.encoder.conv1.bias": (3,),
        "encoding.FF.weight": (3, 18), "encoding.FF.bias": (3,),
        "encoding.logvar.weight": (3, 18), "encoding.logvar.bias": (3,),
        "encoding.D.weight": (2,), "encoding.D.bias": (2,),
        "decoding.FF.weight": (18, 3), "decoding.FF.bias": (18,),
        "decoding.decoder.convtranspose0.weight": (3, 2, 3, 3),
        "decoding.decoder.convtranspose0.bias": (2,),
        "decoding.decoder.convtranspose1.weight": (2, 1, 3, 3),
        "decoding.decoder.convtranspose1.bias": (1,),
    }  # fmt: skip
    state = {name: 0.3 * torch.randn(shape, generator=rng) for name, shape in shapes.items()}
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=rng))[0]
    return state | {"encoding.A.weight": rotation[:2], "encoding.B.weight": rotation[2:]}


def write_version(folder: Path, **changes: object) -> Path:
    folder.mkdir()
    torch.save(make_state(), folder / "best_val_model.pt")
    (folder / "meta_tags.pkl").write_bytes(pickle.dumps(Exploit()))
    with (folder / "meta_tags.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "value"])
        rows.writerows({**META, **changes}.items())
    return folder


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (io.open, ("exploited", "w"))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = rng.standard_normal((60, 2)).astype(np.float32)
    path = tmp_path / "session.h5"
    write_session(
        path,
        rng.integers(0, 256, (60, 1, 8, 12), dtype=np.uint8),
        [6] * 10,
        label_names=("x", "y"),
        labels=labels,
    )
    return path


def test_a_version_becomes_a_run_like_ours(tmp_path, recording, monkeypatch):
    monkeypatch.chdir(tmp_path)
    version = write_version(tmp_path / "version_3")
    arguments = ["import-behavenet", str(version), "--data", str(recording), "--output", "out"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    printed = dict(line.split() for line in done.stdout.splitlines())
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/out/mlflow.db")
    experiment = client.get_experiment_by_name("published run")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["psvae_tune.kind"] == "trial"
    assert run.data.params["ps_vae.alpha"] == "1000.0"
    assert run.data.params["max_n_epochs"] == "200"
    assert run.data.params["label_scaling"] == "none"
    assert float(printed["test/frame_mse"]) == pytest.approx(
        run.data.metrics["test/frame_mse"], rel=1e-4
    )
    for key in ("best/frame_mse", "best/label_r2", "test/leak_r2", "test/active_units"):
        assert key in run.data.metrics
    assert "alpha_normalised" in run.data.params
    path = client.download_artifacts(run.info.run_id, "model.pt", str(tmp_path))
    session = read_session(recording, needs_labels=True)
    labels = FittedModel.load(path).predict_labels(session)
    rebuilt = model_of(version).predict(session.frames / 255)
    np.testing.assert_allclose(labels, rebuilt.labels, atol=1e-5)
    # Once more, and there is still one run.
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert len(client.search_runs([experiment.experiment_id])) == 1
    assert not (tmp_path / "exploited").exists()


def model_of(folder: Path):
    from psvae_tune.models.behavenet import model_from_reference

    version = read_version(folder)
    shape = {"n_labels": 2, "y_pixels": 8, "x_pixels": 12, "architecture": ARCHITECTURE}
    return model_from_reference({**version.meta, **shape}, version.state)


def test_settings_are_read_as_literals(tmp_path):
    meta = read_version(write_version(tmp_path / "version_0")).meta
    assert meta == {**META, "rng_seed_train": None, "ae_batch_norm_momentum": None}


def test_a_pickle_is_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_version(tmp_path / "version_0")
    for write in (
        lambda path: path.write_bytes(pickle.dumps(Exploit())),
        lambda path: torch.save({"weight": Exploit()}, path),
    ):
        write(folder / "best_val_model.pt")
        with pytest.raises(StorageError, match="a pickle"):
            read_version(folder)
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("best_val_model.pt", None, "cannot be read: No such file"),
        ("best_val_model.pt", b"", "cut short"),
        ("meta_tags.csv", None, "cannot be read: No such file"),
        ("meta_tags.csv", b"\xff\xfe", "is not a CSV file"),
        ("meta_tags.csv", b"a,b\n", "must have the columns key,value"),
        ("meta_tags.csv", b"key,value\nmodel_class,spam\n", "got 'spam'"),
        ("meta_tags.csv", b"key,value\nmodel_class,ps-vae\n", "n_ae_latents: is required"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, recording, name, content, message):
    path = write_version(tmp_path / "version_0") / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(PsvaeTuneError, match=message):
        run_import(tmp_path / "version_0", recording, tmp_path)


def test_weights_of_another_model(tmp_path, recording):
    folder = write_version(tmp_path / "version_0", n_ae_latents=4)
    with pytest.raises(StorageError, match="are not those of this `ps-vae`"):
        run_import(folder, recording, tmp_path)


def test_recordings_of_another_size(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (60, 1, 16, 16), dtype=np.uint8)
    path = tmp_path / "large.h5"
    labels = rng.standard_normal((60, 2)).astype(np.float32)
    write_session(path, frames, [6] * 10, label_names=("x", "y"), labels=labels)
    with pytest.raises((DataError, StorageError), match=r"fit|not those"):
        run_import(write_version(tmp_path / "version_0"), path, tmp_path)


def run_import(folder: Path, recording: Path, output: Path) -> None:
    version = read_version(folder)
    sessions = [read_session(recording, needs_labels=True)]
    target = open_target(f"sqlite:///{output}/mlflow.db", "x", "x", output / "artifacts")
    import_version(version, sessions, target, torch.device("cpu"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["version_0"], "got no --data"),
        (["version_0", "a.json", "--data", "demo"], "JSON files or one version folder"),
    ],
)
def test_requests_that_make_no_sense(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_version(tmp_path / "version_0")
    done = CliRunner().invoke(main, ["import-behavenet", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
