"""Score a model on a whole split, from posterior means, in the same way for every trial."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from psvae_tune.data.session import SplitName
from psvae_tune.metrics.label_prediction import label_mse, label_r2
from psvae_tune.metrics.latent_dependence import active_units, gaussian_tc, latent_correlation
from psvae_tune.models.batch import Batch, Prediction
from psvae_tune.models.encoding import join
from psvae_tune.models.losses import triplet_loss
from psvae_tune.models.model import Model
from psvae_tune.training.batches import PreparedData

EVALUATION_SEED = 0
"""Seed of the draw that the decomposed KL needs; the same draw keeps epochs comparable."""
MAX_TRIPLET_FRAMES = 2000
"""Number of frames, spread over a split, that the triplet loss compares pair by pair."""


Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class SplitTargets:
    """Recorded labels and sessions of a split, one clip after another."""

    labels: Array | None
    """(frame, label), standardised; None where the recording has none."""
    label_mask: Array | None
    """(frame, label), 0 where the tracker lost the point."""
    session_index: Array
    """(frame,)."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Output of a model for a split, one clip after another, and its metrics."""

    metrics: dict[str, float]
    """Keys with the split, as in `metric_catalog`."""
    mean: Array
    """(frame, latent), in the coordinates of the model's partition."""
    logvar: Array | None
    """(frame, latent): log variance; None for a model without a posterior."""
    labels_hat: Array | None
    """(frame, label), standardised; None where the model predicts no labels."""
    targets: SplitTargets


@torch.inference_mode()
def evaluate(
    model: Model, data: PreparedData, split: SplitName, device: torch.device
) -> Evaluation:
    """Score a model on a split.

    Predictions are made from posterior means. The terms of the KL are expectations over the
    posterior; one draw with a fixed seed estimates them, and they have their full weights.

    With several sessions, each session also has the metrics of frames and labels of its own,
    ``val/label_r2/session_0`` and so on, in the order of the sessions.

    Side effects: puts the model into evaluation mode.
    """
    model.eval()
    rng = torch.Generator(device).manual_seed(EVALUATION_SEED)
    rows, n_frames, seen = [], [], []
    for batch in data.iterate(split, device):
        terms = model.terms_of_means(batch, rng)
        said = terms.prediction
        names = [*terms.terms, "loss"]
        values = [*terms.values().values(), terms.loss]
        rows.append(torch.stack([*values, _squared_error(batch, said), batch.n_valid_pixels]))
        n_frames.append(len(batch.frames))
        seen.append((model.to_partition(said.mean), said.logvar, said.labels))
    table = torch.stack(rows).double().cpu().numpy()
    mean, logvar, labels_hat = (join(parts) for parts in zip(*seen, strict=True))
    assert mean is not None
    targets = collect_targets(data, split)
    evaluation = Evaluation({}, mean, logvar, labels_hat, targets)
    means = [float(mean) for mean in np.average(table[:, :-2], axis=0, weights=n_frames)]
    found: dict[str, float | None] = dict(zip(names, means, strict=True))
    found |= _pooled_metrics(evaluation, table[:, -2:], slice(None), slice(None))
    clip_sessions = np.array([session for session, _ in data.clips(split)])
    for index in range(len(data.sessions) if len(data.sessions) > 1 else 0):
        clips, frames = clip_sessions == index, targets.session_index == index
        found |= {
            f"{name}/session_{index}": value
            for name, value in _pooled_metrics(evaluation, table[:, -2:], clips, frames).items()
        }
    found |= _latent_metrics(model, evaluation)
    if "triplet" in found and len(data.sessions) > 1:
        # A single clip has no other session to compare with, so the loss is that of the split.
        triplet = _triplet(model, evaluation)
        found |= {"triplet": triplet, "loss": means[-1] + terms.terms["triplet"].weight * triplet}
    for name, value in found.items():
        if value is not None:
            evaluation.metrics[f"{split}/{name}"] = value
    return evaluation


def collect_targets(data: PreparedData, split: SplitName) -> SplitTargets:
    """Return the labels of a split, their mask, and the session of every frame."""
    labels, masks, sessions = [], [], []
    for index, clip in data.clips(split):
        item = data.sessions[index]
        rows = item.session.clip(clip)
        sessions.append(np.full(rows.stop - rows.start, index))
        if item.labels is not None and item.session.label_masks is not None:
            labels.append(item.labels[rows])
            mask = item.session.label_masks[rows]
            masks.append(mask if item.session.header.has_label_masks else np.ones_like(mask))
    return SplitTargets(
        np.concatenate(labels) if labels else None,
        np.concatenate(masks) if masks else None,
        np.concatenate(sessions),
    )


def _pooled_metrics(
    seen: Evaluation, errors: Array, clips: Any, frames: Any
) -> dict[str, float | None]:
    """Return the metrics of frames and labels, over some clips and the frames in them.

    ``errors`` holds, a row a clip, the summed squared error and the number of valid pixels.
    """
    error, n_valid = errors[clips].sum(axis=0)
    found: dict[str, float | None] = {"frame_mse": float(error / max(n_valid, 1))}
    targets = seen.targets
    if seen.labels_hat is not None and targets.labels is not None:
        assert targets.label_mask is not None
        given = targets.labels[frames], seen.labels_hat[frames], targets.label_mask[frames]
        r2 = label_r2(*given)
        found["label_r2"] = None if r2 is None else r2.mean
        found["label_mse"] = label_mse(*given)
    return found


def _triplet(model: Model, seen: Evaluation) -> float:
    """Return the triplet loss of the background means of a split, with the same draws always."""
    n_frames = len(seen.mean)
    rows = np.linspace(0, n_frames - 1, min(n_frames, MAX_TRIPLET_FRAMES)).round().astype(int)
    background = torch.from_numpy(seen.mean[rows][:, model.partition.background])
    rng = torch.Generator().manual_seed(EVALUATION_SEED)
    sessions = torch.from_numpy(seen.targets.session_index[rows])
    return float(triplet_loss(background, sessions, rng))


def _squared_error(batch: Batch, prediction: Prediction) -> torch.Tensor:
    """Return the squared error summed over the valid pixels of a batch."""
    error = (batch.frames - prediction.frames).square()
    return (error if batch.frame_mask is None else error * batch.frame_mask).sum()


def _latent_metrics(model: Model, seen: Evaluation) -> dict[str, float | None]:
    """Return the metrics of the unsupervised latents of one split."""
    found: dict[str, float | None] = {}
    unsupervised = seen.mean[:, model.partition.unsupervised]
    found["latent_correlation"] = latent_correlation(unsupervised)
    found["gaussian_tc"] = gaussian_tc(unsupervised)
    if seen.logvar is not None:
        found["active_units"] = active_units(
            unsupervised, seen.logvar[:, model.partition.unsupervised]
        )
    return found
