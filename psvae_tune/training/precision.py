"""The number format in which convolutions are trained, and how quick this device is in each."""

import time
from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from psvae_tune.config.training import Precision

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MIN_GAIN = 1.2
"""Factor by which bfloat16 must be quicker, so that a chance delay never decides."""
N_ROUNDS = 4
"""Number of times that each format is measured, in turn; the first time sets libraries up."""


def pick_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the number format in which convolutions are trained.

    Parameters
    ----------
    precision
        ``auto`` measures, once a process, and takes bfloat16 where it is quicker.
    device
        Device that the model is trained on.
    """
    if precision != "auto":
        return DTYPES[precision]
    seconds = measure_seconds(device)
    is_quicker = seconds["float32"] >= MIN_GAIN * seconds["bfloat16"]
    return torch.bfloat16 if is_quicker else torch.float32


@cache
def measure_seconds(device: torch.device) -> Mapping[str, float]:
    """Return the seconds of a product of matrices and of a convolution in each number format.

    On a CPU these are seconds of the processor, which other processes do not lengthen.
    """
    is_gpu = device.type == "cuda"
    calls = {name: _make_work(dtype, device, 8 if is_gpu else 1) for name, dtype in DTYPES.items()}
    rounds = [
        {name: _clock(call, device) for name, call in calls.items()} for _ in range(N_ROUNDS)
    ]
    return {name: min(seconds[name] for seconds in rounds[1:]) for name in DTYPES}


def _make_work(dtype: torch.dtype, device: torch.device, scale: int) -> Callable[[], Tensor]:
    size = 384 * scale
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    frames = torch.ones(8 * scale, 32, 32, 32, dtype=dtype, device=device)
    frames = frames.contiguous(memory_format=torch.channels_last)
    weight = torch.ones(64, 32, 5, 5, dtype=dtype, device=device)

    def work() -> Tensor:
        matrix @ matrix
        return F.conv2d(frames, weight, None, 2, 2)

    return work


def _clock(call: Callable[[], Tensor], device: torch.device) -> float:
    if device.type != "cuda":
        begin = time.process_time()
        call()
        return time.process_time() - begin
    torch.cuda.synchronize(device)
    begin = time.perf_counter()
    call()
    torch.cuda.synchronize(device)
    return time.perf_counter() - begin
