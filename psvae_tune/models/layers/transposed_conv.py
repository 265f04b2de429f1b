"""Transposed convolutions, computed as plain ones.

On a CPU, PyTorch is slow at transposed convolutions. The gradient of their weights is that of the
plain convolution from the outer to the inner frames, with the two exchanged, which takes half of
the time. Forwards, the pixels at one position of a stride are a plain convolution of the inner
frames. One convolution makes the pixels of all positions as channels, which are then interleaved;
it takes a quarter to a half of the time. A training step of the published network on 200 frames
of 64x64 pixels takes 1.41 s of CPU time with it and 1.51 s without it in float32, and 0.70 s and
1.02 s in bfloat16 (one thread of an AMD EPYC with AVX512-BF16, medians of 9).

References
----------
Shi et al. (2016), Is the deconvolution layer the same as a convolutional layer?
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from psvae_tune.models.layers.architecture import FrameSize, overlap

MAX_CHANNELS = 32
"""Number of outer channels up to which interleaving was quicker in float32, too."""


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
        apply = _interleave if is_quicker else _grow
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


def _interleave(
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, before: FrameSize, outer: FrameSize
) -> Tensor:
    r"""Return the same result by a convolution whose channels are the pixels of a stride.

    .. math:: y_{sq + r} = \sum_j x_{q - j} w_{sj + r}, \quad 0 \le r < s

    along each axis, for a stride s, if no pixel is cut off.
    """
    n_inner, n_outer, kernel, _ = weight.shape
    of_weight: list[int] = []
    of_x: list[int] = []
    for n, size, cut in zip(x.shape[2:], outer, before, strict=True):
        # With zeros before the weights, the first pixel that is not cut off begins a stride.
        shift = -cut % stride
        n_taps, n_skipped = -(-(kernel + shift) // stride), (cut + shift) // stride
        # `F.pad` takes borders from the last axis to the first.
        of_weight = [shift, n_taps * stride - kernel - shift, *of_weight]
        of_x = [n_taps - 1 - n_skipped, -(-size // stride) + n_skipped - n, *of_x]
    padded = F.pad(weight, of_weight)
    height, width = (size // stride for size in padded.shape[2:])
    taps = padded.view(n_inner, n_outer, height, stride, width, stride).flip(2, 4)
    weights = taps.permute(3, 5, 1, 0, 2, 4).flatten(0, 2)
    left, right, top, bottom = of_x
    if left == right >= 0 and top == bottom >= 0:
        padding = (top, left)
    else:
        x, padding = F.pad(x, of_x), (0, 0)
    strides = F.conv2d(x, weights, bias.repeat(stride**2), 1, padding).permute(0, 2, 3, 1)
    rows, columns = strides.shape[1:3]
    pixels = strides.reshape(len(x), rows, columns, stride, stride, n_outer).transpose(2, 3)
    frames = pixels.reshape(len(x), rows * stride, columns * stride, n_outer).permute(0, 3, 1, 2)
    return frames[..., : outer[0], : outer[1]]


def _cut_after(
    x: Tensor, weight: Tensor, stride: int, before: FrameSize, outer: FrameSize
) -> list[int]:
    """Return by how many more rows and columns the end is cut off than the beginning."""
    return [
        overlap(size, n, weight.shape[2], stride) - 2 * cut
        for n, cut, size in zip(x.shape[2:], before, outer, strict=True)
    ]
