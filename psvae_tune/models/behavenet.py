"""Turn models fitted by the reference implementation (BehaveNet) into models of this project."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psvae_tune.config.architecture import Architecture
from psvae_tune.config.model import MODEL_CONFIGS, ModelConfig
from psvae_tune.config.settings import parse_settings, setting_names
from psvae_tune.errors import ConfigError, StorageError
from psvae_tune.models.batch import DataShape
from psvae_tune.models.layers.architecture import FrameSize, NetworkPlan, plan_network
from psvae_tune.models.model import Model
from psvae_tune.models.registry import build_model

WHERE = "reference model"
State = Mapping[str, NDArray[Any]]

# Names of parameters: a pattern for those of the reference implementation, and ours.
RENAMES = (
    (r"encoding\.encoder\.conv(\d+)_sess_io_layers\.(.+)", r"net.encoder.blocks.\1.conv.\2"),
    (r"encoding\.encoder\.conv(\d+)\.(.+)", r"net.encoder.blocks.\1.conv.0.\2"),
    (r"encoding\.encoder\.batchnorm(\d+)\.(.+)", r"net.encoder.blocks.\1.norm.\2"),
    (r"encoding\.encoder\.(weight|bias)", r"net.mean.\1"),
    (r"encoding\.FF\.(.+)", r"net.mean.\1"),
    (r"encoding\.logvar\.(.+)", r"net.logvar.\1"),
    (r"encoding\.D\.(.+)", r"readout.\1"),
    (r"decoding\.FF\.(.+)", r"net.decoder.start.\1"),
    (
        r"decoding\.decoder\.convtranspose(\d+)_sess_io_layers\.(.+)",
        r"net.decoder.blocks.\1.conv.\2",
    ),
    (r"decoding\.decoder\.convtranspose(\d+)\.(.+)", r"net.decoder.blocks.\1.conv.0.\2"),
    (r"decoding\.decoder\.batchnorm(\d+)\.(.+)", r"net.decoder.blocks.\1.norm.\2"),
    (r"decoding\.decoder\.last_ff\d+\.(.+)", r"net.decoder.last.0.\1"),
    (r"decoding\.bias", r"net.bias"),
    (r"projection\.(.+)", r"projection.\1"),
)
# Parameters that repeat others: the completion of the projection, a second name of tied weights.
REDUNDANT = re.compile(r"U\.|decoding\.encoder\.")


def model_from_reference(meta: Mapping[str, Any], state: State) -> Model:
    """Rebuild a model of the reference implementation.

    Parameters
    ----------
    meta
        ``model_class``, ``n_ae_latents``, ``n_labels``, ``architecture`` (published keys),
        ``weights`` (of the objective, by published name) and, where the model has them,
        ``conditional_encoder``, ``n_background``, ``fit_sess_io_layers``. The parameters do
        not always tell the size of the frames: ``y_pixels`` and ``x_pixels``, if given, let
        `Model.decode` work without frames to go by.
    state
        Parameters by their names in the reference implementation.

    Returns
    -------
    Model
        The model in evaluation mode.

    Raises
    ------
    ConfigError
        If ``meta`` does not describe a known model.
    StorageError
        If the parameters are not those of the model that ``meta`` describes.
    """
    config = _read_config(meta, state)
    try:
        model = build_model(config, _read_shape(meta, state, config))
    except KeyError as missing:
        raise StorageError(WHERE, f"lacks the parameter {missing}") from missing
    try:
        model.load_state_dict(_translate(state, model))
    except RuntimeError as error:
        raise StorageError(
            WHERE, f"its parameters are not those of this `{config.model_class}`: {error}"
        ) from error
    return model.eval()


def _read_config(meta: Mapping[str, Any], state: State) -> ModelConfig:
    name = meta.get("model_class")
    if name not in MODEL_CONFIGS:
        raise ConfigError(
            WHERE, f"model_class must be one of {', '.join(MODEL_CONFIGS)}, got {name!r}"
        )
    settings = setting_names(MODEL_CONFIGS[name])
    published = {
        **meta.get("weights", {}),
        **{key: value for key, value in meta.items() if value is not None},
        "model_type": "linear" if "encoding.encoder.weight" in state else "conv",
        "ae_arch_json": _read_architecture(meta.get("architecture") or {}),
    }
    problems: list[str] = []
    config = parse_settings(
        MODEL_CONFIGS[name],
        {key: value for key, value in published.items() if key in settings},
        "meta",
        problems,
    )
    if config is None:
        raise ConfigError(WHERE, problems)
    return config


def _read_architecture(published: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that decide the network; a fitted model also stores what follows."""
    decisive = set(Architecture.model_fields)
    if published.get("symmetric_arch", True):
        decisive -= {name for name in decisive if name.startswith("ae_decoding_")}
        decisive.add("ae_decoding_last_FF_layer")
    return {name: value for name, value in published.items() if name in decisive}


def _read_shape(meta: Mapping[str, Any], state: State, config: ModelConfig) -> DataShape:
    n_labels = int(meta.get("n_labels") or 0)
    n_sessions = 2 if config.needs_sessions else 1
    if "encoding.encoder.weight" in state:
        n_channels, size = 1, (1, state["encoding.encoder.weight"].shape[1])
    else:
        copies = [
            name
            for name in state
            if re.fullmatch(r"encoding\.encoder\.conv0(_sess_io_layers\.\d+)?\.weight", name)
        ]
        if not copies:
            raise KeyError("encoding.encoder.conv0.weight")
        n_sessions = max(n_sessions, len(copies))
        n_planes = n_labels // 2 if config.conditional_encoder else 0
        n_channels = state[copies[0]].shape[1] - n_planes
        plan = plan_network(config.ae_arch_json, n_channels, n_planes)
        size = _possible_size(plan, n_channels, state)
    if meta.get("y_pixels") and meta.get("x_pixels"):
        size = (int(meta["y_pixels"]), int(meta["x_pixels"]))
        n_channels = int(meta.get("n_input_channels") or n_channels)
    return DataShape(n_channels, *size, n_labels, n_sessions)


def _possible_size(plan: NetworkPlan, n_channels: int, state: State) -> FrameSize:
    """Return a size of frames for which the network has just these parameters.

    Convolutions fit frames of any size; only the fully connected layers narrow it down.
    """
    n_features = state["encoding.FF.weight"].shape[1]
    last = [name for name in state if re.fullmatch(r"decoding\.decoder\.last_ff\d+\.bias", name)]
    if plan.has_last_ff and last:
        sizes = _factors(len(state[last[0]]) // n_channels)
    elif plan.start is not None:
        sizes = iter(plan.decoder_sizes(plan.start[1:])[:1])
    else:
        sizes = (
            _smallest(plan, inner) for inner in _factors(n_features // plan.encoder[-1].n_inner)
        )
    for size in sizes:
        is_left = all(min(pair) > 0 for pair in plan.encoder_sizes(size))
        if is_left and plan.n_features(size) == n_features:
            return size
    raise StorageError(WHERE, f"no frames give the {n_features} features of `encoding.FF.weight`")


def _smallest(plan: NetworkPlan, inner: FrameSize) -> FrameSize:
    height, width = inner
    for layer in reversed(plan.encoder):
        height, width = layer.outer(height), layer.outer(width)
    return height, width


def _factors(n: int) -> Iterator[FrameSize]:
    """Yield the pairs of integers whose product is ``n``, the most equal ones first."""
    for height in range(int(n**0.5), 0, -1):
        if n % height == 0:
            yield height, n // height
            yield n // height, height


def _translate(state: State, model: Model) -> dict[str, Tensor]:
    """Return the parameters under our names, and the rotation as one matrix."""
    ours: dict[str, Tensor] = {}
    rest = dict(state)
    if "encoding.A.weight" in rest:
        blocks = [rest.pop(f"encoding.{block}.weight", None) for block in "ACB"]
        rotation = np.concatenate([block for block in blocks if block is not None])
        ours["rotation"] = _tensor(rotation)
        background_bias = rest.pop("encoding.C.bias", None)
        if background_bias is not None:
            # A shift after the rotation equals a rotated shift before it.
            shift = background_bias @ rotation[model.partition.background]
            rest["encoding.FF.bias"] = rest["encoding.FF.bias"] + shift
    for name, value in rest.items():
        if not REDUNDANT.match(name):
            ours[_rename(name)] = _tensor(value)
    return ours


def _rename(name: str) -> str:
    for pattern, replacement in RENAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    return name


def _tensor(value: NDArray[Any]) -> Tensor:
    return torch.tensor(np.asarray(value))
