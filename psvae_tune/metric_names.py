"""The numbers that may be compared between trials, and what each means.

The weighted loss is absent on purpose: it contains the very weights that are searched, so a
trial could win by its weights alone.
"""

from dataclasses import dataclass
from typing import Literal

Goal = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One comparable number: which way is better, what it means and what it takes to have it."""

    goal: Goal
    meaning: str
    needs: frozenset[str] = frozenset()


def _metric(goal: Goal, meaning: str, *needs: str) -> Metric:
    return Metric(goal, meaning, frozenset(needs))


# What a model offers is told by `ModelConfig.offers`, in the words used as needs here.
METRICS: dict[str, Metric] = {
    "frame_mse": _metric("min", "mean squared pixel error over valid pixels"),
    "label_r2": _metric("max", "pooled, masked, variance-weighted R2 of the labels", "labels_hat"),
    "label_mse": _metric("min", "masked mean squared error of the labels", "labels_hat"),
    "latent_correlation": _metric(
        "min", "mean absolute correlation over pairs of unsupervised latents"
    ),
    "hsic": _metric("min", "mean normalised HSIC over pairs of unsupervised latents"),
    "gaussian_tc": _metric("min", "Gaussian total correlation of the unsupervised means"),
    "active_units": _metric("max", "unsupervised latents with mean KL above 0.01", "posterior"),
    "leak_r2": _metric(
        "min", "ridge R2 of the labels from the unsupervised latents", "recorded_labels"
    ),
    "session_accuracy_u": _metric(
        "min", "session classified from the unsupervised latents", "sessions"
    ),
    "session_accuracy_b": _metric(
        "max", "session classified from the background latents", "background"
    ),
    "frames_nll": _metric("min", "negative log-likelihood of the frames", "posterior"),
    "labels_nll": _metric(
        "min", "negative log-likelihood of the labels", "posterior", "labels_hat"
    ),
    "kl": _metric("min", "KL of the posterior to the standard normal", "kl"),
    "supervised_kl": _metric("min", "KL of the supervised latents", "posterior", "labels_hat"),
    "icmi": _metric("min", "index-code mutual information", "decomposition"),
    "tc": _metric("min", "total correlation", "decomposition"),
    "dwkl": _metric("min", "dimension-wise KL", "decomposition"),
    "triplet": _metric("min", "triplet loss of the background latents", "background"),
    "projection": _metric("min", "matrix-subspace-projection error", "projection"),
}

SPLITS = ("train", "val", "test")
OFFERED_BY_DATA = frozenset({"recorded_labels", "sessions"})
