"""The published architecture keys of a network."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from psvae_tune.config.settings import Settings

LayerSize = Annotated[int, Field(ge=1, le=10_000)]
"""Channels or pixels; more is a slip."""
MAX_LAYERS = 100
"""On one side. Published networks have five, searched ones up to ten."""
# How a published architecture file writes that something follows from the rest.
_OPEN: tuple[Any, ...] = (None, [None], [None] * 4)


class Architecture(Settings):
    """A convolutional encoder and decoder, in the keys of the published architecture files.

    Lists run from the frames to the latents for the encoder and back for the decoder. With
    ``symmetric_arch`` the decoder mirrors the encoder and its own lists must be absent.
    """

    ae_network_type: Literal["strides_only", "max_pooling"] = "strides_only"
    ae_padding_type: Literal["same", "valid"] = "same"
    ae_batch_norm: bool = False
    ae_batch_norm_momentum: Annotated[float, Field(gt=0, le=1)] | None = None
    symmetric_arch: bool = True
    ae_encoding_n_channels: tuple[LayerSize, ...] = (32, 64, 128, 256, 512)
    ae_encoding_kernel_size: tuple[LayerSize, ...] = (5, 5, 5, 5, 5)
    ae_encoding_stride_size: tuple[LayerSize, ...] = (2, 2, 2, 2, 5)
    ae_encoding_layer_type: tuple[Literal["conv", "maxpool"], ...] | None = None
    ae_decoding_n_channels: tuple[LayerSize, ...] | None = None
    ae_decoding_kernel_size: tuple[LayerSize, ...] | None = None
    ae_decoding_stride_size: tuple[LayerSize, ...] | None = None
    ae_decoding_layer_type: tuple[Literal["convtranspose", "unpool"], ...] | None = None
    ae_decoding_starting_dim: tuple[LayerSize, LayerSize, LayerSize] | None = None
    """(channel, height, width) that an explicit decoder starts from; None: as follows from it."""
    ae_decoding_last_FF_layer: bool = False

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, raw: Any) -> Any:
        """Drop what the published files leave open: ``null``, and lists of ``null``."""
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
