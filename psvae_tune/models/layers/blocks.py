"""The parts of a convolutional network: convolutions with their padding, and max pooling."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from psvae_tune.models.layers import block_conv, matmul_conv, transposed_conv
from psvae_tune.models.layers.architecture import FrameSize, Layer, NetworkPlan

SLOPE = 0.05
"""Slope of the leaky rectifiers below 0."""


def train_convolutions_in(dtype: torch.dtype, model: nn.Module) -> None:
    """Choose the number format of a model's convolutions. Side effects: changes the model.

    The choice holds in training mode alone. Scoring uses the format of the weights, and weights,
    posteriors and losses always have it.
    """
    for module in model.modules():
        if isinstance(module, Block):
            module.training_dtype = dtype


class Block(nn.Module):
    """A convolution, or one for each session, and batch normalisation."""

    training_dtype: torch.dtype | None = None
    """Number format of the convolution in training mode; None for that of the weights."""

    def __init__(
        self,
        layer: Layer,
        plan: NetworkPlan,
        n_copies: int,
        is_transposed: bool,
        is_last: bool = False,
    ) -> None:
        super().__init__()
        self.layer = layer
        n_in, n_out = layer.n_outer, layer.n_inner
        convolution: type[nn.Conv2d] | type[nn.ConvTranspose2d] = nn.Conv2d
        if is_transposed:
            n_in, n_out, convolution = n_out, n_in, nn.ConvTranspose2d
        self.conv = nn.ModuleList(
            convolution(n_in, n_out, layer.kernel, layer.stride) for _ in range(n_copies)
        )
        self.norm: nn.BatchNorm2d | None = None
        if plan.has_batch_norm and not is_last:
            self.norm = nn.BatchNorm2d(n_out, momentum=plan.batch_norm_momentum)

    def shrink(self, x: Tensor, inner: FrameSize, session_index: Tensor | None) -> Tensor:
        """Convolve inwards."""
        overlaps = [
            max(0, self.layer.overlap(*pair)) for pair in zip(x.shape[2:], inner, strict=True)
        ]
        before = (overlaps[0] // 2, overlaps[1] // 2)

        def convolve(conv: nn.Module, x: Tensor) -> Tensor:
            x, weight, bias = self._cast(x, conv)
            stride = self.layer.stride
            if self.training and matmul_conv.are_quicker(weight, inner):
                return matmul_conv.shrink(x, weight, stride, before, inner) + _channelwise(bias)
            if block_conv.are_quicker(weight, stride, before):
                n_together = block_conv.count_together(weight, stride, inner)
                return block_conv.shrink(x, weight, bias, stride, before, inner, n_together)
            if any(overlap % 2 for overlap in overlaps):
                x = F.pad(x, (0, overlaps[1] % 2, 0, overlaps[0] % 2))
            return F.conv2d(x, weight, bias, stride, before)

        x = by_session(self.conv, convolve, x, session_index)
        return x if self.norm is None else self.norm(x)

    def grow(self, x: Tensor, outer: FrameSize, session_index: Tensor | None) -> Tensor:
        """Convolve outwards, to exactly the size that `shrink` came from."""
        overlaps = [self.layer.overlap(*pair) for pair in zip(outer, x.shape[2:], strict=True)]
        before = (max(0, overlaps[0]) // 2, max(0, overlaps[1]) // 2)

        def convolve(conv: nn.Module, x: Tensor) -> Tensor:
            x, weight, bias = self._cast(x, conv)
            stride, inner = self.layer.stride, (x.shape[2], x.shape[3])
            if self.training and matmul_conv.are_quicker(weight, inner):
                return matmul_conv.grow(x, weight, stride, before, outer) + _channelwise(bias)
            if block_conv.are_quicker(weight, stride, before):
                n_together = block_conv.count_together(weight, stride, inner)
                return block_conv.grow(x, weight, bias, stride, before, outer, n_together)
            return transposed_conv.grow(x, weight, bias, stride, before, outer)

        x = by_session(self.conv, convolve, x, session_index)
        return x if self.norm is None else self.norm(x)

    def _cast(self, x: Tensor, conv: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
        """Return an input, the weight and the bias in the number format of the computation."""
        weight, bias = conv.weight, conv.bias
        assert isinstance(weight, Tensor)
        assert isinstance(bias, Tensor)
        dtype = self.training_dtype if self.training and self.training_dtype else weight.dtype
        return x.to(dtype), weight.to(dtype), bias.to(dtype)


def _channelwise(bias: Tensor) -> Tensor:
    return bias[:, None, None]


def by_session(
    copies: nn.ModuleList,
    apply: Callable[[nn.Module, Tensor], Tensor],
    x: Tensor,
    session_index: Tensor | None,
) -> Tensor:
    """Apply to each frame the layer of its session, or the only layer."""
    if len(copies) == 1:
        return apply(copies[0], x)
    assert session_index is not None
    order = session_index.argsort(stable=True)
    counts = session_index.bincount(minlength=len(copies)).tolist()
    parts = zip(copies, torch.split(x[order], counts), strict=True)
    return torch.cat([apply(copy, part) for copy, part in parts if len(part)])[order.argsort()]


def pool(x: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
    """Return the maximum of every window, and where it was found."""
    maxima, switches = F.max_pool2d(
        x,
        layer.kernel,
        layer.stride,
        ceil_mode=layer.padding == "same",
        return_indices=True,
    )
    return maxima, switches


def unpool(x: Tensor, layer: Layer, outer: FrameSize, switches: Tensor | None) -> Tensor:
    """Put values where max pooling found them; without switches, into the first pixels."""
    if switches is None:
        rows, columns = (torch.arange(n, device=x.device) * layer.stride for n in x.shape[2:])
        switches = rows[:, None] * outer[1] + columns
    return F.max_unpool2d(
        x, switches.expand(x.shape), [layer.kernel] * 2, [layer.stride] * 2, (0, 0), outer
    )
