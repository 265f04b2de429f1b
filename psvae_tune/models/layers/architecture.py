"""The layers of a convolutional autoencoder and their sizes, from a published architecture."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from psvae_tune.config.architecture import Architecture
from psvae_tune.errors import ConfigError

FrameSize = tuple[int, int]
"""(height, width)."""

WHERE = "model.ae_arch_json"

N_CHANNELS_BEFORE_FF = 16
"""Channels before the fully connected layer that a decoder may end in, as published."""

MAX_WEIGHTS = 10**9
"""Largest number of weights: 4 GB, and four times as much in a fit. The published network has
9 million."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or a max pooling, as a step from the frames inwards to the latents.

    A decoder takes the transpose of each of its layers, from the last one outwards.
    """

    kind: Literal["conv", "pool"]
    n_outer: int
    """Channels on the side of the frames."""
    n_inner: int
    """Channels on the side of the latents."""
    kernel: int
    stride: int
    padding: Literal["same", "valid"]

    def inner(self, outer: int) -> int:
        """Return the height or width after the step; below 1 if nothing is left."""
        if self.kind == "conv" and self.padding == "same":
            return -(-outer // self.stride)
        if self.padding == "valid":
            return (outer - self.kernel) // self.stride + 1
        n_windows = -(-(outer - self.kernel) // self.stride) + 1
        # A window must begin inside.
        return n_windows - 1 if (n_windows - 1) * self.stride >= outer else n_windows

    def outer(self, inner: int) -> int:
        """Return the smallest height or width that the step takes to ``inner``."""
        is_padded = self.kind == "conv" and self.padding == "same"
        return (inner - 1) * self.stride + (1 if is_padded else self.kernel)

    def overlap(self, outer: int, inner: int) -> int:
        """Return the pixels by which windows pass the border; negative if pixels are left over.

        The smaller half of it lies before the first pixel, as in TensorFlow.
        """
        return overlap(outer, inner, self.kernel, self.stride)


def overlap(outer: int, inner: int, kernel: int, stride: int) -> int:
    """Return the number of pixels by which ``inner`` windows pass ``outer`` pixels.

    .. math:: (n_{inner} - 1) s + k - n_{outer}
    """
    return (inner - 1) * stride + kernel - outer


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """Layers of a network, for frames of any size."""

    encoder: tuple[Layer, ...]
    """Layers of the encoder, from the frames inwards."""
    decoder: tuple[Layer, ...]
    """Layers of the decoder, also from the frames inwards; it takes them from last to first."""
    start: tuple[int, int, int] | None
    """(channel, height, width) that the decoder was told to start from."""
    has_last_ff: bool
    batch_norm_momentum: float | None
    has_batch_norm: bool

    def encoder_sizes(self, frame_size: FrameSize) -> list[FrameSize]:
        """Return the size before each layer and after the last one."""
        return _trace(self.encoder, frame_size)

    def decoder_sizes(self, frame_size: FrameSize) -> list[FrameSize]:
        """Return the sizes between the layers of the decoder, from the frames inwards."""
        if self.start is None:
            return _trace(self.decoder, frame_size)
        sizes = [self.start[1:]]
        for layer in reversed(self.decoder):
            height, width = sizes[-1]
            sizes.append((layer.outer(height), layer.outer(width)))
        return sizes[::-1]

    def n_features(self, frame_size: FrameSize) -> int:
        """Return how many numbers the encoder makes of a frame."""
        height, width = self.encoder_sizes(frame_size)[-1]
        return self.encoder[-1].n_inner * height * width

    def count_weights(self, frame_size: FrameSize, n_latents: int) -> int:
        """Return how many weights the network has, biases and normalisation aside."""
        layers = [layer for layer in (*self.encoder, *self.decoder) if layer.kind == "conv"]
        n_weights = sum(layer.n_outer * layer.n_inner * layer.kernel**2 for layer in layers)
        height, width = self.decoder_sizes(frame_size)[-1]
        n_start = self.decoder[-1].n_inner * height * width
        n_weights += n_latents * (self.n_features(frame_size) + n_start)
        if self.has_last_ff:
            height, width = self.decoder_sizes(frame_size)[0]
            n_weights += self.decoder[0].n_outer * height * width * math.prod(frame_size)
        return n_weights

    def check(self, frame_size: FrameSize, n_latents: int) -> None:
        """Refuse a size of frames for which the layers do not work.

        Raises
        ------
        ConfigError
            If a layer leaves nothing, an explicit decoder ends at another size, or there are
            more weights than any machine here fits.
        """
        for side, sizes in (
            ("encoding", self.encoder_sizes(frame_size)),
            ("decoding", self.decoder_sizes(frame_size)),
        ):
            for number, size in enumerate(sizes):
                if min(size) < 1:
                    raise ConfigError(
                        WHERE,
                        f"{side} layer {number} of {len(sizes) - 1} shrinks frames of "
                        f"{_show(frame_size)} pixels to nothing, got {_show(size)}",
                        hint="use fewer layers, smaller strides or kernels, or larger frames",
                    )
        end = self.decoder_sizes(frame_size)[0]
        if end != frame_size and not self.has_last_ff:
            raise ConfigError(
                WHERE,
                f"the decoder must end at frames of {_show(frame_size)} pixels, got {_show(end)}",
                hint="leave out ae_decoding_starting_dim, then the sizes follow from the frames",
            )
        n_weights = self.count_weights(frame_size, n_latents)
        if n_weights > MAX_WEIGHTS:
            raise ConfigError(
                WHERE,
                f"must have at most {MAX_WEIGHTS:,} weights, got {n_weights:,} for frames of "
                f"{_show(frame_size)} pixels and {n_latents} latents",
                hint="use fewer channels, smaller kernels or larger strides",
            )


def _show(size: FrameSize) -> str:
    return f"{size[0]}x{size[1]}"


def _trace(layers: Sequence[Layer], frame_size: FrameSize) -> list[FrameSize]:
    sizes = [frame_size]
    for layer in layers:
        height, width = sizes[-1]
        sizes.append((layer.inner(height), layer.inner(width)))
    return sizes


def plan_network(architecture: Architecture, n_channels: int, n_planes: int) -> NetworkPlan:
    """Lay out the layers of an autoencoder.

    Parameters
    ----------
    architecture
        Published keys.
    n_channels
        Channels of the frames.
    n_planes
        Further channels that only the encoder sees.

    Raises
    ------
    ConfigError
        If the layers do not fit together.
    """
    encoder = _encoder_layers(architecture, n_channels + n_planes)
    start = architecture.ae_decoding_starting_dim
    if architecture.symmetric_arch:
        n_last = N_CHANNELS_BEFORE_FF if architecture.ae_decoding_last_FF_layer else n_channels
        decoder = (replace(encoder[0], n_outer=n_last), *encoder[1:])
    else:
        decoder = _decoder_layers(architecture, start[0] if start else encoder[-1].n_inner)
    plan = NetworkPlan(
        encoder=encoder,
        decoder=decoder,
        start=start,
        has_last_ff=architecture.ae_decoding_last_FF_layer,
        batch_norm_momentum=architecture.ae_batch_norm_momentum,
        has_batch_norm=architecture.ae_batch_norm,
    )
    if problems := list(_misfits(plan, architecture, n_channels)):
        raise ConfigError(WHERE, problems)
    return plan


def _encoder_layers(architecture: Architecture, n_channels: int) -> tuple[Layer, ...]:
    channels = architecture.ae_encoding_n_channels
    if not channels:
        raise ConfigError(WHERE, "ae_encoding_n_channels needs at least one layer, got []")
    types = architecture.ae_encoding_layer_type or ("conv",) * len(channels)
    return tuple(
        Layer(
            "pool" if kind == "maxpool" else "conv",
            n_outer,
            n_inner,
            kernel,
            stride,
            architecture.ae_padding_type,
        )
        for kind, n_outer, n_inner, kernel, stride in zip(
            types,
            (n_channels, *channels[:-1]),
            channels,
            architecture.ae_encoding_kernel_size,
            architecture.ae_encoding_stride_size,
            strict=True,
        )
    )


def _decoder_layers(architecture: Architecture, n_start: int) -> tuple[Layer, ...]:
    channels = architecture.ae_decoding_n_channels
    kernels = architecture.ae_decoding_kernel_size
    strides = architecture.ae_decoding_stride_size
    assert channels is not None
    assert kernels is not None
    assert strides is not None
    if not channels:
        raise ConfigError(WHERE, "ae_decoding_n_channels needs at least one layer, got []")
    if "unpool" in (architecture.ae_decoding_layer_type or ()):
        raise ConfigError(
            WHERE,
            "an explicit decoder cannot unpool, got `unpool` in ae_decoding_layer_type",
            hint="use symmetric_arch: true, which pairs every unpool with its maxpool",
        )
    outwards = (
        Layer("conv", n_outer, n_inner, kernel, stride, architecture.ae_padding_type)
        for n_outer, n_inner, kernel, stride in zip(
            channels, (n_start, *channels[:-1]), kernels, strides, strict=True
        )
    )
    return tuple(outwards)[::-1]


def _misfits(plan: NetworkPlan, architecture: Architecture, n_channels: int) -> Iterator[str]:
    for side, layers in (("encoding", plan.encoder), ("decoding", plan.decoder)):
        for layer in layers:
            if layer.kind == "pool" and layer.n_inner != layer.n_outer:
                yield (
                    f"ae_{side}_n_channels: max pooling cannot change the number of channels, "
                    f"got {layer.n_outer} to {layer.n_inner}"
                )
    if architecture.symmetric_arch and plan.start is not None:
        yield "ae_decoding_starting_dim needs symmetric_arch: false"
    if not plan.has_last_ff and plan.decoder[0].n_outer != n_channels:
        yield (
            f"ae_decoding_n_channels must end in the {n_channels} of the frames, "
            f"got {plan.decoder[0].n_outer}"
        )
