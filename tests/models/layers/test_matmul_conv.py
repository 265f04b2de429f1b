"""Convolutions computed in ways of our own: what comes of them, and that training takes them."""

import pytest
import torch
from torch.nn import functional as F

from psvae_tune.config.architecture import Architecture
from psvae_tune.models.batch import DataShape
from psvae_tune.models.layers import block_conv, matmul_conv, transposed_conv
from psvae_tune.models.registry import build_model
from tests.support.small_models import make_batch, make_config

# Outer size, kernel, stride, and the zeros before and after the pixels.
GEOMETRIES = [
    ((8, 8), 5, 2, (1, 1), (2, 2)),
    ((8, 8), 5, 2, (2, 2), (1, 1)),
    ((7, 10), 5, 2, (2, 1), (2, 2)),
    ((9, 6), 3, 1, (1, 0), (1, 0)),
    ((11, 8), 2, 3, (0, 0), (0, 0)),
    ((5, 5), 5, 5, (0, 0), (0, 0)),
    ((12, 9), 2, 3, (0, 0), (0, 0)),
    ((12, 8), 3, 2, (0, 0), (0, 1)),
]
FRAMES, INNER = 3, 6


def results_of(apply, *tensors):
    """Return what is computed, and a gradient of all inputs."""
    inputs = [tensor.clone().requires_grad_() for tensor in tensors]
    found = apply(*inputs)
    upstream = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view(found.shape)
    return [found.detach(), *torch.autograd.grad(found, inputs, upstream)]


def grow_as_pytorch(stride, before, outer):
    """Return a transposed convolution to an outer size, of which rows and columns are cut off."""

    def grow(x, weight, bias):
        whole = F.conv_transpose2d(x, weight, stride=stride)
        whole = F.pad(whole, (0, outer[1], 0, outer[0]))
        top, left = before
        return whole[:, :, top : top + outer[0], left : left + outer[1]] + bias[:, None, None]

    return grow


@pytest.mark.parametrize("n_outer", [1, 4, transposed_conv.MAX_CHANNELS + 1])
@pytest.mark.parametrize(("outer", "kernel", "stride", "before", "after"), GEOMETRIES)
def test_products_are_convolutions_and_so_are_their_gradients(
    outer, kernel, stride, before, after, n_outer
):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(FRAMES, n_outer, *outer, generator=rng, dtype=torch.float64)
    weight = torch.randn(INNER, n_outer, kernel, kernel, generator=rng, dtype=torch.float64)
    border = (before[1], after[1], before[0], after[0])
    wanted = results_of(lambda x, w: F.conv2d(F.pad(x, border), w, stride=stride), x, weight)
    inner = wanted[0].shape[2:]
    found = results_of(lambda x, w: matmul_conv.shrink(x, w, stride, before, inner), x, weight)
    assert_same(found, wanted)

    y = torch.randn(FRAMES, INNER, *inner, generator=rng, dtype=torch.float64)
    bias = torch.randn(n_outer, generator=rng, dtype=torch.float64)
    wanted = results_of(grow_as_pytorch(stride, before, outer), y, weight, bias)
    found = results_of(
        lambda x, w, b: matmul_conv.grow(x, w, stride, before, outer) + b[:, None, None],
        *(y, weight, bias),
    )
    assert_same(found, wanted)
    if all(one <= other for one, other in zip(before, after, strict=True)):
        found = results_of(
            lambda x, w, b: transposed_conv.grow(x, w, b, stride, before, outer), y, weight, bias
        )
        assert_same(found, wanted)


@pytest.mark.parametrize("n_together", [1, 2])
@pytest.mark.parametrize("n_outer", [1, 4])
@pytest.mark.parametrize(("outer", "kernel", "stride", "before", "after"), GEOMETRIES)
def test_convolutions_of_blocks_are_those_of_pixels_and_so_are_their_gradients(
    outer, kernel, stride, before, after, n_outer, n_together
):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(FRAMES, n_outer, *outer, generator=rng, dtype=torch.float64)
    weight = torch.randn(INNER, n_outer, kernel, kernel, generator=rng, dtype=torch.float64)
    biases = [torch.randn(n, generator=rng, dtype=torch.float64) for n in (INNER, n_outer)]
    border = (before[1], after[1], before[0], after[0])
    wanted = results_of(
        lambda x, w, b: F.conv2d(F.pad(x, border), w, b, stride), x, weight, biases[0]
    )
    inner = wanted[0].shape[2:]
    if any(size % n_together for size in inner):
        return
    found = results_of(
        lambda x, w, b: block_conv.shrink(x, w, b, stride, before, inner, n_together),
        *(x, weight, biases[0]),
    )
    assert_same(found, wanted)

    y = torch.randn(FRAMES, INNER, *inner, generator=rng, dtype=torch.float64)
    wanted = results_of(grow_as_pytorch(stride, before, outer), y, weight, biases[1])
    found = results_of(
        lambda x, w, b: block_conv.grow(x, w, b, stride, before, outer, n_together),
        *(y, weight, biases[1]),
    )
    assert_same(found, wanted)


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert one.numpy() == pytest.approx(other.numpy(), abs=1e-12)


def nodes_below(node):
    """Return the names of all steps that a gradient goes back through."""
    names, left, seen = set(), [node], set()
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            names.add(node.name())
            left += [parent for parent, _ in node.next_functions]
    return names


def test_training_of_the_published_network_takes_them():
    shape = DataShape(n_channels=1, height=64, width=64, n_labels=4, n_sessions=1)
    model = build_model(make_config("ps-vae", Architecture()), shape)
    names = {}
    for is_training in (True, False):
        loss = model.train(is_training).terms(make_batch(shape), 1.0, torch.Generator()).loss
        names[is_training] = {name for name in nodes_below(loss.grad_fn) if name.startswith("_")}
    always = {"_TransposedBackward"}
    assert names == {True: {"_ShrinkBackward", "_GrowBackward"} | always, False: always}
