"""The networks between frames and latents: one convolutional, one linear."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from psvae_tune.config.architecture import Architecture
from psvae_tune.models.latents import Posterior
from psvae_tune.models.layers.architecture import FrameSize, NetworkPlan, plan_network
from psvae_tune.models.layers.blocks import SLOPE, Block, by_session, pool, unpool

FrameShape = tuple[int, int, int]
"""(channel, height, width)."""


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """The sizes of a network, and the layers of a convolutional one."""

    n_channels: int
    """Channels of the frames."""
    height: int
    """Height of the frames in pixels, as the width."""
    width: int
    n_latents: int
    architecture: Architecture
    n_planes: int = 0
    """Channels that the encoder sees beside those of the frames."""
    n_conditions: int = 0
    """Numbers that the decoder sees beside the latents."""
    is_variational: bool = False
    """Whether the encoder also gives a variance."""
    n_copies: int = 1
    """Copies of the first and of the last layer, one for each session that has its own."""


class ConvNet(nn.Module):
    """A convolutional autoencoder of a published architecture.

    The weights fit frames of every size that leaves as many numbers after the last convolution
    as the network was built for.

    Raises
    ------
    ConfigError
        If the layers do not fit together, or not to the frames.
    """

    has_session_layers: ClassVar[bool] = True
    micro_batch_size: int | None = None
    """Number of frames whose activations are held at a time in training; None for all of a
    batch."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.plan = plan_network(shape.architecture, shape.n_channels, shape.n_planes)
        self.n_channels = shape.n_channels
        size = (shape.height, shape.width)
        self.plan.check(size, shape.n_latents)
        n_features = self.plan.n_features(size)
        self.encoder = Encoder(self.plan, shape.n_copies)
        self.mean = nn.Linear(n_features, shape.n_latents)
        self.logvar = nn.Linear(n_features, shape.n_latents) if shape.is_variational else None
        n_inputs = shape.n_latents + shape.n_conditions
        self.decoder = Decoder(self.plan, n_inputs, (shape.n_channels, *size), shape.n_copies)

    def accepts(self, frame_shape: FrameShape) -> bool:
        """Return whether frames of a shape can be encoded."""
        n_channels, *size = frame_shape
        sizes = self.plan.encoder_sizes((size[0], size[1]))
        is_left = all(min(pair) > 0 for pair in sizes)
        n_features = self.plan.n_features((size[0], size[1]))
        return is_left and n_channels == self.n_channels and n_features == self.mean.in_features

    def encode(self, frames: Tensor, session_index: Tensor | None) -> Posterior:
        """Return the posterior of (frame, channel, height, width)."""
        features, switches = self._in_parts(self.encoder, frames, session_index)
        features = features.to(self.mean.weight.dtype)
        logvar = None if self.logvar is None else self.logvar(features)
        size = (frames.shape[2], frames.shape[3])
        return Posterior(self.mean(features), logvar, size, switches)

    def decode(
        self,
        z: Tensor,
        frame_size: FrameSize,
        session_index: Tensor | None,
        switches: Sequence[Tensor],
    ) -> Tensor:
        """Return frames of a size from (frame, latent and condition)."""

        def decode(
            z: Tensor, session_index: Tensor | None, *switches: Tensor
        ) -> tuple[Tensor, tuple[Tensor, ...]]:
            return self.decoder(z, frame_size, session_index, switches), ()

        return self._in_parts(decode, z, session_index, *switches)[0]

    def _in_parts(
        self,
        apply: Callable[..., tuple[Tensor, tuple[Tensor, ...]]],
        *inputs: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Apply a part of the network to one micro-batch after another.

        Each micro-batch is computed again for its gradient, so the terms of the loss, those over
        pairs of frames among them, see the whole batch.
        """
        size = self.micro_batch_size
        if not self.training or size is None:
            return apply(*inputs)
        columns = [repeat(None) if each is None else torch.split(each, size) for each in inputs]
        parts = [
            checkpoint(apply, *part, use_reentrant=False, preserve_rng_state=False)
            for part in zip(*columns, strict=False)
        ]
        found, others = zip(*parts, strict=True)
        return torch.cat(found), tuple(torch.cat(each) for each in zip(*others, strict=True))


class Encoder(nn.Module):
    """Convolutions and max pooling from frames to features."""

    def __init__(self, plan: NetworkPlan, n_copies: int) -> None:
        super().__init__()
        self.plan = plan
        convolutions = [layer for layer in plan.encoder if layer.kind == "conv"]
        self.blocks = nn.ModuleList(
            Block(layer, plan, n_copies if i == 0 else 1, is_transposed=False)
            for i, layer in enumerate(convolutions)
        )

    def forward(
        self, frames: Tensor, session_index: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return (frame, feature) and the switches of the max pooling."""
        x, switches = frames, []
        blocks = cast(Iterator[Block], iter(self.blocks))
        sizes = self.plan.encoder_sizes((frames.shape[2], frames.shape[3]))
        for i, (layer, inner) in enumerate(zip(self.plan.encoder, sizes[1:], strict=True)):
            if layer.kind == "pool":
                x, where = pool(x, layer)
                switches.append(where)
            else:
                x = next(blocks).shrink(x, inner, session_index)
            # Pooling comes before the nonlinearity, as published.
            if i + 1 == len(self.plan.encoder) or self.plan.encoder[i + 1].kind == "conv":
                x = F.leaky_relu(x, SLOPE, inplace=True)
        return x.flatten(1), tuple(switches)


class Decoder(nn.Module):
    """Transposed convolutions and unpooling from latents to frames."""

    def __init__(
        self, plan: NetworkPlan, n_inputs: int, frame_shape: FrameShape, n_copies: int
    ) -> None:
        super().__init__()
        self.plan = plan
        self.n_channels = frame_shape[0]
        sizes = plan.decoder_sizes(frame_shape[1:])
        n_start = plan.decoder[-1].n_inner
        self.start = nn.Linear(n_inputs, n_start * sizes[-1][0] * sizes[-1][1])
        outwards = [layer for layer in reversed(plan.decoder) if layer.kind == "conv"]
        # The block that makes the frames has no batch normalisation, as published.
        self.blocks = nn.ModuleList(
            Block(layer, plan, n_copies if is_last else 1, is_transposed=True, is_last=is_last)
            for i, layer in enumerate(outwards, start=1)
            for is_last in [i == len(outwards) and not plan.has_last_ff]
        )
        self.last: nn.ModuleList | None = None
        if plan.has_last_ff:
            n_before = plan.decoder[0].n_outer * sizes[0][0] * sizes[0][1]
            n_pixels = frame_shape[0] * frame_shape[1] * frame_shape[2]
            self.last = nn.ModuleList(nn.Linear(n_before, n_pixels) for _ in range(n_copies))

    def forward(
        self,
        z: Tensor,
        frame_size: FrameSize,
        session_index: Tensor | None,
        switches: Sequence[Tensor],
    ) -> Tensor:
        """Return frames of a size; see `Model.decode` about the switches."""
        sizes = self.plan.decoder_sizes(frame_size)
        x = self.start(z).view(len(z), self.plan.decoder[-1].n_inner, *sizes[-1])
        n_left, wheres = len(self.blocks), list(switches)
        blocks = cast(Iterator[Block], iter(self.blocks))
        for layer, outer in zip(reversed(self.plan.decoder), sizes[-2::-1], strict=True):
            if layer.kind == "pool":
                x = unpool(x, layer, outer, wheres.pop() if wheres else None)
            else:
                x = next(blocks).grow(x, outer, session_index)
                n_left -= 1
                if n_left or self.last is not None:
                    x = F.leaky_relu(x, SLOPE)
        x = x.to(z.dtype)
        if self.last is not None:
            x = by_session(
                self.last,
                lambda last, x: F.linear(x, last.weight, last.bias),  # type: ignore[arg-type]
                x.flatten(1),
                session_index,
            )
            x = x.view(len(z), self.n_channels, *frame_size)
        return x.sigmoid()


class LinearNet(nn.Module):
    """A linear autoencoder, whose decoder has the transposed weights of the encoder and a bias.

    With squared errors it finds the subspace of the principal components.
    """

    has_session_layers: ClassVar[bool] = False

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        n_pixels = shape.n_channels * shape.height * shape.width
        self.mean = nn.Linear(n_pixels, shape.n_latents)
        self.bias = nn.Parameter(torch.zeros(n_pixels))

    def accepts(self, frame_shape: FrameShape) -> bool:
        """Return whether frames of a shape can be encoded."""
        return math.prod(frame_shape) == self.mean.in_features

    def encode(self, frames: Tensor, session_index: Tensor | None) -> Posterior:
        """Return the latents of (frame, channel, height, width)."""
        size = (frames.shape[2], frames.shape[3])
        return Posterior(self.mean(frames.flatten(1)), None, size)

    def decode(
        self,
        z: Tensor,
        frame_size: FrameSize,
        session_index: Tensor | None,
        switches: Sequence[Tensor],
    ) -> Tensor:
        """Return frames of a size from (frame, latent)."""
        pixels = F.linear(z, self.mean.weight.T, self.bias)
        return pixels.view(len(z), -1, *frame_size)


NETS: dict[str, type[ConvNet] | type[LinearNet]] = {"conv": ConvNet, "linear": LinearNet}
