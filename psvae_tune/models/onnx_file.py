"""The encoder of a fitted model as an ONNX file, for programs that run without Python.

::

    frames     uint8 (frame, channel, height, width), as a recording stores them
    labels_sc  float32 (frame, label) in pixels; of a conditional encoder alone
    latents    float32 (frame, latent): posterior means, in the coordinates of the partition
    labels     float32 (frame, label) in the user's units, if the model predicts them
"""

import copy
import hashlib
import json
import logging
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from psvae_tune import __version__
from psvae_tune.data.recorded_view import to_plain
from psvae_tune.errors import ConfigError, StorageError
from psvae_tune.files import replace_when_whole, require_absent
from psvae_tune.models.batch import expand_sessions
from psvae_tune.models.layers.blocks import Block
from psvae_tune.models.model import Model
from psvae_tune.models.model_file import SavedModel

_PACKAGES = ("onnx", "onnxscript")


class EncoderGraph(nn.Module):
    """The operations from stored frames to latents and labels, for one session of the fit."""

    coordinates: Tensor
    """(latent, latent): the change from the model's coordinates to those of its partition."""
    shift: Tensor
    """(label,): what a standardised 0 is in the user's units; ``scale`` is the size of a 1."""
    scale: Tensor

    def __init__(self, saved: SavedModel, session_index: int) -> None:
        super().__init__()
        self.model = copy.deepcopy(saved.model).cpu().eval()
        for block in self.model.net.modules():
            if isinstance(block, Block) and len(block.conv) > 1:
                block.conv = nn.ModuleList([block.conv[session_index]])
        n_latents = self.model.partition.n_latents
        # A change of coordinates is linear, but how a model finds it is no part of ONNX.
        coordinates = self.model.to_partition(torch.eye(n_latents)).detach()
        self.register_buffer("coordinates", coordinates)
        scaler = saved.label_scaler
        row = scaler.row(session_index)
        self.register_buffer("shift", torch.tensor(scaler.mean[row], dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scaler.std[row], dtype=torch.float32))

    def forward(self, frames: Tensor, labels_sc: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the latents and, where the model predicts them, the labels."""
        mean = self.model.encode(frames.to(torch.float32) / 255, labels_sc).mean
        latents = mean @ self.coordinates
        labels = self.model.predict_labels(mean)
        return (latents,) if labels is None else (latents, labels * self.scale + self.shift)


def write_onnx(
    saved: SavedModel, path: Path, session_index: int = 0, about: Mapping[str, str] | None = None
) -> None:
    """Write the encoder of a model to an ONNX file, which appears whole or not at all.

    Parameters
    ----------
    saved, path, session_index
        As of `FittedModel.export_onnx`, which says what the file holds.
    about
        Further entries of the metadata.

    Raises
    ------
    ConfigError, DataError, StorageError
        If it cannot be written; see `FittedModel.export_onnx`.
    """
    check_onnx_target(saved, path, session_index)
    program = _trace(EncoderGraph(saved, session_index), saved.model)
    program.model.metadata_props.update(_describe(saved, session_index) | dict(about or {}))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_when_whole(path) as beside:
            program.save(str(beside))
    except OSError as error:
        raise StorageError(str(path), f"cannot be written: {error.strerror}") from error


def check_onnx_target(saved: SavedModel, path: Path, session_index: int) -> None:
    """Make sure before the work that a model can be written to an ONNX file.

    Raises
    ------
    ConfigError, DataError, StorageError
        If it cannot; see `write_onnx`.
    """
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise ConfigError(
            "ONNX",
            f"needs packages that are not installed: {', '.join(missing)}",
            hint="pip install 'psvae-tune[onnx]'",
        )
    expand_sessions(session_index, 1, saved.model.shape.n_sessions)
    require_absent(path, "file")


def _trace(graph: EncoderGraph, model: Model) -> Any:
    """Return the program of PyTorch's exporter, for any number of frames."""
    shape = model.shape
    inputs = {
        "frames": torch.zeros(2, shape.n_channels, shape.height, shape.width, dtype=torch.uint8)
    }
    if model.config.conditional_encoder:
        inputs["labels_sc"] = torch.zeros(2, shape.n_labels)
    n_frames = torch.export.Dim("n_frames")
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what PyTorch's own exporter calls
            return torch.onnx.export(
                graph.eval(),
                tuple(inputs.values()),
                dynamo=True,
                dynamic_shapes=tuple({0: n_frames} for _ in inputs),
                input_names=list(inputs),
                output_names=["latents", "labels"][: len(graph(*inputs.values()))],
                verbose=False,
            )
    finally:
        logger.setLevel(level)


def _describe(saved: SavedModel, session_index: int) -> dict[str, str]:
    """Return the metadata of a file, each entry a text or JSON."""
    model, digest = saved.model, hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    shape = model.shape
    predicts = "labels_hat" in model.config.capabilities
    return {
        "psvae_tune": __version__,
        "model_class": model.config.model_class,
        "weights_sha256": digest.hexdigest(),
        "session_index": str(session_index),
        "frames": "uint8 (frame, channel, height, width), 0 to 255, of the part in `views`",
        "frame_shape": json.dumps([shape.n_channels, shape.height, shape.width]),
        "views": json.dumps(to_plain(saved.views(session_index))),
        "latent_names": json.dumps(model.partition.name_latents(saved.label_names)),
        "latent_units": "those of the model",
        "label_names": json.dumps(saved.label_names if predicts else []),
        "label_units": "those of the recording that the model was fitted on",
    }
