"""Traversals of all latents of a trial, around base frames of its recordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from psvae_tune.data.session import Session
from psvae_tune.models.batch import Batch
from psvae_tune.models.model import Model
from psvae_tune.models.traversal import percentile_steps, traverse
from psvae_tune.results.figures.images import resize, to_tile
from psvae_tune.results.predictions import Predictions
from psvae_tune.training.batches import PreparedData

N_VALUES = 5
N_BASES = 3

_N_SCANNED = 400  # frames among which the base frames of a study are looked for
_SCAN_HEIGHT = 16

FramePlace = tuple[int, int]
"""Session of a frame, and its position there."""


@dataclass(frozen=True, slots=True)
class Traversals:
    """Frames of the traversals: one row a latent, one column a value, for each base frame."""

    names: tuple[str, ...]
    """Names of the latents that are traversed."""
    n_supervised: int
    """Number of latents, the first ones, that are those of labels."""
    values: NDArray[np.float32]
    """(latent, value)."""
    places: tuple[FramePlace, ...]
    base: NDArray[Any]
    """(base frame, channel, height, width), as recorded."""
    frames: NDArray[np.float32]
    """(base frame, latent, value, channel, height, width)."""
    points: NDArray[np.float32] | None
    """(base frame, latent, value, label) in pixels, all x, then all y: where the labels are
    predicted to be; None where labels are not predicted or are not places in the frame."""

    def differences(self) -> NDArray[np.float32]:
        """Return (base frame, latent, channel, height, width): highest minus lowest value."""
        return self.frames[:, :, -1] - self.frames[:, :, 0]


def choose_bases(
    predictions: Sequence[Predictions], n_bases: int = N_BASES
) -> tuple[FramePlace, ...]:
    """Return the frames nearest to the centres that k-means finds among the latents.

    The centres are different postures, from each of which a traversal can be seen. The frames
    depend on the model; those of `choose_common_bases` do not.
    """
    latents = np.concatenate([item.latents for item in predictions])
    places = [(i, j) for i, item in enumerate(predictions) for j in range(len(item.latents))]
    return tuple(places[row] for row in _central_rows(latents, n_bases))


def choose_common_bases(
    sessions: Sequence[Session], n_bases: int = N_BASES
) -> tuple[FramePlace, ...]:
    """Return frames that depend on the recordings alone, and so are the same for all trials."""
    places = [(i, j) for i, item in enumerate(sessions) for j in range(item.header.n_frames)]
    places = places[:: max(1, len(places) // _N_SCANNED)]
    small = np.stack(
        [resize(to_tile(sessions[i].frames[j]), _SCAN_HEIGHT).ravel() for i, j in places]
    )
    return tuple(places[row] for row in _central_rows(small.astype(np.float32), n_bases))


def _central_rows(points: NDArray[Any], n_rows: int) -> list[int]:
    from sklearn.cluster import KMeans  # takes a second, which most commands can do without

    n_clusters = min(n_rows, len(np.unique(points, axis=0)))
    centres = KMeans(n_clusters, n_init=1, random_state=0).fit(points).cluster_centers_
    distances = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
    return sorted({int(row) for row in distances.argmin(axis=0)})


def latent_values(
    predictions: Sequence[Predictions], data: PreparedData, n_values: int = N_VALUES
) -> NDArray[np.float32]:
    """Return (latent, value): even steps between the 5th and the 95th percentile in training."""
    parts = []
    for item, prepared in zip(predictions, data.sessions, strict=True):
        parts += [item.latents[prepared.session.clip(clip)] for clip in prepared.splits.train]
    return percentile_steps(np.concatenate(parts), n_values)


def traverse_places(
    model: Model,
    data: PreparedData,
    places: Sequence[FramePlace],
    values: NDArray[np.float32],
    device: torch.device,
) -> Traversals:
    """Decode base frames with one latent after another set to each of its values.

    Parameters
    ----------
    model
        Model in evaluation mode.
    data
        Recordings with the base frames.
    places
        Places of the base frames.
    values
        (latent, value), as from `latent_values`.
    device
        Device of the model.
    """
    found = [
        traverse(model, frame_batch(data, session, row, device), range(len(values)), values)
        for session, row in places
    ]
    return Traversals(
        names=model.partition.name_latents(data.label_names),
        n_supervised=model.partition.n_supervised,
        values=values,
        places=tuple(places),
        base=np.stack([data.sessions[i].session.frames[row] for i, row in places]),
        frames=np.stack([item.frames for item in found]),
        points=_to_pixels([item.labels_hat for item in found], data, places),
    )


def frame_batch(data: PreparedData, session: int, row: int, device: torch.device) -> Batch:
    """Return one frame of a session as a batch."""
    header = data.sessions[session].session.header
    ends = np.cumsum(header.clip_lengths)
    clip = int(np.searchsorted(ends, row, side="right"))
    first = row - int(ends[clip] - header.clip_lengths[clip])
    return data.batch([(session, clip)], device).frame(first)


def _to_pixels(
    labels_hat: Sequence[NDArray[Any] | None],
    data: PreparedData,
    places: Sequence[FramePlace],
) -> NDArray[np.float32] | None:
    """Return predicted labels as places in the frame; None where the recordings hold no places."""
    parts = []
    for (session, _), scaled in zip(places, labels_hat, strict=True):
        item = data.sessions[session]
        recorded, masks = item.session.labels_sc, item.session.label_masks
        if scaled is None or recorded is None or item.labels is None or masks is None:
            return None
        if recorded.shape[1] % 2:
            return None
        # A label and its place differ by a shift and a scale, which two valid frames determine.
        lines = [
            np.polyfit(item.labels[mask, k], recorded[mask, k], 1)
            for k, mask in enumerate(masks.T)
        ]
        slope, shift = np.array(lines).T
        parts.append(scaled * slope + shift)
    return np.stack(parts).astype(np.float32)
