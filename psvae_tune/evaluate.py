"""Scoring a model on a whole split, with posterior means and the same meaning for every trial."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice, product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from psvae_tune import metrics as measure
from psvae_tune.batches import PreparedData
from psvae_tune.data.types import SplitName
from psvae_tune.models.model import Model
from psvae_tune.models.types import Batch

# The decomposed KL needs a draw; the same one in every validation keeps epochs comparable.
EVALUATION_SEED = 0

TRAVERSED = (5, 95)
N_TRAVERSED_CLIPS = 8

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A split as a model sees it, every clip after another, and the metrics of that."""

    metrics: dict[str, float]
    """Keys with the split, as in `metric_names`."""
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

    Side effects: puts the model into evaluation mode.
    """
    model.eval()
    rng = torch.Generator(device).manual_seed(EVALUATION_SEED)
    batches, predictions, rows = [], [], []
    for batch in data.iterate(split, device):
        terms = model.terms(batch, 1.0, rng)
        prediction = model.predict(
            batch.frames, batch.labels, batch.labels_sc, batch.session_index
        )
        error, n_valid = _squared_error(batch, prediction.frames)
        values = {**terms.values(), "loss": terms.loss, "error": error, "n_valid": n_valid}
        rows.append(torch.stack([*values.values()]))
        batches.append(batch)
        predictions.append(prediction)
    names = list(values)
    table = torch.stack(rows).double().cpu().numpy()
    n_frames = [len(batch.frames) for batch in batches]
    sums = dict(zip(names, table.sum(axis=0), strict=True))
    means = dict(zip(names, np.average(table, axis=0, weights=n_frames), strict=True))

    def join(parts: Sequence[torch.Tensor | None]) -> Array | None:
        present = [part for part in parts if part is not None]
        return torch.cat(present).cpu().numpy() if len(present) == len(parts) else None

    mean = join([model.subspaces(item.mean) for item in predictions])
    assert mean is not None
    session_index = join([batch.session_index for batch in batches])
    evaluation = Evaluation(
        metrics={},
        mean=mean,
        logvar=join([item.logvar for item in predictions]),
        labels=join([batch.labels for batch in batches]),
        label_mask=join([batch.label_mask for batch in batches]),
        labels_hat=join([item.labels for item in predictions]),
        session_index=np.zeros(len(mean), int) if session_index is None else session_index,
    )
    found: dict[str, float | None] = {
        name: float(value) for name, value in means.items() if name not in ("error", "n_valid")
    }
    found["frame_mse"] = float(sums["error"] / max(sums["n_valid"], 1))
    found |= _latent_metrics(model, evaluation)
    for name, value in found.items():
        if value is not None:
            evaluation.metrics[f"{split}/{name}"] = value
    return evaluation


def _squared_error(batch: Batch, frames_hat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the summed squared error over valid pixels, and how many there are."""
    error = (batch.frames - frames_hat).square()
    if batch.frame_mask is None:
        return error.sum(), torch.tensor(float(error.numel()), device=error.device)
    return (error * batch.frame_mask).sum(), batch.frame_mask.sum()


def _latent_metrics(model: Model, seen: Evaluation) -> dict[str, float | None]:
    """Return the metrics of the labels and of the unsupervised latents of one split."""
    found: dict[str, float | None] = {}
    if seen.labels_hat is not None and seen.labels is not None:
        r2 = measure.label_r2(seen.labels, seen.labels_hat, seen.label_mask)
        found["label_r2"] = None if r2 is None else r2.mean
        found["label_mse"] = measure.label_mse(seen.labels, seen.labels_hat, seen.label_mask)
    unsupervised = seen.mean[:, model.partition.unsupervised]
    found["latent_correlation"] = measure.latent_correlation(unsupervised)
    found["gaussian_tc"] = measure.gaussian_tc(unsupervised)
    if seen.logvar is not None:
        found["active_units"] = measure.active_units(
            unsupervised, seen.logvar[:, model.partition.unsupervised]
        )
    return found


def final_metrics(model: Model, data: PreparedData, device: torch.device) -> dict[str, float]:
    """Return the metrics that a trial has once: those of the test split and the costly ones.

    Side effects: puts the model into evaluation mode.
    """
    train = evaluate(model, data, "train", device)
    found: dict[str, float | None] = {}
    for split in ("val", "test"):
        seen = evaluate(model, data, split, device)
        found |= seen.metrics
        z_train, z = (item.mean[:, model.partition.unsupervised] for item in (train, seen))
        found[f"{split}/hsic"] = measure.hsic(z)
        if train.labels is not None and seen.labels is not None:
            found[f"{split}/leak_r2"] = measure.leak_r2(
                z_train, train.labels, z, seen.labels, train.label_mask, seen.label_mask
            )
            found |= _label_metrics(model, seen, split)
        found |= _localisation(model, data, split, z_train, device)
        if seen.labels_hat is not None and seen.labels is not None:
            r2 = measure.label_r2(seen.labels, seen.labels_hat, seen.label_mask)
            for index, name in enumerate(data.label_names if r2 else ()):
                value = float(r2.per_label[index])  # type: ignore[union-attr]
                found[f"{split}/label_r2/{name}"] = value if np.isfinite(value) else None
        if len(data.sessions) > 1:
            for block in ("unsupervised", "background"):
                columns = getattr(model.partition, block)
                found[f"{split}/session_accuracy_{block[0]}"] = measure.session_accuracy(
                    train.mean[:, columns],
                    train.session_index,
                    seen.mean[:, columns],
                    seen.session_index,
                )
    return {name: value for name, value in found.items() if value is not None}


def _label_metrics(model: Model, seen: Evaluation, split: SplitName) -> dict[str, float | None]:
    """Return whether each label has a latent of its own, among all but the background ones."""
    assert seen.labels is not None
    blocks = (seen.mean[:, model.partition.supervised], seen.mean[:, model.partition.unsupervised])
    given = (np.concatenate(blocks, axis=1), seen.labels, seen.label_mask)
    dci = measure.dci(*given)
    return {
        f"{split}/mig": measure.mig(*given),
        f"{split}/sap": measure.sap(*given),
        **({} if dci is None else {f"{split}/dci_{k}": v for k, v in asdict(dci).items()}),
    }


@torch.inference_mode()
def _localisation(
    model: Model, data: PreparedData, split: SplitName, z_train: Array, device: torch.device
) -> dict[str, float | None]:
    """Return where in the frame the unsupervised latents act, from traversals of each.

    A latent goes from the 5th to the 95th percentile of the training frames, the others staying
    as in the middle frame of a clip. The change of a pixel is its root mean square over clips.
    """
    columns = range(*model.partition.unsupervised.indices(model.partition.n_latents))
    if not columns:
        return {}
    ends = torch.tensor(np.percentile(z_train, TRAVERSED, axis=0), dtype=torch.float32)
    squares = []
    for batch in islice(data.iterate(split, device), N_TRAVERSED_CLIPS):
        rows = [len(batch.frames) // 2]
        session_index = None if batch.session_index is None else batch.session_index[rows]
        labels_sc = None if batch.labels_sc is None else batch.labels_sc[rows]
        q = model.infer(batch.frames[rows], labels_sc, session_index)
        # One row a latent at its low end, then one a latent at its high end.
        z = model.subspaces(q.mean).repeat(2 * len(columns), 1)
        for row, (end, i) in enumerate(product(range(2), range(len(columns)))):
            z[row, columns[i]] = ends[end, i]
        frames = model.decode(
            model.from_subspaces(z),
            None if batch.labels is None else batch.labels[rows].expand(len(z), -1),
            None if session_index is None else session_index.expand(len(z)),
            like=q,
        )
        low, high = frames.double().chunk(2)
        squares.append((high - low).square().cpu().numpy())
    where = measure.traversal_localisation(np.sqrt(np.mean(squares, axis=0)))
    return {
        f"{split}/traversal_concentration": float(where.concentration.mean()),
        f"{split}/traversal_overlap": where.overlap,
    }
