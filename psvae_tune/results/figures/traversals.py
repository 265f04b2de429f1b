"""Frames decoded while one latent moves and all others stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from psvae_tune.data.session import Session
from psvae_tune.models.batch import Batch
from psvae_tune.models.model import Model
from psvae_tune.results.figures.images import resize, to_tile
from psvae_tune.results.predictions import Predictions, name_latents
from psvae_tune.training.batches import PreparedData

N_VALUES = 5
N_BASES = 3
PERCENTILES = (5, 95)

_N_SCANNED = 400  # frames among which the base frames of a study are looked for
_SCAN_HEIGHT = 16
_N_DECODED_AT_ONCE = 64

FramePlace = tuple[int, int]
"""Of a frame: its session, and its position there."""


@dataclass(frozen=True, slots=True)
class Traversals:
    """One row a latent, one column a value, for each base frame."""

    names: tuple[str, ...]
    """Of the latents that are traversed."""
    n_supervised: int
    """The first so many latents are those of labels."""
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

    The centres are different postures, so one traversal is seen from several of them. The frames
    depend on the model; `choose_common_bases` returns some that do not.
    """
    latents = np.concatenate([item.latents for item in predictions])
    places = [(i, j) for i, item in enumerate(predictions) for j in range(len(item.latents))]
    return tuple(places[row] for row in _central_rows(latents, n_bases))


def choose_common_bases(
    sessions: Sequence[Session], n_bases: int = N_BASES
) -> tuple[FramePlace, ...]:
    """Return frames that depend on the recordings alone, so that trials compare side by side."""
    places = [(i, j) for i, item in enumerate(sessions) for j in range(item.header.n_frames)]
    places = places[:: max(1, len(places) // _N_SCANNED)]
    small = np.stack(
        [resize(to_tile(sessions[i].frames[j]), _SCAN_HEIGHT).ravel() for i, j in places]
    )
    return tuple(places[row] for row in _central_rows(small.astype(np.float32), n_bases))


def _central_rows(points: NDArray[Any], n_rows: int) -> list[int]:
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
    low, high = np.percentile(np.concatenate(parts), PERCENTILES, axis=0)
    return np.linspace(low, high, n_values, axis=1).astype(np.float32)


@torch.inference_mode()
def traverse(
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
        In evaluation mode.
    data
        Holds the base frames.
    places
        Of the base frames.
    values
        (latent, value), as from `latent_values`.
    device
        Of the model.
    """
    n_latents, n_values = values.shape
    frames, points, base = [], [], []
    steps = torch.as_tensor(values, device=device)
    rows = torch.arange(n_latents * n_values, device=device)
    for session, row in places:
        one = frame_batch(data, session, row, device)
        q = model.encode(one.frames, one.labels_sc, one.session_index)
        z = model.to_partition(q.mean).repeat(len(rows), 1)
        z[rows, rows // n_values] = steps.reshape(-1)
        z = model.from_partition(z)
        frames.append(_decode(model, z, one, q))
        labels_hat = model.predict_labels(z)
        points.append(None if labels_hat is None else labels_hat.cpu().numpy())
        base.append(data.sessions[session].session.frames[row])
    shape = (len(places), n_latents, n_values)
    return Traversals(
        names=name_latents(model.partition, data.label_names),
        n_supervised=model.partition.n_supervised,
        values=values,
        places=tuple(places),
        base=np.stack(base),
        frames=np.stack(frames).reshape(*shape, *base[0].shape),
        points=_to_pixels(points, data, places, shape),
    )


def frame_batch(data: PreparedData, session: int, row: int, device: torch.device) -> Batch:
    """Return one frame of a session as a batch."""
    header = data.sessions[session].session.header
    ends = np.cumsum(header.clip_lengths)
    clip = int(np.searchsorted(ends, row, side="right"))
    first = row - int(ends[clip] - header.clip_lengths[clip])
    whole = data.batch([(session, clip)], device)
    fields = {name: getattr(whole, name) for name in Batch.__slots__}
    return Batch(
        **{name: None if v is None else v[first : first + 1] for name, v in fields.items()}  # type: ignore[arg-type]
    )


def _decode(model: Model, z: torch.Tensor, one: Batch, like: Any) -> NDArray[np.float32]:
    """Decode latents that all belong to one frame."""
    parts = []
    for start in range(0, len(z), _N_DECODED_AT_ONCE):
        chunk = z[start : start + _N_DECODED_AT_ONCE]
        labels = None if one.labels is None else one.labels.expand(len(chunk), -1)
        sessions = None if one.session_index is None else one.session_index.expand(len(chunk))
        parts.append(model.decode(chunk, labels, sessions, like=like).cpu().numpy())
    return np.concatenate(parts)


def _to_pixels(
    labels_hat: Sequence[NDArray[Any] | None],
    data: PreparedData,
    places: Sequence[FramePlace],
    shape: tuple[int, int, int],
) -> NDArray[np.float32] | None:
    """Return predicted labels as places in the frame, where the recordings tell how."""
    parts = []
    for (session, _), scaled in zip(places, labels_hat, strict=True):
        item = data.sessions[session]
        recorded, masks = item.session.labels_sc, item.session.label_masks
        if scaled is None or recorded is None or item.labels is None or masks is None:
            return None
        if recorded.shape[1] % 2:
            return None
        # Labels and places differ by a shift and a scale each, which two valid frames give.
        lines = [
            np.polyfit(item.labels[mask, k], recorded[mask, k], 1)
            for k, mask in enumerate(masks.T)
        ]
        slope, shift = np.array(lines).T
        parts.append(scaled * slope + shift)
    return np.stack(parts).reshape(*shape, -1).astype(np.float32)
