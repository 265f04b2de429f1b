"""Metrics that a trial has once, at its end."""

from dataclasses import asdict
from itertools import islice, product

import numpy as np
import torch

from psvae_tune.data.session import SplitName
from psvae_tune.metrics.disentanglement import dci, mig, sap
from psvae_tune.metrics.label_prediction import label_r2, leak_r2
from psvae_tune.metrics.latent_dependence import hsic
from psvae_tune.metrics.session_leakage import session_accuracy
from psvae_tune.metrics.traversal_localisation import traversal_localisation
from psvae_tune.models.model import Model
from psvae_tune.training.batches import PreparedData
from psvae_tune.training.evaluate import Array, Evaluation, _encode, evaluate

TRAVERSED = (5, 95)
N_TRAVERSED_CLIPS = 8


def final_metrics(model: Model, data: PreparedData, device: torch.device) -> dict[str, float]:
    """Return the metrics that a trial has once: those of the test split and the costly ones.

    Side effects: puts the model into evaluation mode.
    """
    train = _encode(model, data, "train", device)
    found: dict[str, float | None] = {}
    for split in ("val", "test"):
        seen = evaluate(model, data, split, device)
        found |= seen.metrics
        z_train, z = (item.mean[:, model.partition.unsupervised] for item in (train, seen))
        found[f"{split}/hsic"] = hsic(z)
        if train.labels is not None and seen.labels is not None:
            found[f"{split}/leak_r2"] = leak_r2(
                z_train, train.labels, z, seen.labels, train.label_mask, seen.label_mask
            )
            found |= _label_metrics(model, seen, split)
        found |= _localisation(model, data, split, z_train, device)
        if seen.labels_hat is not None and seen.labels is not None:
            r2 = label_r2(seen.labels, seen.labels_hat, seen.label_mask)
            for index, name in enumerate(data.label_names if r2 else ()):
                value = float(r2.per_label[index])  # type: ignore[union-attr]
                found[f"{split}/label_r2/{name}"] = value if np.isfinite(value) else None
        if len(data.sessions) > 1:
            for block in ("unsupervised", "background"):
                columns = getattr(model.partition, block)
                found[f"{split}/session_accuracy_{block[0]}"] = session_accuracy(
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
    scores = dci(*given)
    return {
        f"{split}/mig": mig(*given),
        f"{split}/sap": sap(*given),
        **({} if scores is None else {f"{split}/dci_{k}": v for k, v in asdict(scores).items()}),
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
        z = model.to_partition(q.mean).repeat(2 * len(columns), 1)
        for row, (end, i) in enumerate(product(range(2), range(len(columns)))):
            z[row, columns[i]] = ends[end, i]
        frames = model.decode(
            model.from_partition(z),
            None if batch.labels is None else batch.labels[rows].expand(len(z), -1),
            None if session_index is None else session_index.expand(len(z)),
            like=q,
        )
        low, high = frames.double().chunk(2)
        squares.append((high - low).square().cpu().numpy())
    where = traversal_localisation(np.sqrt(np.mean(squares, axis=0)))
    return {
        f"{split}/traversal_concentration": float(where.concentration.mean()),
        f"{split}/traversal_overlap": where.overlap,
    }
