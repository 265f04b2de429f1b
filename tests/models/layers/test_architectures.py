"""Sizes of networks, frames of any size, and architectures that cannot work."""

from typing import Any

import pytest
import torch

from psvae_tune.config.architecture import Architecture
from psvae_tune.errors import ConfigError, DataError
from psvae_tune.models.batch import DataShape
from psvae_tune.models.layers.architecture import Layer, plan_network
from psvae_tune.models.layers.blocks import pool, unpool
from psvae_tune.models.registry import build_model
from tests.support.architectures import ARCHITECTURES, EXPLICIT, POOLED, SPARSE
from tests.support.small_models import make_config

SIZES = [(72, 128), (37, 45), (64, 64), (41, 29)]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_frames_come_back_in_their_size(name: str, size: tuple[int, int], padding: str) -> None:
    architecture = {**ARCHITECTURES[name], "ae_padding_type": padding}
    if padding == "valid" and len(architecture["ae_encoding_n_channels"]) == 5:
        # Five convolutions of 5 pixels leave nothing of small frames.
        architecture["ae_encoding_kernel_size"] = [3, 3, 3, 2, 1]
    model = build_model(make_config("ae", architecture, n_ae_latents=3), DataShape(1, *size))
    said = model.eval().predict(torch.rand(2, 1, *size))
    assert said.frames.shape == (2, 1, *size)
    assert said.mean.shape == (2, 3)
    assert model.decode(said.mean.clone()).shape == (2, 1, *size)


@pytest.mark.parametrize("architecture", [SPARSE, EXPLICIT, POOLED], ids=str)
def test_last_layer_may_be_fully_connected(architecture: dict[str, Any]) -> None:
    config = make_config("ae", {**architecture, "ae_decoding_last_FF_layer": True})
    said = build_model(config, DataShape(1, 13, 18)).eval().predict(torch.rand(2, 1, 13, 18))
    assert said.frames.shape == (2, 1, 13, 18)


def test_default_architecture_is_the_published_one() -> None:
    plan = plan_network(Architecture(), 1, 0)
    assert [layer.n_inner for layer in plan.encoder] == [32, 64, 128, 256, 512]
    assert plan.encoder_sizes((128, 128)) == [(n, n) for n in (128, 64, 32, 16, 8, 2)]
    assert plan.decoder_sizes((128, 128)) == plan.encoder_sizes((128, 128))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kind", ["conv", "pool"])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_sizes_are_those_of_torch(padding: Any, kind: Any, kernel: int, stride: int) -> None:
    layer = Layer(kind, 1, 1, kernel, stride, padding)
    for size in range(kernel, 20):
        x = torch.zeros(1, 1, size)
        if kind == "pool":
            is_ceil = padding == "same"
            x = torch.nn.functional.max_pool1d(x, kernel, stride, ceil_mode=is_ceil)
        else:
            total = max(0, layer.overlap(size, layer.inner(size)))
            assert padding == "same" or total == 0
            x = torch.nn.functional.pad(x, (total // 2, total - total // 2))
            x = torch.nn.functional.conv1d(x, torch.ones(1, 1, kernel), stride=stride)
        assert layer.inner(size) == x.shape[2]
    for size in range(1, 8):
        assert layer.inner(layer.outer(size)) == size


def test_pooled_values_return_to_where_they_were() -> None:
    layer = Layer("pool", 1, 1, 2, 2, "same")
    frames = torch.rand(2, 1, 5, 4)
    maxima, switches = pool(frames, layer)
    returned = unpool(maxima, layer, (5, 4), switches)
    assert returned.shape == frames.shape
    assert ((returned == 0) | (returned == frames)).all()
    torch.testing.assert_close(pool(returned, layer)[0], maxima)
    # Without switches they go to the first pixel of every window.
    first = unpool(maxima, layer, (5, 4), None)
    torch.testing.assert_close(first[..., ::2, ::2], maxima)
    assert first.count_nonzero() == maxima.numel()


def test_switches_of_one_frame_serve_for_many_latents() -> None:
    # As when one latent of a frame is traversed.
    model = build_model(make_config("ae", POOLED, n_ae_latents=2), DataShape(1, 13, 18)).eval()
    q = model.encode(torch.rand(1, 1, 13, 18))
    z = torch.randn(3, 2)
    assert len(q.switches) == 2
    together = model.decode(z, like=q)
    for frame, latents in zip(together, z, strict=True):
        torch.testing.assert_close(frame[None], model.decode(latents[None], like=q))


BROKEN = {
    "shrinks": (
        {
            "ae_padding_type": "valid",
            "ae_encoding_n_channels": [2, 2],
            "ae_encoding_kernel_size": [9, 9],
            "ae_encoding_stride_size": [2, 2],
        },
        "encoding layer 2 of 2 shrinks frames of 12x17 pixels to nothing",
    ),
    "pooling with other channels": (
        {**POOLED, "ae_encoding_n_channels": [3, 4, 4, 4]},
        "max pooling cannot change the number of channels, got 3 to 4",
    ),
    "other channels at the end": (
        {**EXPLICIT, "ae_decoding_n_channels": [7, 5, 2]},
        "must end in the 1 of the frames, got 2",
    ),
    "ends at another size": (
        {**EXPLICIT, "ae_decoding_starting_dim": [3, 2, 2]},
        "must end at frames of 12x17 pixels, got 7x7",
    ),
    "explicit unpooling": (
        {**EXPLICIT, "ae_decoding_layer_type": ["convtranspose", "unpool", "convtranspose"]},
        "an explicit decoder cannot unpool",
    ),
    "no layers": (
        {
            "ae_encoding_n_channels": [],
            "ae_encoding_kernel_size": [],
            "ae_encoding_stride_size": [],
        },
        "at least one layer",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_architecture_is_one_clear_error(name: str) -> None:
    architecture, message = BROKEN[name]
    with pytest.raises(ConfigError, match="ae_arch_json") as caught:
        build_model(make_config("ae", architecture), DataShape(1, 12, 17))
    assert message in str(caught.value)


def test_published_file_may_leave_open_what_follows() -> None:
    published = {
        "n_input_channels": None,
        "ae_input_dim": [None, None, None, None],
        "ae_batch_norm": 0,
        "symmetric_arch": 1,
        "ae_decoding_n_channels": [None],
        "ae_decoding layer_type": [None],
        "ae_decoding_last_FF_layer": 0,
        **SPARSE,
    }
    assert Architecture.model_validate(published) == Architecture.model_validate(SPARSE)


@pytest.mark.parametrize("shape", [(2, 1, 12, 40), (2, 2, 12, 17), (12, 17), (2, 1, 0, 0)])
def test_frames_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    model = build_model(make_config("ae"), DataShape(1, 12, 17))
    with pytest.raises(DataError, match="must fit a network built for"):
        model.predict(torch.zeros(shape))


def test_sessions_have_their_own_first_and_last_layers() -> None:
    shape = DataShape(1, 12, 17, n_sessions=3)
    model = build_model(make_config("ae", fit_sess_io_layers=True), shape).eval()
    frames, sessions = torch.rand(7, 1, 12, 17), torch.tensor([2, 0, 1, 1, 0, 2, 2])
    together = model.predict(frames, session_index=sessions)
    for session in range(3):
        alone = model.predict(frames[sessions == session], session_index=session)
        torch.testing.assert_close(together.frames[sessions == session], alone.frames)
        torch.testing.assert_close(together.mean[sessions == session], alone.mean)
    same = model.predict(frames[:1].expand(3, -1, -1, -1), session_index=torch.arange(3))
    assert not torch.allclose(same.mean[0], same.mean[1])


@pytest.mark.parametrize("session", [None, 3, -1])
def test_unknown_session_is_refused(session: int | None) -> None:
    shape = DataShape(1, 12, 17, n_sessions=3)
    model = build_model(make_config("ae", fit_sess_io_layers=True), shape)
    with pytest.raises(DataError, match="session_index"):
        model.predict(torch.zeros(2, 1, 12, 17), session_index=session)
