"""Score a model on a whole split, from posterior means, in the same way for every trial."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from psvae_tune.data.session import SplitName
from psvae_tune.metrics.arrays import Array
from psvae_tune.metrics.label_prediction import label_mse, label_r2
from psvae_tune.metrics.sampling_error import Clips, frames_of
from psvae_tune.models.encoding import Encoding, gather
from psvae_tune.models.losses import triplet_loss
from psvae_tune.models.model import Model
from psvae_tune.training.batch_calls import BatchCalls
from psvae_tune.training.batches import PreparedData
from psvae_tune.training.unsupervised_latents import (
    UnsupervisedLatents,
    gather_latents,
    score_latents,
)

EVALUATION_SEED = 0
"""Seed of the draw that the decomposed KL needs; the same draw keeps epochs comparable."""
MAX_TRIPLET_FRAMES = 2000
"""Number of frames, spread over a split, that the triplet loss compares pair by pair."""


@dataclass(frozen=True, slots=True)
class SplitTargets:
    """Recorded labels and sessions of a split, one clip after another."""

    labels: Array | None
    """(frame, label), standardised; None where the recording has none."""
    label_mask: Array | None
    """(frame, label), 0 where the tracker lost the point."""
    session_index: Array
    """(frame,)."""
    hidden: Array | None
    """(frame, label): labels that the model does not see, standardised; None if there are none."""
    hidden_mask: Array | None
    """(frame, label), 0 where the tracker lost the point."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Output of a model for a split, one clip after another, and its metrics."""

    metrics: dict[str, float]
    """Keys with the split, as in `metric_catalog`."""
    terms: Mapping[str, Array]
    """(clip,): the terms of the objective that one clip has, and their weighted sum ``loss``."""
    squared_error: Array
    """(clip,): summed over the valid pixels of a clip."""
    n_valid_pixels: Array
    """(clip,)."""
    clip_lengths: tuple[int, ...]
    """Number of frames in each clip."""
    mean: Array
    """(frame, latent), in the coordinates of the model's partition."""
    logvar: Array | None
    """(frame, latent): log variance; None for a model without a posterior."""
    labels_hat: Array | None
    """(frame, label), standardised; None where the model predicts no labels."""
    targets: SplitTargets
    latents: UnsupervisedLatents
    """Unsupervised latents of the split and of training clips, in this order."""


@torch.inference_mode()
def evaluate(
    model: Model,
    data: PreparedData,
    split: SplitName,
    device: torch.device,
    train: Encoding | None = None,
    calls: BatchCalls | None = None,
) -> Evaluation:
    """Score a model on a split.

    Predictions are made from posterior means. The terms of the KL are expectations over the
    posterior; one draw with a fixed seed estimates them, and they have their full weights.

    The unsupervised latents are also looked at in training clips; see `gather_latents`.

    With several sessions, each session also has the metrics of frames and labels of its own,
    ``val/label_r2/session_0`` and so on, in the order of the sessions.

    Parameters
    ----------
    model
        Put into evaluation mode.
    data
        Recordings.
    split
        Split to score.
    device
        Device of the model.
    train
        All training frames as the model encodes them, if that is known already.
    calls
        Calls of the model that are made in every evaluation; without them, new ones.
    """
    model.eval()
    calls = calls or BatchCalls(model, device)
    by_clip, encoding = _score_each_clip(model, calls, data, split, device)
    # A single clip has no other session to compare with, so this loss is that of the split.
    by_clip.pop("triplet", None)
    squared_error, n_valid_pixels = by_clip.pop("squared_error"), by_clip.pop("n_valid_pixels")
    evaluation = Evaluation(
        metrics={},
        terms=by_clip,
        squared_error=squared_error,
        n_valid_pixels=n_valid_pixels,
        clip_lengths=data.clip_lengths(data.clips(split)),
        mean=encoding.latents,
        logvar=encoding.logvar,
        labels_hat=encoding.labels_hat,
        targets=collect_targets(data, split),
        latents=gather_latents(model, calls, data, split, device, encoding, train),
    )
    found = score_clips(evaluation, np.arange(len(evaluation.clip_lengths)))
    found |= score_latents(evaluation.latents) | _score_sessions(evaluation, data, split)
    if "triplet" in calls.weights:
        triplet = _triplet(model, evaluation)
        loss = (found["loss"] or 0) + calls.weights["triplet"] * triplet
        found |= {"triplet": triplet, "loss": loss}
    for name, value in found.items():
        if value is not None:
            evaluation.metrics[f"{split}/{name}"] = value
    return evaluation


def score_clips(seen: Evaluation, clips: Clips) -> dict[str, float | None]:
    """Return the metrics of some clips of a split: the terms, and those of frames and labels.

    Parameters
    ----------
    seen
        Output of the model for the split.
    clips
        Indices of clips, which may repeat.
    """
    n_frames = np.asarray(seen.clip_lengths)[clips]
    found: dict[str, float | None] = {
        name: float(np.average(values[clips], weights=n_frames))
        for name, values in seen.terms.items()
    }
    return found | _pooled_metrics(seen, clips)


def collect_targets(data: PreparedData, split: SplitName) -> SplitTargets:
    """Return the labels of a split, their mask, and the session of every frame."""
    labels, masks, sessions = [], [], []
    hidden, hidden_masks = [], []
    for index, clip in data.clips(split):
        item = data.sessions[index]
        rows = item.session.clip(clip)
        sessions.append(np.full(rows.stop - rows.start, index))
        if item.labels is not None and item.session.label_masks is not None:
            labels.append(item.labels[rows])
            mask = item.session.label_masks[rows]
            masks.append(mask if item.session.header.has_label_masks else np.ones_like(mask))
        if item.hidden is not None:
            hidden.append(item.hidden.labels[rows])
            hidden_masks.append(item.hidden.label_masks[rows])
    return SplitTargets(
        np.concatenate(labels) if labels else None,
        np.concatenate(masks) if masks else None,
        np.concatenate(sessions),
        np.concatenate(hidden) if hidden else None,
        np.concatenate(hidden_masks) if hidden_masks else None,
    )


def _score_each_clip(
    model: Model, calls: BatchCalls, data: PreparedData, split: SplitName, device: torch.device
) -> tuple[dict[str, Array], Encoding]:
    """Return the terms and pixel sums of each clip, and the encoding."""
    calls.score.rng.manual_seed(EVALUATION_SEED)
    rows, seen = [], []
    for batch in data.load_batches([[place] for place in data.clips(split)], device):
        row, *latents = calls.score(batch)
        assert row is not None
        rows.append(row)
        seen.append(tuple(latents))
    columns = torch.stack(rows).double().cpu().numpy().T
    return dict(zip(calls.names, columns, strict=True)), gather(model, seen)


def _score_sessions(
    seen: Evaluation, data: PreparedData, split: SplitName
) -> dict[str, float | None]:
    """Return the metrics of frames and labels of each session; empty for a single session."""
    if len(data.sessions) == 1:
        return {}
    sessions = np.array([session for session, _ in data.clips(split)])
    found: dict[str, float | None] = {}
    for index in range(len(data.sessions)):
        clips = np.flatnonzero(sessions == index)
        scores = _pooled_metrics(seen, clips)
        found |= {f"{name}/session_{index}": value for name, value in scores.items()}
    return found


def _pooled_metrics(seen: Evaluation, clips: Clips) -> dict[str, float | None]:
    """Return the metrics of frames and labels, over the valid entries of some clips."""
    error, n_valid = seen.squared_error[clips].sum(), seen.n_valid_pixels[clips].sum()
    found: dict[str, float | None] = {"frame_mse": float(error / max(n_valid, 1))}
    frames, targets = frames_of(clips, seen.clip_lengths), seen.targets
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
