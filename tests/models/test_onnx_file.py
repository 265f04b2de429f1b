"""An encoder as ONNX gives what PyTorch gives, for every model."""

import json

import numpy as np
import pytest
import torch

from psvae_tune.data.label_scaler import LabelScaler
from psvae_tune.errors import ConfigError, DataError, StorageError
from psvae_tune.models import onnx_file
from psvae_tune.models.encoding import encode
from psvae_tune.models.model_file import SavedModel
from psvae_tune.models.registry import build_model
from psvae_tune.results.fitted_model import FittedModel
from psvae_tune.results.recording_frames import open_recording
from tests.support.architectures import ARCHITECTURES
from tests.support.small_models import SHAPE, VARIANTS, make_config

runtime = pytest.importorskip("onnxruntime")

NAMES = ["nose_x", "paw_x", "nose_y", "paw_y"]
VIEW = {"video_size": [40, 30], "crop": [34, 24, 3, 2], "is_colour": False}
quick, slow = ("ps-vae",), [name for name in VARIANTS if name != "ps-vae"]


def make_model(**settings):
    config = make_config(**settings)
    torch.manual_seed(0)
    model = build_model(config, SHAPE)
    # As after a fit: statistics of batches that are not those of the first step.
    model.train()
    with torch.no_grad():
        for weight in model.net.parameters():
            weight.mul_(3)
        frames = torch.rand(6, SHAPE.n_channels, SHAPE.height, SHAPE.width)
        model.encode(frames, torch.rand(6, SHAPE.n_labels) * 9, torch.arange(6) % 2)
    scaler = LabelScaler(
        np.array([[500.0, 1, 2, 3], [7, 8, 9, 10]]), np.array([[2.0, 3, 4, 5], [0.1, 1, 2, 3]])
    )
    extra = {"label_names": NAMES, "views": [[VIEW], []]}
    return FittedModel(SavedModel(model.eval(), scaler, extra))


def check(fitted, path, session_index=0):
    """Compare a file with the model, for batches of several lengths; return its metadata."""
    graph = runtime.InferenceSession(path)
    assert graph.get_inputs()[0].type == "tensor(uint8)"
    for n_frames in (1, 2, 9):
        rng = np.random.default_rng(n_frames)
        size = (n_frames, SHAPE.n_channels, SHAPE.height, SHAPE.width)
        frames = rng.integers(0, 256, size, dtype=np.uint8)
        inputs, points = {"frames": frames}, None
        if fitted.model.config.conditional_encoder:
            points = rng.uniform(-2, 20, (n_frames, 4)).astype(np.float32)
            points[0, 1] = np.nan
            inputs["labels_sc"] = points
        seen = encode_in_pytorch(fitted, frames, points, session_index)
        found = dict(
            zip([o.name for o in graph.get_outputs()], graph.run(None, inputs), strict=True)
        )
        assert found.keys() == seen.keys()
        for name, values in seen.items():
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], values, atol=1e-4, rtol=1e-5)
    return graph.get_modelmeta().custom_metadata_map


def encode_in_pytorch(fitted, frames, points, session_index):
    batches = open_recording(frames, points).iter_batches(fitted.model, session_index)
    encoded = encode(fitted.model, batches)
    seen = {"latents": encoded.latents}
    if encoded.labels_hat is not None:
        seen["labels"] = fitted.saved.label_scaler.inverse(encoded.labels_hat, session_index)
    return seen


@pytest.mark.parametrize(
    "variant", [*quick, *(pytest.param(name, marks=pytest.mark.slow) for name in slow)]
)
def test_the_graph_is_the_encoder(tmp_path, variant):
    fitted, path = make_model(**VARIANTS[variant]), tmp_path / "model.onnx"
    fitted.export_onnx(path)
    told = check(fitted, path)
    assert json.loads(told["latent_names"]) == list(fitted.latent_names)
    predicts = "labels_hat" in fitted.model.config.capabilities
    assert json.loads(told["label_names"]) == (NAMES if predicts else [])
    assert json.loads(told["frame_shape"]) == [1, 12, 17]
    assert json.loads(told["views"]) == [VIEW]
    assert told["model_class"] == fitted.model.config.model_class
    assert len(told["weights_sha256"]) == 64
    with pytest.raises(StorageError, match="exists already"):
        fitted.export_onnx(path)
    assert [item.name for item in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("session_index", [0, 1])
@pytest.mark.parametrize("model_class", ["ps-vae", "msps-vae"])
def test_a_session_has_its_own_layers_and_units(tmp_path, model_class, session_index):
    fitted = make_model(model_class=model_class, fit_sess_io_layers=True)
    path = tmp_path / "model.onnx"
    fitted.export_onnx(path, session_index)
    assert check(fitted, path, session_index)["session_index"] == str(session_index)
    other = runtime.InferenceSession(path)
    frames = np.arange(SHAPE.height * SHAPE.width, dtype=np.uint8).reshape(1, 1, 12, 17)
    (latents, _) = other.run(None, {"frames": frames})
    assert not np.allclose(latents, fitted.transform(frames, 1 - session_index), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_networks_of_every_kind_are_in_the_graph(tmp_path, architecture):
    fitted = make_model(model_class="vae", architecture=ARCHITECTURES[architecture])
    fitted.export_onnx(tmp_path / "model.onnx")
    check(fitted, tmp_path / "model.onnx")


def test_what_cannot_be_written_is_one_error(tmp_path, monkeypatch):
    fitted = make_model(model_class="ae")
    with pytest.raises(DataError, match="session_index"):
        fitted.export_onnx(tmp_path / "model.onnx", 2)
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"psvae-tune\[onnx\]"):
        fitted.export_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
