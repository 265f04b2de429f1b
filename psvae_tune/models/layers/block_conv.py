"""Strided convolutions, computed as plain ones of blocks of pixels.

The pixels of one stride become the channels of a block. A convolution of stride s over pixels is
one of stride 1 over blocks of s x s pixels, with zeros where a window does not fill its blocks. A
transposed convolution is one as well, whose channels are the pixels of a block. Both are quicker
where a library has good kernels for stride 1 alone, and need no border beyond that of the
convolution itself.

References
----------
Shi et al. (2016), Is the deconvolution layer the same as a convolutional layer?
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from psvae_tune.models.layers.architecture import FrameSize

MAX_WASTE = 2.0
"""Number of weights, with the zeros, per weight of a window up to which blocks are taken."""
MIN_CHANNELS = 16
"""Number of channels of a block below which several blocks are taken together."""


def are_quicker(weight: Tensor, stride: int, before: FrameSize) -> bool:
    """Return whether a convolution, or a transposed one, is quicker in blocks.

    Parameters
    ----------
    weight
        (inner channel, outer channel, y, x).
    stride
        Pixels from one window to the next.
    before
        Rows and columns of zeros before the first pixel, or of pixels that are cut off there.
    """
    n_weights = [_count_taps(weight.shape[2], stride, cut) * stride for cut in before]
    waste = n_weights[0] * n_weights[1] / weight[0, 0].numel()
    return weight.device.type == "cuda" and stride > 1 and waste <= MAX_WASTE


def count_together(weight: Tensor, stride: int, inner: FrameSize) -> int:
    """Return how many windows along each axis are best taken as one.

    A window of a few channels leaves most of a matrix unit empty. Windows beside each other, taken
    as one with more channels, fill it.
    """
    is_even = inner[0] % 2 == inner[1] % 2 == 0
    return 2 if weight.shape[1] * stride**2 < MIN_CHANNELS and is_even else 1


def shrink(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: int,
    before: FrameSize,
    inner: FrameSize,
    n_together: int = 1,
) -> Tensor:
    r"""Return the result of `torch.nn.functional.conv2d`.

    .. math:: y_q = \sum_j \sum_{r=0}^{s-1} x_{s(q + j) + r} w_{sj + r + p}

    along each axis, for a stride s and p zeros before the first pixel.

    Parameters
    ----------
    x, weight, stride, before, inner
        As for `psvae_tune.models.layers.matmul_conv.shrink`.
    bias
        (inner channel,).
    n_together
        Number of windows along each axis that become one, as from `count_together`.
    """
    weight, bias = _join_windows(weight, stride, n_together), bias.repeat(n_together**2)
    stride *= n_together
    taps = _cut(weight, stride, before).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
    left_over = [-size % stride for size in x.shape[2:]]
    if any(left_over):
        x = F.pad(x, (0, left_over[1], 0, left_over[0]))
    sizes = [size // n_together for size in inner]
    n_before = [-(-cut // stride) for cut in before]
    blocks = _convolve(to_blocks(x, stride), taps, bias, n_before, sizes)
    return from_blocks(blocks, n_together)


def grow(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: int,
    before: FrameSize,
    outer: FrameSize,
    n_together: int = 1,
) -> Tensor:
    r"""Return the result of `torch.nn.functional.conv_transpose2d`.

    .. math:: y_{sq + r} = \sum_j x_{q - j} w_{sj + r}, \quad 0 \le r < s

    along each axis, for a stride s, if no pixel is cut off.

    Parameters
    ----------
    x, weight, stride, before, outer
        As for `psvae_tune.models.layers.matmul_conv.grow`.
    bias
        (outer channel,).
    n_together
        Number of windows along each axis that become one, as from `count_together`.
    """
    x, weight = to_blocks(x, n_together), _join_windows(weight, stride, n_together)
    stride *= n_together
    taps = _cut(weight, stride, before).flip(2, 4).permute(3, 5, 1, 0, 2, 4).flatten(0, 2)
    sizes = [-(-size // stride) for size in outer]
    n_skipped = [-(-cut // stride) for cut in before]
    n_before = [n - 1 - skipped for n, skipped in zip(taps.shape[2:], n_skipped, strict=True)]
    blocks = _convolve(x, taps, bias.repeat(stride**2), n_before, sizes)
    return from_blocks(blocks, stride)[..., : outer[0], : outer[1]]


def to_blocks(x: Tensor, size: int) -> Tensor:
    """Return (frame, pixel of the block and channel, y of blocks, x of blocks)."""
    if size == 1:
        return x
    n, n_channels, height, width = x.shape
    rows, columns = height // size, width // size
    pixels = x.permute(0, 2, 3, 1).reshape(n, rows, size, columns, size, n_channels)
    return pixels.transpose(2, 3).reshape(n, rows, columns, -1).permute(0, 3, 1, 2)


def from_blocks(blocks: Tensor, size: int) -> Tensor:
    """Undo `to_blocks`."""
    if size == 1:
        return blocks
    n, _, rows, columns = blocks.shape
    pixels = blocks.permute(0, 2, 3, 1).reshape(n, rows, columns, size, size, -1)
    frames = pixels.transpose(2, 3).reshape(n, rows * size, columns * size, -1)
    return frames.permute(0, 3, 1, 2)


def _join_windows(weight: Tensor, stride: int, n: int) -> Tensor:
    """Return the weights of n x n windows, side by side, as those of one with more channels.

    Returns
    -------
    Tensor
        (window and inner channel, outer channel, y, x).
    """
    if n == 1:
        return weight
    shifts = [(stride * i, stride * (n - 1 - i)) for i in range(n)]
    windows = [F.pad(weight, (*columns, *rows)) for rows in shifts for columns in shifts]
    return torch.cat(windows)


def _count_taps(kernel: int, stride: int, before: int) -> int:
    """Return in how many blocks a window begins, ends or lies."""
    return -(-(kernel + -before % stride) // stride)


def _cut(weight: Tensor, stride: int, before: FrameSize) -> Tensor:
    """Cut a window into blocks, the first of which begins with a stride.

    Returns
    -------
    Tensor
        (inner channel, outer channel, y of blocks, y in a block, x of blocks, x in a block).
    """
    border: list[int] = []
    for kernel, cut in zip(weight.shape[2:], before, strict=True):
        shift, n_taps = -cut % stride, _count_taps(kernel, stride, cut)
        # `F.pad` takes borders from the last axis to the first.
        border = [shift, n_taps * stride - kernel - shift, *border]
    padded = F.pad(weight, border)
    rows, columns = (size // stride for size in padded.shape[2:])
    return padded.view(*weight.shape[:2], rows, stride, columns, stride)


def _convolve(
    x: Tensor, taps: Tensor, bias: Tensor, before: list[int], wanted: list[int]
) -> Tensor:
    """Convolve with stride 1 to a wanted size, after so many rows and columns of zeros."""
    after = [
        size + n_taps - 1 - n - skipped
        for n, size, skipped, n_taps in zip(
            x.shape[2:], wanted, before, taps.shape[2:], strict=True
        )
    ]
    if before == after and min(before) >= 0:
        return F.conv2d(x, taps, bias, 1, before)
    return F.conv2d(F.pad(x, (before[1], after[1], before[0], after[0])), taps, bias)
