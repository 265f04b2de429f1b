"""Compute the metrics that a trial has only once, at its end."""

from collections.abc import Sequence
from itertools import compress, islice

import numpy as np
import torch

from psvae_tune.config.metric_catalog import METRICS
from psvae_tune.data.session import SplitName
from psvae_tune.metrics.arrays import Array
from psvae_tune.metrics.label_prediction import label_r2
from psvae_tune.metrics.latent_dependence import hsic
from psvae_tune.metrics.sampling_error import Clips, error_key, sampling_errors
from psvae_tune.metrics.traversal_localisation import traversal_localisation
from psvae_tune.models.encoding import encode
from psvae_tune.models.model import Model
from psvae_tune.models.traversal import percentile_steps, traverse
from psvae_tune.training.batches import PreparedData
from psvae_tune.training.evaluate import (
    EVALUATION_SEED,
    Evaluation,
    collect_targets,
    evaluate,
    score_clips,
)
from psvae_tune.training.readouts import Readouts, fit_readouts
from psvae_tune.training.unsupervised_latents import UnsupervisedLatents, score_latents

N_TRAVERSED_CLIPS = 8
"""Largest number of clips of a split whose middle frames are traversed."""


def final_metrics(model: Model, data: PreparedData, device: torch.device) -> dict[str, float]:
    """Return the metrics of the end of a trial: those of the test split, and the costly ones.

    Metrics of the validation split, which choose a trial, come with their sampling errors, such
    as ``val/frame_mse_error``; see `sampling_errors`.

    Side effects: puts the model into evaluation mode.
    """
    train = encode(model, data.iterate("train", device))
    train_targets = collect_targets(data, "train")
    lengths = data.clip_lengths(data.clips("train"))
    train_clips = np.repeat(np.arange(len(lengths)), lengths)
    found: dict[str, float | None] = {}
    for split in ("val", "test"):
        seen = evaluate(model, data, split, device, train)
        readouts = fit_readouts(model.partition, train.latents, train_targets, train_clips, seen)
        changes = _collect_changes(model, data, split, train.latents, seen.latents, device)
        scores = readouts.score(np.arange(len(seen.clip_lengths)))
        scores["hsic"] = hsic(seen.latents.active)
        scores |= _localise(changes, np.arange(len(changes)))
        scores |= _score_each_label(seen, data.label_names)
        scores |= _score_each_hidden_label(readouts, data)
        found |= seen.metrics | {f"{split}/{name}": value for name, value in scores.items()}
        if split == "val":
            errors = _estimate_errors(seen, readouts, changes)
            found |= {
                error_key(f"val/{name}"): error
                for name, error in errors.items()
                # A latent may be active in some resamples alone.
                if name in METRICS and found.get(f"val/{name}") is not None
            }
    return {name: value for name, value in found.items() if value is not None}


def _estimate_errors(seen: Evaluation, readouts: Readouts, changes: Array) -> dict[str, float]:
    """Return the sampling errors of the metrics of a split by their names.

    That of ``hsic`` is too large rather than too small. A clip that is drawn twice repeats itself
    in all latents, which looks like dependence; the order of the drawn clips matters little.
    """
    rng = np.random.default_rng(EVALUATION_SEED)

    def score_dependence(clips: Clips) -> dict[str, float | None]:
        latents = seen.latents.select(clips)
        return score_latents(latents) | {"hsic": hsic(latents.active)}

    return (
        sampling_errors(
            lambda clips: score_clips(seen, clips) | readouts.score(clips),
            len(seen.clip_lengths),
            rng,
        )
        | sampling_errors(score_dependence, len(seen.latents.clip_lengths), rng)
        | sampling_errors(lambda clips: _localise(changes, clips), len(changes), rng)
    )


def _score_each_label(seen: Evaluation, label_names: Sequence[str]) -> dict[str, float | None]:
    """Return how well each label is predicted; empty where the model predicts none."""
    labels, labels_hat = seen.targets.labels, seen.labels_hat
    if labels is None or labels_hat is None:
        return {}
    r2 = label_r2(labels, labels_hat, seen.targets.label_mask)
    if r2 is None:
        return {}
    return {
        f"label_r2/{name}": float(value) if np.isfinite(value) else None
        for name, value in zip(label_names, r2.per_label, strict=True)
    }


def _score_each_hidden_label(readouts: Readouts, data: PreparedData) -> dict[str, float | None]:
    """Return the correlation of each hidden label with the latent that has found it."""
    hidden = data.sessions[0].hidden
    if readouts.hidden is None or hidden is None:
        return {}
    return readouts.hidden.score_each(hidden.names)


def _collect_changes(
    model: Model,
    data: PreparedData,
    split: SplitName,
    train: Array,
    latents: UnsupervisedLatents,
    device: torch.device,
) -> Array:
    """Return how traversals of the active unsupervised latents change frames.

    A latent goes from the 5th to the 95th percentile of the training frames; the others stay as
    they are in the middle frame of a clip.

    Returns
    -------
    Array
        (clip, latent, channel, height, width): squared change of each pixel.
    """
    unsupervised = range(*model.partition.unsupervised.indices(model.partition.n_latents))
    columns = list(compress(unsupervised, latents.is_active))
    if not columns:
        return np.empty((0, 0))
    ends = percentile_steps(train[:, columns], 2)
    squares = []
    for batch in islice(data.iterate(split, device), N_TRAVERSED_CLIPS):
        frames = traverse(model, batch.frame(len(batch.frames) // 2), columns, ends).frames
        low, high = frames.astype(np.float64).swapaxes(0, 1)
        squares.append((high - low) ** 2)
    return np.array(squares)


def _localise(changes: Array, clips: Clips) -> dict[str, float | None]:
    """Return where in the frame latents act; the change of a pixel is its root mean square."""
    if changes.shape[1] == 0:
        return {}
    where = traversal_localisation(np.sqrt(changes[clips].mean(axis=0)))
    return {
        "traversal_concentration": float(where.concentration.mean()),
        "traversal_overlap": where.overlap,
    }
