"""Frames decoded while one latent moves and all others stay."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from psvae_tune.models.batch import Batch
from psvae_tune.models.encoding import Floats, join
from psvae_tune.models.model import Model

PERCENTILES = (5, 95)
"""A latent moves between these percentiles of the training frames."""
_N_DECODED_AT_ONCE = 64


class Traversal(NamedTuple):
    """Frames and labels that one frame is decoded to."""

    frames: Floats
    """(latent, value, channel, height, width)."""
    labels_hat: Floats | None
    """(latent, value, label), standardised; None where the model predicts no labels."""


def percentile_steps(latents: NDArray[np.floating], n_values: int) -> Floats:
    """Return (latent, value): even steps from the 5th to the 95th percentile of the frames.

    Parameters
    ----------
    latents
        (frame, latent).
    n_values
        Number of steps, both ends included.
    """
    low, high = np.percentile(latents, PERCENTILES, axis=0)
    return np.linspace(low, high, n_values, axis=1).astype(np.float32)


@torch.inference_mode()
def traverse(model: Model, frame: Batch, columns: Sequence[int], values: Floats) -> Traversal:
    """Decode a frame with one latent after another set to each of its values.

    Parameters
    ----------
    model
        A model in evaluation mode.
    frame
        A batch of a single frame, with its labels for a conditional model.
    columns
        The latents to move, by their place in the partition.
    values
        (latent, value) for these latents, in the coordinates of the partition.
    """
    n_values = values.shape[1]
    q = model.encode(frame.frames, frame.labels_sc, frame.session_index)
    steps = torch.as_tensor(values, dtype=q.mean.dtype, device=q.mean.device)
    rows = torch.arange(len(columns) * n_values, device=q.mean.device)
    z = model.to_partition(q.mean).repeat(len(rows), 1)
    z[rows, torch.as_tensor(columns, device=z.device)[rows // n_values]] = steps.reshape(-1)
    z = model.from_partition(z)
    frames = []
    for part in torch.split(z, _N_DECODED_AT_ONCE):
        labels = None if frame.labels is None else frame.labels.expand(len(part), -1)
        session = None if frame.session_index is None else frame.session_index.expand(len(part))
        frames.append(model.decode(part, labels, session, like=q))
    found, labels_hat = join(frames), join([model.predict_labels(z)])
    assert found is not None
    shape = (len(columns), n_values)
    return Traversal(
        found.reshape(*shape, *found.shape[1:]),
        None if labels_hat is None else labels_hat.reshape(*shape, -1),
    )
