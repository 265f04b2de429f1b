"""Latents and labels of frames, chunk by chunk and without sampling."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psvae_tune.errors import DataError
from psvae_tune.models.batch import Batch
from psvae_tune.models.model import Model

Floats = NDArray[np.float32]

N_FRAMES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Encoding:
    """Frames as a model sees them."""

    latents: Floats
    """(frame, latent): posterior means, in the coordinates of the model's partition."""
    logvar: Floats | None
    """(frame, latent): log variance; None for a model without a posterior."""
    labels_hat: Floats | None
    """(frame, label), standardised; None where the model predicts no labels."""


Latents = tuple[Tensor | None, ...]
"""Posterior means, log variances and labels of a batch, those that a model has."""


def encode_batch(model: Model, batch: Batch) -> Latents:
    """Return what a model says of a batch without sampling, in its own coordinates."""
    q = model.encode(batch.frames, batch.labels_sc, batch.session_index)
    return q.mean, q.logvar, model.predict_labels(q.mean)


@torch.inference_mode()
def encode(
    model: Model,
    batches: Iterable[Batch],
    call: Callable[[Batch], Latents] | None = None,
) -> Encoding:
    """Encode batches, one after another, without sampling.

    Parameters
    ----------
    model
        Put into evaluation mode.
    batches
        At least one, on the device of the model.
    call
        How a batch is encoded; `encode_batch` unless it is given.

    Raises
    ------
    DataError
        If there are no frames.
    """
    model.eval()
    seen = [encode_batch(model, batch) if call is None else call(batch) for batch in batches]
    if not seen:
        raise DataError("frames", "must be at least one, got none")
    return gather(model, seen)


def gather(model: Model, seen: Sequence[Latents]) -> Encoding:
    """Return what `encode_batch` has returned for batches, one after another, as one encoding."""
    means, logvars, labels_hat = zip(*seen, strict=True)
    latents = join([model.to_partition(mean) for mean in means])
    assert latents is not None
    return Encoding(latents, join(logvars), join(labels_hat))


def join(parts: Sequence[Tensor | None]) -> Floats | None:
    """Return tensors, one after another, as one array; None where none of them is there."""
    present = [part for part in parts if part is not None]
    return torch.cat(present).cpu().numpy() if present else None


class FrameArray(Protocol):
    """Frames that are in memory, or that are read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


def split_frames(frames: FrameArray, n_at_once: int = N_FRAMES_AT_ONCE) -> Iterator[NDArray[Any]]:
    """Yield frames in chunks of at most ``n_at_once``."""
    for start in range(0, len(frames), n_at_once):
        yield frames[start : start + n_at_once]


def iter_batches(
    model: Model,
    chunks: Iterable[NDArray[Any]],
    session_index: int = 0,
    labels: NDArray[np.floating] | None = None,
    labels_sc: NDArray[np.floating] | None = None,
) -> Iterator[Batch]:
    """Yield chunks of frames as batches on the device of a model.

    Parameters
    ----------
    model
        The model that takes them.
    chunks
        (frame, channel, height, width) each; uint8, or floats in [0, 1].
    session_index
        The session of the fit that all frames belong to.
    labels
        (frame of all chunks, label), standardised; only a conditional model needs them.
    labels_sc
        (frame of all chunks, label) in pixels, all x, then all y; only a conditional encoder
        needs them.

    Raises
    ------
    DataError
        If the frames are no such frames, or something does not fit the model.
    """
    start = 0
    for chunk in chunks:
        rows = slice(start, start + len(chunk))
        start = rows.stop
        points = None if labels_sc is None else labels_sc[rows]
        if points is not None and model.config.conditional_encoder:
            expected = (len(chunk), model.shape.n_labels)
            if points.shape != expected:
                raise DataError(
                    "labels_sc", f"must be {expected} (frame, label), got {points.shape}"
                )
        scaled = None if labels is None else labels[rows]
        yield model.to_batch(in_unit_range(chunk), scaled, points, session_index)


def in_unit_range(frames: NDArray[Any]) -> Floats:
    """Return frames as floats in [0, 1], as a model takes them.

    Raises
    ------
    DataError
        If they are neither uint8 nor such floats.
    """
    if frames.dtype == np.uint8:
        return np.divide(frames, 255, dtype=np.float32)
    hint = "divide by the largest possible pixel, or pass uint8"
    if not np.issubdtype(frames.dtype, np.floating):
        raise DataError("frames", f"must be uint8 or floats in [0, 1], got {frames.dtype}", hint)
    if frames.size and not (frames.min() >= 0 and frames.max() <= 1):
        low, high = frames.min(), frames.max()
        found = "NaN" if np.isnan(low) else f"{low:g} to {high:g}"
        raise DataError("frames", f"floats must be in [0, 1], got {found}", hint)
    return frames.astype(np.float32)
