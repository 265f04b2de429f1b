"""Settings of a convolutional network, under the published architecture keys."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from psvae_tune.config.settings import Settings

LayerSize = Annotated[int, Field(ge=1, le=10_000)]
"""Number of channels or pixels; a larger one is taken for a slip."""
MAX_LAYERS = 100
"""Largest number of layers on one side; published networks have five, searched ones up to ten."""
# Published architecture files write these for values that follow from the others.
_OPEN: tuple[Any, ...] = (None, [None], [None] * 4)


class Architecture(Settings):
    """Convolutional encoder and decoder, under the keys of the published architecture files.

    Lists have an entry for each layer. They run from the frames to the latents for the encoder,
    and from the latents to the frames for the decoder.
    """

    ae_network_type: Literal["strides_only", "max_pooling"] = "strides_only"
    """Kind of network as published files name it; the lists decide the layers."""
    ae_padding_type: Literal["same", "valid"] = "same"
    """Padding of the convolutions."""
    ae_batch_norm: bool = False
    """Whether batch normalisation follows each convolution but the last."""
    ae_batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] | None = None
    """Momentum of the batch normalisation; None for cumulative averages."""
    symmetric_arch: bool = True
    """Whether the decoder mirrors the encoder; its own lists must then be absent."""
    ae_encoding_n_channels: tuple[LayerSize, ...] = (32, 64, 128, 256, 512)
    """Number of output channels of each layer of the encoder."""
    ae_encoding_kernel_size: tuple[LayerSize, ...] = (5, 5, 5, 5, 5)
    """Side of the kernel of each layer of the encoder, in pixels."""
    ae_encoding_stride_size: tuple[LayerSize, ...] = (2, 2, 2, 2, 5)
    """Stride of each layer of the encoder, in pixels."""
    ae_encoding_layer_type: tuple[Literal["conv", "maxpool"], ...] | None = None
    """Kind of each layer of the encoder; None for convolutions alone."""
    ae_decoding_n_channels: tuple[LayerSize, ...] | None = None
    """Number of output channels of each layer of the decoder."""
    ae_decoding_kernel_size: tuple[LayerSize, ...] | None = None
    """Side of the kernel of each layer of the decoder, in pixels."""
    ae_decoding_stride_size: tuple[LayerSize, ...] | None = None
    """Stride of each layer of the decoder, in pixels."""
    ae_decoding_layer_type: tuple[Literal["convtranspose", "unpool"], ...] | None = None
    """Kind of each layer of the decoder; None for transposed convolutions alone."""
    ae_decoding_starting_dim: tuple[LayerSize, LayerSize, LayerSize] | None = None
    """Shape (channel, height, width) that an explicit decoder starts from.

    None stands for the shape that leads to frames of the right size.
    """
    ae_decoding_last_FF_layer: bool = False
    """Whether a dense layer follows the last layer of the decoder."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, raw: Any) -> Any:
        """Drop keys that a published file leaves open, as ``null`` or as a list of ``null``."""
        if not isinstance(raw, Mapping):
            return raw
        return {name: value for name, value in raw.items() if value not in _OPEN}

    @model_validator(mode="after")
    def _lists_agree(self) -> Self:
        for side in ("encoding", "decoding"):
            lengths = {
                name: len(value)
                for name in Architecture.model_fields
                if name.startswith(f"ae_{side}_")
                and name != "ae_decoding_starting_dim"
                and isinstance(value := getattr(self, name), tuple)
            }
            if max(lengths.values(), default=0) > MAX_LAYERS:
                raise ValueError(f"the {side} lists must hold at most {MAX_LAYERS} layers")
            if len(set(lengths.values())) > 1:
                counts = ", ".join(f"{name} {n}" for name, n in lengths.items())
                raise ValueError(f"the {side} lists differ in length: {counts}")
        decoding = [
            name
            for name in ("n_channels", "kernel_size", "stride_size")
            if getattr(self, f"ae_decoding_{name}") is not None
        ]
        if self.symmetric_arch and decoding:
            raise ValueError("ae_decoding_* lists need symmetric_arch: false")
        if not self.symmetric_arch and len(decoding) < 3:
            raise ValueError(
                "symmetric_arch: false needs ae_decoding_n_channels, "
                "ae_decoding_kernel_size and ae_decoding_stride_size"
            )
        return self
