"""Networks of every kind that the architecture keys can describe."""

from typing import Any

SLIM = {"ae_encoding_n_channels": [2, 3, 4, 5, 6]}
POOLED = {
    "ae_network_type": "max_pooling",
    "ae_encoding_n_channels": [3, 3, 4, 4],
    "ae_encoding_kernel_size": [3, 3, 5, 2],
    "ae_encoding_stride_size": [1, 3, 2, 2],
    "ae_encoding_layer_type": ["conv", "maxpool", "conv", "maxpool"],
}
POOLED_FIRST = {
    **POOLED,
    "ae_encoding_n_channels": [1, 3, 3, 3],
    "ae_encoding_kernel_size": [2, 3, 2, 2],
    "ae_encoding_stride_size": [2, 1, 2, 1],
    "ae_encoding_layer_type": ["maxpool", "conv", "maxpool", "maxpool"],
}
EXPLICIT = {
    "symmetric_arch": False,
    "ae_encoding_n_channels": [4, 6],
    "ae_encoding_kernel_size": [5, 5],
    "ae_encoding_stride_size": [3, 3],
    "ae_decoding_n_channels": [7, 5, 1],
    "ae_decoding_kernel_size": [2, 5, 3],
    "ae_decoding_stride_size": [3, 2, 1],
}
# Kernels smaller than strides leave pixels that no window reaches.
SPARSE = {
    "ae_encoding_n_channels": [3, 4],
    "ae_encoding_kernel_size": [2, 3],
    "ae_encoding_stride_size": [4, 5],
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "default, slim": SLIM,
    "pooled": POOLED,
    "pooled first": POOLED_FIRST,
    "explicit": EXPLICIT,
    "sparse": SPARSE,
    "batch norm": {**SLIM, "ae_batch_norm": True, "ae_batch_norm_momentum": 0.1},
    "one layer": {
        "ae_encoding_n_channels": [4],
        "ae_encoding_kernel_size": [3],
        "ae_encoding_stride_size": [1],
    },
}
