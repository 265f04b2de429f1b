"""Transposed convolutions, computed as plain ones.

On a CPU, PyTorch is slow at transposed convolutions. The gradient of their weights is that of the
plain convolution from the outer to the inner frames, with the two exchanged, which takes half of
the time. Forwards, a convolution of blocks of pixels takes a quarter to a half of the time. A
training step of the published network on 200 frames of 64x64 pixels takes 1.41 s of CPU time with
it and 1.51 s without it in float32, and 0.70 s and 1.02 s in bfloat16 (one thread of an AMD EPYC
with AVX512-BF16, medians of 9).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from psvae_tune.models.layers import block_conv
from psvae_tune.models.layers.architecture import FrameSize, overlap

MAX_CHANNELS = 32
"""Number of outer channels up to which blocks were quicker in float32, too."""


def grow(
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, before: FrameSize, outer: FrameSize
) -> Tensor:
    """Return the result of `torch.nn.functional.conv_transpose2d`.

    Parameters
    ----------
    x, weight, stride, outer
        As for `psvae_tune.models.layers.matmul_conv.grow`.
    bias
        (outer channel,).
    before
        Rows and columns that are cut off before the first pixel: as many as after the last one or
        one less, and none where no window reaches the last pixels.

    Returns
    -------
    Tensor
        (frame, outer channel, y, x).
    """
    arguments = x, weight, bias, stride, before, outer
    if x.device.type != "cpu":
        return _grow(*arguments)
    found: Tensor = _Transposed.apply(*arguments)  # type: ignore[no-untyped-call]
    return found


class _Transposed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        stride: int,
        before: FrameSize,
        outer: FrameSize,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.before = stride, before
        is_quicker = x.dtype == torch.bfloat16 or weight.shape[1] <= MAX_CHANNELS
        apply = block_conv.grow if is_quicker else _grow
        return apply(x, weight, bias, stride, before, outer)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        outer = (grad.shape[2], grad.shape[3])
        rows, columns = _cut_after(x, weight, ctx.stride, ctx.before, outer)
        framed = F.pad(grad, (0, columns, 0, rows)) if rows or columns else grad
        to_x = F.conv2d(framed, weight, None, ctx.stride, ctx.before)
        to_weight = conv2d_weight(framed, weight.shape, x, ctx.stride, ctx.before)  # type: ignore[no-untyped-call]
        return to_x, to_weight, grad.sum((0, 2, 3)), None, None, None


def _grow(
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, before: FrameSize, outer: FrameSize
) -> Tensor:
    left_over = [max(0, -cut) for cut in _cut_after(x, weight, stride, before, outer)]
    grown = F.conv_transpose2d(x, weight, bias, stride, before, left_over)
    return grown[..., : outer[0], : outer[1]]


def _cut_after(
    x: Tensor, weight: Tensor, stride: int, before: FrameSize, outer: FrameSize
) -> list[int]:
    """Return by how many more rows and columns the end is cut off than the beginning."""
    return [
        overlap(size, n, weight.shape[2], stride) - 2 * cut
        for n, cut, size in zip(x.shape[2:], before, outer, strict=True)
    ]
