"""Transposed convolutions whose gradients are computed as those of the plain one.

On a processor the library is slow at the gradient of the weights of a transposed convolution. It
is that of the plain convolution from the outer frames to the inner ones, with the two exchanged,
and as that it takes half of the time.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from psvae_tune.models.architecture import Size, overlap


def grow(
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, before: Size, outer: Size
) -> Tensor:
    """Return what `torch.nn.functional.conv_transpose2d` does, of an outer size.

    Parameters
    ----------
    x, weight, stride, outer
        As for `psvae_tune.models.products.grow`.
    bias
        (outer channel,).
    before
        Rows and columns that are cut off before the first pixel: as many as after the last or one
        less, and none where pixels are left over that no window reaches.

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
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, before: Size, outer: Size
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.before = stride, before
        return _grow(x, weight, bias, stride, before, outer)

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
    x: Tensor, weight: Tensor, bias: Tensor, stride: int, before: Size, outer: Size
) -> Tensor:
    left_over = [max(0, -cut) for cut in _cut_after(x, weight, stride, before, outer)]
    grown = F.conv_transpose2d(x, weight, bias, stride, before, left_over)
    return grown[..., : outer[0], : outer[1]]


def _cut_after(x: Tensor, weight: Tensor, stride: int, before: Size, outer: Size) -> list[int]:
    """Return rows and columns cut off after the last pixel, more than before the first."""
    return [
        overlap(size, n, weight.shape[2], stride) - 2 * cut
        for n, cut, size in zip(x.shape[2:], before, outer, strict=True)
    ]
