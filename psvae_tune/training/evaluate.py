"""Scoring a model on a whole split, with posterior means and the same meaning for every trial."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from psvae_tune.data.session import SplitName
from psvae_tune.metrics.label_prediction import label_mse, label_r2
from psvae_tune.metrics.latent_dependence import active_units, gaussian_tc, latent_correlation
from psvae_tune.models.batch import Batch
from psvae_tune.models.losses import triplet_loss
from psvae_tune.models.model import Model
from psvae_tune.training.batches import PreparedData

# The decomposed KL needs a draw; the same one in every validation keeps epochs comparable.
EVALUATION_SEED = 0
# The triplet loss compares every frame with every other: a spread of frames stands for a split.
MAX_TRIPLET_FRAMES = 2000


Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A split as a model sees it, every clip after another, and the metrics of that."""

    metrics: dict[str, float]
    """Keys with the split, as in `metric_catalog`; empty where nothing was scored."""
    mean: Array
    """(frame, latent), in the coordinates of the model's partition."""
    logvar: Array | None
    """(frame, latent): log variance; None for a model without a posterior."""
    labels: Array | None
    """(frame, label), scaled; None where the recording has none."""
    label_mask: Array | None
    labels_hat: Array | None
    """(frame, label), scaled; None where the model predicts no labels."""
    session_index: Array
    """(frame,)."""


@torch.inference_mode()
def evaluate(
    model: Model, data: PreparedData, split: SplitName, device: torch.device
) -> Evaluation:
    """Score a model on a split.

    Predictions are made from posterior means. The terms of the KL, which are expectations over
    the posterior, are taken on one draw from a fixed seed, at the weights' full values.

    With several sessions, the metrics of frames and labels are there for each as well, under
    ``val/label_r2/session_0`` and so on, in the order in which the sessions were given.

    Side effects: puts the model into evaluation mode.
    """
    model.eval()
    rng = torch.Generator(device).manual_seed(EVALUATION_SEED)
    rows, seen = [], []
    for batch in data.iterate(split, device):
        terms = model.terms_of_means(batch, rng)
        error, n_valid = _squared_error(batch, terms.prediction.frames)
        values = {**terms.values(), "loss": terms.loss, "error": error, "n_valid": n_valid}
        rows.append(torch.stack([*values.values()]))
        prediction = terms.prediction
        seen.append(_Clip.of(model, batch, prediction.mean, prediction.logvar, prediction.labels))
    table = torch.stack(rows).double().cpu().numpy()
    n_frames = [len(clip.mean) for clip in seen]
    means = dict(zip(values, np.average(table, axis=0, weights=n_frames), strict=True))
    clip_sessions = np.array([session for session, _ in data.clips(split)])
    evaluation = _gather(seen, clip_sessions)
    found: dict[str, float | None] = {
        name: float(value) for name, value in means.items() if name not in ("error", "n_valid")
    }
    found |= _pooled_metrics(evaluation, table[:, -2:], slice(None), slice(None))
    for index in range(len(data.sessions) if len(data.sessions) > 1 else 0):
        clips, frames = clip_sessions == index, evaluation.session_index == index
        found |= {
            f"{name}/session_{index}": value
            for name, value in _pooled_metrics(evaluation, table[:, -2:], clips, frames).items()
        }
    found |= _latent_metrics(model, evaluation)
    if "triplet" in found and len(data.sessions) > 1:
        # Clip by clip there is nothing to compare, so it is taken over the split as a whole.
        triplet = _triplet(model, evaluation)
        found["triplet"] = triplet
        found["loss"] = float(means["loss"] + terms.terms["triplet"].weight * triplet)
    for name, value in found.items():
        if value is not None:
            evaluation.metrics[f"{split}/{name}"] = value
    return evaluation


@dataclass(frozen=True, slots=True)
class _Clip:
    """What is kept of a clip until its whole split has been seen: all but the frames."""

    mean: torch.Tensor
    logvar: torch.Tensor | None
    labels: torch.Tensor | None
    label_mask: torch.Tensor | None
    labels_hat: torch.Tensor | None

    @classmethod
    def of(
        cls,
        model: Model,
        batch: Batch,
        mean: torch.Tensor,
        logvar: torch.Tensor | None,
        labels_hat: torch.Tensor | None,
    ) -> Self:
        mask = batch.label_mask
        if mask is None and batch.labels is not None:
            # Another session may have masks.
            mask = torch.ones_like(batch.labels)
        return cls(model.to_partition(mean), logvar, batch.labels, mask, labels_hat)


def _gather(seen: Sequence[_Clip], clip_sessions: Array) -> Evaluation:
    """Return clips, each with the session it is from, as one, without metrics."""
    return Evaluation(
        metrics={},
        mean=_join([clip.mean for clip in seen]),
        logvar=_join([clip.logvar for clip in seen]),
        labels=_join([clip.labels for clip in seen]),
        label_mask=_join([clip.label_mask for clip in seen]),
        labels_hat=_join([clip.labels_hat for clip in seen]),
        session_index=np.repeat(clip_sessions, [len(clip.mean) for clip in seen]),
    )


@torch.inference_mode()
def _encode(
    model: Model, data: PreparedData, split: SplitName, device: torch.device
) -> Evaluation:
    """Return the latents of a split and what it is labelled with: nothing is predicted or scored.

    Side effects: puts the model into evaluation mode.
    """
    model.eval()
    seen = []
    for batch in data.iterate(split, device):
        q = model.encode(batch.frames, batch.labels_sc, batch.session_index)
        seen.append(_Clip.of(model, batch, q.mean, logvar=None, labels_hat=None))
    return _gather(seen, np.array([session for session, _ in data.clips(split)]))


def _join(parts: Sequence[torch.Tensor | None]) -> Any:
    """Return the clips as one array; None where the model or the recording has no such thing."""
    present = [part for part in parts if part is not None]
    return torch.cat(present).cpu().numpy() if present else None


def _pooled_metrics(
    seen: Evaluation, errors: Array, clips: Any, frames: Any
) -> dict[str, float | None]:
    """Return the metrics of frames and labels, over some clips and the frames in them.

    ``errors`` holds, a row a clip, the summed squared error and the number of valid pixels.
    """
    error, n_valid = errors[clips].sum(axis=0)
    found: dict[str, float | None] = {"frame_mse": float(error / max(n_valid, 1))}
    if seen.labels_hat is not None and seen.labels is not None:
        assert seen.label_mask is not None
        given = seen.labels[frames], seen.labels_hat[frames], seen.label_mask[frames]
        r2 = label_r2(*given)
        found["label_r2"] = None if r2 is None else r2.mean
        found["label_mse"] = label_mse(*given)
    return found


def _triplet(model: Model, seen: Evaluation) -> float:
    """Return the triplet loss of the background means of a split, the same draws every time."""
    n_frames = len(seen.mean)
    rows = np.linspace(0, n_frames - 1, min(n_frames, MAX_TRIPLET_FRAMES)).round().astype(int)
    background = torch.from_numpy(seen.mean[rows][:, model.partition.background])
    rng = torch.Generator().manual_seed(EVALUATION_SEED)
    return float(triplet_loss(background, torch.from_numpy(seen.session_index[rows]), rng))


def _squared_error(batch: Batch, frames_hat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed squared error over valid pixels, and how many there are."""
    error = (batch.frames - frames_hat).square()
    if batch.frame_mask is None:
        return error.sum(), torch.tensor(float(error.numel()), device=error.device)
    return (error * batch.frame_mask).sum(), batch.frame_mask.sum()


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
