"""Compute the metrics that a trial has only once, at its end."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice

import numpy as np
import torch

from psvae_tune.data.session import SplitName
from psvae_tune.metrics.disentanglement import dci, mig, sap
from psvae_tune.metrics.label_prediction import label_r2, leak_r2
from psvae_tune.metrics.latent_dependence import hsic
from psvae_tune.metrics.session_leakage import session_accuracy
from psvae_tune.metrics.traversal_localisation import traversal_localisation
from psvae_tune.models.encoding import encode
from psvae_tune.models.model import Model
from psvae_tune.models.traversal import percentile_steps, traverse
from psvae_tune.training.batches import PreparedData
from psvae_tune.training.evaluate import Array, Evaluation, collect_targets, evaluate

N_TRAVERSED_CLIPS = 8


def final_metrics(model: Model, data: PreparedData, device: torch.device) -> dict[str, float]:
    """Return the metrics of the end of a trial: those of the test split, and the costly ones.

    Side effects: puts the model into evaluation mode.
    """
    train = encode(model, data.iterate("train", device)).latents
    train_targets = collect_targets(data, "train")
    z_train = train[:, model.partition.unsupervised]
    found: dict[str, float | None] = {}
    for split in ("val", "test"):
        seen = evaluate(model, data, split, device)
        targets = seen.targets
        found |= seen.metrics
        z = seen.mean[:, model.partition.unsupervised]
        found[f"{split}/hsic"] = hsic(z)
        if train_targets.labels is not None and targets.labels is not None:
            found[f"{split}/leak_r2"] = leak_r2(
                z_train,
                train_targets.labels,
                z,
                targets.labels,
                train_targets.label_mask,
                targets.label_mask,
            )
            found |= _label_metrics(model, seen, split, data.label_names)
        found |= _localisation(model, data, split, z_train, device)
        if len(data.sessions) > 1:
            for block in ("unsupervised", "background"):
                columns = getattr(model.partition, block)
                found[f"{split}/session_accuracy_{block[0]}"] = session_accuracy(
                    train[:, columns],
                    train_targets.session_index,
                    seen.mean[:, columns],
                    targets.session_index,
                )
    return {name: value for name, value in found.items() if value is not None}


def _label_metrics(
    model: Model, seen: Evaluation, split: SplitName, label_names: Sequence[str]
) -> dict[str, float | None]:
    """Return whether each label has a latent of its own, and how well each is predicted."""
    labels, mask = seen.targets.labels, seen.targets.label_mask
    assert labels is not None
    blocks = (seen.mean[:, model.partition.supervised], seen.mean[:, model.partition.unsupervised])
    given = (np.concatenate(blocks, axis=1), labels, mask)
    found: dict[str, float | None] = {f"{split}/mig": mig(*given), f"{split}/sap": sap(*given)}
    scores = dci(*given)
    if scores is not None:
        found |= {f"{split}/dci_{name}": value for name, value in asdict(scores).items()}
    r2 = None if seen.labels_hat is None else label_r2(labels, seen.labels_hat, mask)
    if r2 is not None:
        for name, value in zip(label_names, r2.per_label, strict=True):
            found[f"{split}/label_r2/{name}"] = float(value) if np.isfinite(value) else None
    return found


def _localisation(
    model: Model, data: PreparedData, split: SplitName, z_train: Array, device: torch.device
) -> dict[str, float | None]:
    """Return where in the frame the unsupervised latents act, from traversals of each.

    A latent goes from the 5th to the 95th percentile of the training frames; the others stay as
    they are in the middle frame of a clip. The change of a pixel is its root mean square over
    clips.
    """
    columns = range(*model.partition.unsupervised.indices(model.partition.n_latents))
    if not columns:
        return {}
    ends = percentile_steps(z_train, 2)
    squares = []
    for batch in islice(data.iterate(split, device), N_TRAVERSED_CLIPS):
        frames = traverse(model, batch.frame(len(batch.frames) // 2), columns, ends).frames
        low, high = frames.astype(np.float64).swapaxes(0, 1)
        squares.append((high - low) ** 2)
    where = traversal_localisation(np.sqrt(np.mean(squares, axis=0)))
    return {
        f"{split}/traversal_concentration": float(where.concentration.mean()),
        f"{split}/traversal_overlap": where.overlap,
    }
