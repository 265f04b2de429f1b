"""What each unsupervised latent moves with, in a few words."""

import numpy as np
from numpy.typing import NDArray

from psvae_tune.metrics.disentanglement import squared_correlation
from psvae_tune.training.batches import PreparedData
from psvae_tune.training.evaluate import collect_targets

MIN_SHARE = 0.25
"""Share of a latent's variance below which nothing is said."""
N_WORDS = 2


def describe_latents(
    latents: NDArray[np.floating], n_supervised: int, data: PreparedData
) -> tuple[str, ...]:
    """Return what each latent shares most of its variance with; nothing for supervised ones.

    A latent is held against every label that the model sees, which it leaks, against every hidden
    label, which it finds, and against the sessions. The share is r² for a label and
    η² = Σ_s n_s (mean_s − mean)² / Σ (z − mean)² for the sessions s.

    Parameters
    ----------
    latents
        (frame, latent) of the training clips, one after another
    n_supervised
        Number of latents, the first ones, that are those of labels
    data
        The recordings
    """
    targets = collect_targets(data, "train")
    free = np.asarray(latents, np.float64)[:, n_supervised:]
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
    return tuple(words)


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
