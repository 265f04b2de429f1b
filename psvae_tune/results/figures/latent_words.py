"""What each unsupervised latent moves with, in a few words, and how far blocks know sessions."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psvae_tune.data.session import SplitName
from psvae_tune.metrics.disentanglement import squared_correlation
from psvae_tune.metrics.session_leakage import (
    predict_sessions,
    session_accuracy,
    session_dominance,
)
from psvae_tune.models.latents import Partition
from psvae_tune.training.batches import PreparedData
from psvae_tune.training.evaluate import collect_targets

MIN_SHARE = 0.25
"""Share of a latent's variance below which nothing is said."""
N_WORDS = 2


Latents = Sequence[NDArray[np.floating]]
"""(frame, latent) of every recording."""


def describe_latents(latents: Latents, n_supervised: int, data: PreparedData) -> list[str]:
    """Return what each latent shares most of its variance with; nothing for supervised ones.

    A latent is held against every label that the model sees, which it leaks, against every hidden
    label, which it finds, and against the sessions. The share is r² for a label and
    η² = Σ_s n_s (mean_s − mean)² / Σ (z − mean)² for the sessions s, over training clips.

    Parameters
    ----------
    latents
        (frame, latent) of every recording
    n_supervised
        Number of latents, the first ones, that are those of labels
    data
        The recordings
    """
    targets = collect_targets(data, "train")
    free = _clips_of(latents, data, "train")[:, n_supervised:]
    shares: dict[str, NDArray[np.float64]] = {}
    if targets.labels is not None:
        seen = squared_correlation(free, targets.labels, targets.label_mask)
        shares |= {f"leaks {name}, r²": seen[:, k] for k, name in enumerate(data.label_names)}
    hidden = data.sessions[0].hidden
    if targets.hidden is not None and hidden is not None:
        found = squared_correlation(free, targets.hidden, targets.hidden_mask)
        shares |= {f"finds {name}, r²": found[:, k] for k, name in enumerate(hidden.names)}
    if len(data.sessions) > 1:
        shares["tells sessions apart, η²"] = session_shares(free, targets.session_index)
    words = [""] * n_supervised
    for latent in range(free.shape[1]):
        best = sorted(((-np.nan_to_num(share[latent]), text) for text, share in shares.items()))
        told = [f"{text} {-low:.2f}" for low, text in best[:N_WORDS] if -low >= MIN_SHARE]
        words.append("; ".join(told))
    return words


def session_shares(
    latents: NDArray[np.float64], sessions: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return the share of each latent's variance that the sessions explain, (latent,).

    Parameters
    ----------
    latents
        (frame, latent)
    sessions
        (frame,) index of the session of each frame
    """
    means = np.zeros_like(latents)
    for session in np.unique(sessions):
        means[sessions == session] = latents[sessions == session].mean(axis=0)
    total = latents.var(axis=0)
    return np.divide(means.var(axis=0), total, out=np.zeros_like(total), where=total > 0)


def describe_sessions(
    latents: Latents, partition: Partition, data: PreparedData
) -> list[dict[str, Any]]:
    """Return how far each block of latents knows the sessions, a row a block.

    A classifier is fitted on training clips, and its accuracy is that on validation clips; the
    measures of `session_dominance` are of training clips.

    Parameters
    ----------
    latents
        (frame, latent) of every recording
    partition
        The blocks
    data
        The recordings, two at least
    """
    train, val = (_clips_of(latents, data, split) for split in ("train", "val"))
    seen, unseen = (collect_targets(data, split).session_index for split in ("train", "val"))
    lengths = [
        data.sessions[i].session.header.clip_lengths[clip] for i, clip in data.clips("train")
    ]
    rows = []
    for block in ("supervised", "background", "unsupervised"):
        columns = getattr(partition, block)
        if train[:, columns].shape[1]:
            told = predict_sessions(train[:, columns], seen, val[:, columns])
            dominance = session_dominance(
                train[:, columns], seen, np.repeat(np.arange(len(lengths)), lengths)
            )
            accuracy = session_accuracy(unseen, told, len(data.sessions))
            rows.append({"block": block, "session_accuracy": accuracy, **asdict(dominance)})
    return rows


def _clips_of(latents: Latents, data: PreparedData, split: SplitName) -> NDArray[np.float64]:
    """Return the latents of the clips of a split, one clip after another."""
    rows = [latents[i][data.sessions[i].session.clip(clip)] for i, clip in data.clips(split)]
    return np.concatenate(rows).astype(np.float64)
