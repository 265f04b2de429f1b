"""Convolutions of many channels over few pixels, computed as products of matrices.

On a CPU, PyTorch is slow at the deepest layers of a network, above all at the gradient of their
weights: there are millions of weights, and each gradient is a sum over a few pixels. One product
of matrices takes a third of the time. A training step of the published network on 200 frames of
64x64 pixels takes 1.41 s of CPU time with these products and 2.31 s without them in float32, and
0.70 s and 1.35 s in bfloat16 (one thread of an AMD EPYC with AVX512-BF16, medians of 9).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from psvae_tune.models.layers.architecture import FrameSize, overlap

# Bounds within which the products were quicker, in both number formats.
MAX_INNER_PIXELS = 16
MIN_WEIGHTS = 2**19


def are_quicker(weight: Tensor, inner: FrameSize) -> bool:
    """Return whether a convolution, from or to an inner size, is quicker as a product.

    Parameters
    ----------
    weight
        (inner channel, outer channel, y, x).
    inner
        Height and width of the smaller frames.
    """
    is_deep = inner[0] * inner[1] <= MAX_INNER_PIXELS and weight.numel() >= MIN_WEIGHTS
    return is_deep and weight.device.type == "cpu"


def shrink(x: Tensor, weight: Tensor, stride: int, before: FrameSize, inner: FrameSize) -> Tensor:
    """Return the result of `torch.nn.functional.conv2d` without a bias.

    Parameters
    ----------
    x
        (frame, outer channel, y, x).
    weight
        (inner channel, outer channel, y, x), the window being square.
    stride
        Pixels from one window to the next.
    before
        Rows and columns of zeros before the first pixel; as many as needed follow the last one.
    inner
        Height and width of the result.

    Returns
    -------
    Tensor
        (frame, inner channel, y, x).
    """
    found: Tensor = _Shrink.apply(x, weight, stride, before, inner)  # type: ignore[no-untyped-call]
    return found


def grow(x: Tensor, weight: Tensor, stride: int, before: FrameSize, outer: FrameSize) -> Tensor:
    """Return the result of `torch.nn.functional.conv_transpose2d` without a bias.

    Parameters
    ----------
    x
        (frame, inner channel, y, x).
    weight, stride
        As for `shrink`.
    before
        Rows and columns that are cut off before the first pixel.
    outer
        Height and width of the result.

    Returns
    -------
    Tensor
        (frame, outer channel, y, x).
    """
    found: Tensor = _Grow.apply(x, weight, stride, before, outer)  # type: ignore[no-untyped-call]
    return found


class _Shrink(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: int, before: FrameSize, inner: FrameSize
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.before = stride, before
        return _gather(x, weight, ctx.stride, ctx.before, inner)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x = _scatter(grad, weight, ctx.stride, ctx.before, _size(x))
        return to_x, _correlate(x, grad, weight, ctx.stride, ctx.before), None, None, None


class _Grow(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: int, before: FrameSize, outer: FrameSize
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.before = stride, before
        return _scatter(x, weight, ctx.stride, ctx.before, outer)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x = _gather(grad, weight, ctx.stride, ctx.before, _size(x))
        return to_x, _correlate(grad, x, weight, ctx.stride, ctx.before), None, None, None


def _gather(
    outer: Tensor, weight: Tensor, stride: int, before: FrameSize, inner: FrameSize
) -> Tensor:
    """Return the inner frames, each pixel the product of a window and the weights."""
    pixels = _windows(outer, weight, stride, before, inner) @ _matrix(weight).T
    return pixels.view(len(outer), *inner, -1).permute(0, 3, 1, 2)


def _scatter(
    inner: Tensor, weight: Tensor, stride: int, before: FrameSize, outer: FrameSize
) -> Tensor:
    """Return the outer frames, each inner pixel times the weights added to its window."""
    height, width = _size(inner)
    _, n_channels, kernel, _ = weight.shape
    windows = _pixels(inner) @ _matrix(weight)
    windows = windows.view(len(inner), height, width, kernel, kernel, n_channels)
    # Windows may reach beyond the frame, and the frame beyond the windows.
    tall, wide = (
        max(size + skipped, (n - 1) * stride + kernel)
        for size, skipped, n in zip(outer, before, (height, width), strict=True)
    )
    frames = windows.new_zeros(len(inner), tall, wide, n_channels)
    for y in range(kernel):
        for x in range(kernel):
            rows = slice(y, y + (height - 1) * stride + 1, stride)
            columns = slice(x, x + (width - 1) * stride + 1, stride)
            frames[:, rows, columns] += windows[:, :, :, y, x]
    top, left = before
    return frames[:, top : top + outer[0], left : left + outer[1]].permute(0, 3, 1, 2)


def _correlate(
    outer: Tensor, inner: Tensor, weight: Tensor, stride: int, before: FrameSize
) -> Tensor:
    """Return the gradient of the weights; either the outer or the inner frames are a gradient."""
    n_inner, n_outer, kernel, _ = weight.shape
    gradient = _pixels(inner).T @ _windows(outer, weight, stride, before, _size(inner))
    return gradient.view(n_inner, kernel, kernel, n_outer).permute(0, 3, 1, 2)


def _windows(
    outer: Tensor, weight: Tensor, stride: int, before: FrameSize, inner: FrameSize
) -> Tensor:
    """Return (frame and inner pixel, pixel of the window and outer channel)."""
    kernel = weight.shape[2]
    after = [
        overlap(size, n, kernel, stride) - skipped
        for size, skipped, n in zip(_size(outer), before, inner, strict=True)
    ]
    border = (0, 0, before[1], after[1], before[0], after[0])
    padded = F.pad(outer.permute(0, 2, 3, 1), border)
    views = padded.unfold(1, kernel, stride).unfold(2, kernel, stride)
    return views.permute(0, 1, 2, 4, 5, 3).flatten(0, 2).flatten(1)


def _size(frames: Tensor) -> FrameSize:
    return frames.shape[2], frames.shape[3]


def _pixels(inner: Tensor) -> Tensor:
    """Return (frame and pixel, inner channel)."""
    return inner.permute(0, 2, 3, 1).flatten(0, 2)


def _matrix(weight: Tensor) -> Tensor:
    """Return (inner channel, pixel of the window and outer channel)."""
    return weight.permute(0, 2, 3, 1).flatten(1)
