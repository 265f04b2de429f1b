"""The published layers, module by module, as an oracle for networks and parameter names.

Written from the description of the published format with nothing of ours: paddings are derived
here again, from sizes found by running the layers.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

SLOPE = 0.05


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    n_outputs = -(-size // stride)
    total = max(0, (n_outputs - 1) * stride + kernel - size)
    return total // 2, total - total // 2


class Part(nn.Module):
    """Anything with submodules under published names."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


def per_session(make: Any, name: str, n_sessions: int) -> dict[str, nn.Module]:
    if not n_sessions:
        return {name: make()}
    return {f"{name}_sess_io_layers": nn.ModuleList(make() for _ in range(n_sessions))}


class PublishedNet(nn.Module):
    """An autoencoder built from a published architecture, for frames of one size.

    ``n_sessions`` > 0 gives every session a first and a last layer.
    """

    def __init__(
        self, arch: dict[str, Any], shape: Sequence[int], n_latents: int, n_sessions: int = 0
    ) -> None:
        super().__init__()
        self.arch, self.shape = arch, tuple(shape)
        self.is_same = arch.get("ae_padding_type", "same") == "same"
        channels = arch["ae_encoding_n_channels"]
        self.kernels, self.strides = (
            arch["ae_encoding_kernel_size"],
            arch["ae_encoding_stride_size"],
        )
        self.types = arch.get("ae_encoding_layer_type") or ["conv"] * len(channels)
        has_norm, momentum = arch.get("ae_batch_norm", 0), arch.get("ae_batch_norm_momentum")
        self.sizes = [self.shape[1:]]
        for kernel, stride, kind in zip(self.kernels, self.strides, self.types, strict=True):
            self.sizes.append(
                tuple(self.shrink(n, kernel, stride, kind) for n in self.sizes[-1])  # type: ignore[misc]
            )
        n_flat = channels[-1] * self.sizes[-1][0] * self.sizes[-1][1]

        encoder: dict[str, nn.Module] = {}
        ins = [self.shape[0], *channels[:-1]]
        g = 0
        for i, kind in enumerate(self.types):
            if kind == "conv":
                args = (ins[i], channels[i], self.kernels[i], self.strides[i])
                encoder |= per_session(
                    lambda args=args: nn.Conv2d(*args), f"conv{g}", n_sessions if i == 0 else 0
                )
                if has_norm:
                    encoder[f"batchnorm{g}"] = nn.BatchNorm2d(channels[i], momentum=momentum)
                g += 1
        self.has_ff = bool(arch.get("ae_decoding_last_FF_layer"))
        decoder = self.build_decoder(n_sessions)
        self.encoding = Part(encoder=Part(**encoder), FF=nn.Linear(n_flat, n_latents))
        n_start = self.start[0] * self.start[1] * self.start[2]
        self.decoding = Part(decoder=Part(**decoder), FF=nn.Linear(n_latents, n_start))

    def build_decoder(self, n_sessions: int) -> dict[str, nn.Module]:
        arch, channels = self.arch, self.arch["ae_encoding_n_channels"]
        has_norm, momentum = arch.get("ae_batch_norm", 0), arch.get("ae_batch_norm_momentum")
        if arch.get("symmetric_arch", 1):
            self.start = (channels[-1], *self.sizes[-1])
            self.outs = [*channels[:-1][::-1], 16 if self.has_ff else self.shape[0]]
            self.d_kernels, self.d_strides = self.kernels[::-1], self.strides[::-1]
            self.d_types = self.types[::-1]
            self.d_sizes = self.sizes[-2::-1]
        else:
            self.start = tuple(arch["ae_decoding_starting_dim"])
            self.outs = arch["ae_decoding_n_channels"]
            self.d_kernels = arch["ae_decoding_kernel_size"]
            self.d_strides = arch["ae_decoding_stride_size"]
            self.d_types = ["conv"] * len(self.outs)
            self.d_sizes = []
            size = self.start[1:]
            for stride in self.d_strides:
                size = tuple(n * stride - stride + 1 for n in size)
                self.d_sizes.append(size)
        decoder: dict[str, nn.Module] = {}
        ins, g = [self.start[0], *self.outs[:-1]], 0
        for i, kind in enumerate(self.d_types):
            if kind == "conv":
                is_last = i == len(self.outs) - 1 and not self.has_ff
                args = (ins[i], self.outs[i], self.d_kernels[i], self.d_strides[i])
                decoder |= per_session(
                    lambda args=args: nn.ConvTranspose2d(*args),
                    f"convtranspose{g}",
                    n_sessions if is_last else 0,
                )
                if has_norm and not is_last:
                    decoder[f"batchnorm{g}"] = nn.BatchNorm2d(self.outs[i], momentum=momentum)
                g += 1
        if self.has_ff:
            n_before = self.outs[-1] * self.d_sizes[-1][0] * self.d_sizes[-1][1]
            decoder[f"last_ff{g}"] = nn.Linear(
                n_before, self.shape[0] * self.shape[1] * self.shape[2]
            )
        return decoder

    def shrink(self, size: int, kernel: int, stride: int, kind: str) -> int:
        if kind == "maxpool":
            pool = nn.MaxPool1d(kernel, stride, ceil_mode=self.is_same)
            return int(pool(torch.zeros(1, 1, size)).shape[2])
        before, after = same_padding(size, kernel, stride) if self.is_same else (0, 0)
        return (size + before + after - kernel) // stride + 1

    def forward(self, x: Tensor, session: int = 0) -> tuple[Tensor, Tensor]:
        modules = dict(self.encoding.encoder.named_children())
        wheres, g = [], 0
        for i, kind in enumerate(self.types):
            if kind == "maxpool":
                continue
            if self.is_same:
                pads = [same_padding(n, self.kernels[i], self.strides[i]) for n in self.sizes[i]]
                x = nn.functional.pad(x, (*pads[1], *pads[0]))
            x = self.pick(modules, f"conv{g}", session)(x)
            x = modules[f"batchnorm{g}"](x) if f"batchnorm{g}" in modules else x
            if i + 1 < len(self.types) and self.types[i + 1] == "maxpool":
                x, where = nn.functional.max_pool2d(
                    x,
                    self.kernels[i + 1],
                    self.strides[i + 1],
                    ceil_mode=self.is_same,
                    return_indices=True,
                )
                wheres.append(where)
            x, g = nn.functional.leaky_relu(x, SLOPE), g + 1
        latents = self.encoding.FF(x.flatten(1))
        return latents, self.decode(latents, wheres, session)

    def decode(self, z: Tensor, wheres: list[Tensor], session: int) -> Tensor:
        modules = dict(self.decoding.decoder.named_children())
        x = self.decoding.FF(z).view(len(z), *self.start)
        g = 0
        for i, kind in enumerate(self.d_types):
            kernel, stride, size = self.d_kernels[i], self.d_strides[i], self.d_sizes[i]
            if kind == "maxpool":
                x = nn.functional.max_unpool2d(x, wheres.pop(), kernel, stride, output_size=size)
                continue
            inner = x.shape[2:]
            x = self.pick(modules, f"convtranspose{g}", session)(x)
            if self.is_same:
                crops = [
                    max(0, (n - 1) * stride + kernel - m) for n, m in zip(inner, size, strict=True)
                ]
                top, left = crops[0] // 2, crops[1] // 2
                x = x[..., top : top + size[0], left : left + size[1]]
            else:
                extra = [m - n for n, m in zip(x.shape[2:], size, strict=True)]
                bias = self.pick(modules, f"convtranspose{g}", session).bias
                grown = bias[:, None, None].expand(len(z), -1, *size).clone()
                grown[..., : size[0] - extra[0], : size[1] - extra[1]] = x
                x = grown
            if self.has_ff or i + 1 < len(self.d_types):
                x = modules[f"batchnorm{g}"](x) if f"batchnorm{g}" in modules else x
                x = nn.functional.leaky_relu(x, SLOPE)
            g += 1
        if self.has_ff:
            x = modules[f"last_ff{g}"](x.flatten(1)).view(len(z), *self.shape)
        return x.sigmoid()

    def pick(self, modules: dict[str, nn.Module], name: str, session: int) -> Any:
        if name in modules:
            return modules[name]
        copies = modules[f"{name}_sess_io_layers"]
        assert isinstance(copies, nn.ModuleList)
        return copies[session]
