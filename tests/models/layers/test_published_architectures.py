"""Networks of any published architecture, against the published layers one by one."""

from typing import Any

import numpy as np
import pytest
import torch

from psvae_tune.models.behavenet import model_from_reference
from tests.support.published_net import PublishedNet

POOLED = {
    "ae_network_type": "max_pooling",
    "ae_encoding_n_channels": [4, 4, 6, 6],
    "ae_encoding_kernel_size": [3, 2, 5, 2],
    "ae_encoding_stride_size": [1, 2, 1, 2],
    "ae_encoding_layer_type": ["conv", "maxpool", "conv", "maxpool"],
}
STRIDED = {
    "ae_network_type": "strides_only",
    "ae_encoding_n_channels": [4, 6, 8],
    "ae_encoding_kernel_size": [5, 4, 3],
    "ae_encoding_stride_size": [2, 2, 2],
    "ae_encoding_layer_type": ["conv", "conv", "conv"],
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "strided": STRIDED,
    "strided valid": {**STRIDED, "ae_padding_type": "valid"},
    "strided batch norm": {**STRIDED, "ae_batch_norm": 1, "ae_batch_norm_momentum": 0.1},
    "batch norm without momentum": {**STRIDED, "ae_batch_norm": 1, "ae_batch_norm_momentum": None},
    "pooled": POOLED,
    "pooled valid": {**POOLED, "ae_padding_type": "valid"},
    "pooled batch norm": {**POOLED, "ae_batch_norm": 1, "ae_batch_norm_momentum": 0.1},
    "last layer fully connected": {**STRIDED, "ae_decoding_last_FF_layer": 1},
    "fully connected batch norm": {
        **STRIDED,
        "ae_batch_norm": 1,
        "ae_batch_norm_momentum": 0.1,
        "ae_decoding_last_FF_layer": 1,
    },
    "explicit decoder": {
        **STRIDED,
        "symmetric_arch": 0,
        "ae_decoding_starting_dim": [5, 3, 4],
        "ae_decoding_n_channels": [7, 3],
        "ae_decoding_kernel_size": [3, 5],
        "ae_decoding_stride_size": [2, 1],
        "ae_decoding_layer_type": ["convtranspose", "convtranspose"],
        "ae_decoding_last_FF_layer": 1,
    },
}
# Sizes that strides divide and sizes that they do not, of one channel and of two.
SHAPES = [(1, 24, 32), (2, 23, 29), (1, 19, 30)]


def stir(net: PublishedNet) -> PublishedNet:
    """Give batch normalisation statistics that are not those of a new network."""
    for name, buffer in net.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return net.eval()


def as_state(net: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in net.state_dict().items()}


@pytest.fixture
def frames_of() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield lambda shape: torch.rand(3, *shape)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_network_is_the_published_one(name: str, shape: tuple[int, ...], frames_of: Any) -> None:
    net, frames = stir(PublishedNet(ARCHITECTURES[name], shape, 6)), frames_of(shape)
    meta = {"model_class": "ae", "n_ae_latents": 6, "architecture": ARCHITECTURES[name]}
    said = model_from_reference(meta, as_state(net)).predict(frames)
    with torch.no_grad():
        latents, frames_hat = net(frames)
    assert said.frames.shape == frames.shape
    torch.testing.assert_close(said.mean, latents)
    torch.testing.assert_close(said.frames, frames_hat)


def test_explicit_decoder_that_ends_at_the_frames(frames_of: Any) -> None:
    arch = {
        **STRIDED,
        "symmetric_arch": 0,
        "ae_decoding_starting_dim": [5, 5, 6],
        "ae_decoding_n_channels": [7, 1],
        "ae_decoding_kernel_size": [3, 4],
        "ae_decoding_stride_size": [2, 4],
        "ae_decoding_layer_type": ["convtranspose", "convtranspose"],
    }
    frames = frames_of((1, 33, 41))
    net = stir(PublishedNet(arch, (1, 33, 41), 6))
    meta = {"model_class": "ae", "n_ae_latents": 6, "architecture": arch}
    said = model_from_reference(meta, as_state(net)).predict(frames)
    with torch.no_grad():
        torch.testing.assert_close(said.frames, net(frames)[1])


@pytest.mark.parametrize("session", [0, 1, 2])
def test_session_specific_layers_are_the_published_ones(session: int, frames_of: Any) -> None:
    net, frames = PublishedNet(STRIDED, (1, 21, 26), 6, n_sessions=3), frames_of((1, 21, 26))
    meta = {
        "model_class": "ae",
        "n_ae_latents": 6,
        "architecture": STRIDED,
        "fit_sess_io_layers": True,
    }
    model = model_from_reference(meta, as_state(net))
    assert model.shape.n_sessions == 3
    with torch.no_grad():
        torch.testing.assert_close(
            model.predict(frames, session_index=session).frames, net(frames, session)[1]
        )


def test_linear_autoencoder_has_tied_weights(frames_of: Any) -> None:
    frames = frames_of((2, 4, 5))
    weight, bias, shift = torch.randn(3, 40), torch.randn(3), torch.randn(40)
    # The tied weights appear under a second name.
    state = {
        "encoding.encoder.weight": weight,
        "encoding.encoder.bias": bias,
        "decoding.bias": shift,
        "decoding.encoder.encoder.weight": weight,
        "decoding.encoder.encoder.bias": bias,
    }
    model = model_from_reference(
        {"model_class": "ae", "n_ae_latents": 3},
        {name: value.numpy() for name, value in state.items()},
    )
    said = model.predict(frames)
    latents = frames.flatten(1) @ weight.T + bias
    torch.testing.assert_close(said.mean, latents)
    torch.testing.assert_close(said.frames, (latents @ weight + shift).view(3, 2, 4, 5))


def test_what_a_fitted_version_stores_beside_the_architecture_is_ignored(frames_of: Any) -> None:
    stored = {
        **STRIDED,
        "ae_encoding_x_dim": [20, 10, 5],
        "ae_decoding_n_channels": [6, 4, 1],
        "ae_decoding_kernel_size": [3, 4, 5],
        "ae_decoding_stride_size": [2, 2, 2],
        "ae_decoding_starting_dim": [8, 5, 5],
        "ae_input_dim": [1, 40, 40],
        "mem_size_gb": 0.1,
    }
    net, frames = PublishedNet(STRIDED, (1, 40, 40), 6), frames_of((1, 40, 40))
    meta = {"model_class": "ae", "n_ae_latents": 6, "architecture": stored}
    with torch.no_grad():
        torch.testing.assert_close(
            model_from_reference(meta, as_state(net)).predict(frames).frames, net(frames)[1]
        )
