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
    is_at_end: bool = False
    """Whether it is known only once a trial has ended, so that it cannot stop one."""


def _metric(goal: Goal, meaning: str, *needs: str, is_at_end: bool = False) -> Metric:
    return Metric(goal, meaning, frozenset(needs), is_at_end)


def _end(goal: Goal, meaning: str, *needs: str) -> Metric:
    return _metric(goal, meaning, *needs, is_at_end=True)


# What a model offers is told by `ModelConfig.offers`, in the words used as needs here.
METRICS: dict[str, Metric] = {
    "frame_mse": _metric("min", "mean squared pixel error over valid pixels"),
    "label_r2": _metric("max", "pooled, masked, variance-weighted R2 of the labels", "labels_hat"),
    "label_mse": _metric("min", "masked mean squared error of the labels", "labels_hat"),
    "latent_correlation": _metric(
        "min", "mean absolute correlation over pairs of unsupervised latents"
    ),
    "hsic": _end("min", "mean normalised HSIC over pairs of unsupervised latents"),
    "gaussian_tc": _metric("min", "Gaussian total correlation of the unsupervised means"),
    "active_units": _metric("max", "unsupervised latents with mean KL above 0.01", "posterior"),
    "leak_r2": _end(
        "min", "ridge R2 of the labels from the unsupervised latents", "recorded_labels"
    ),
    "session_accuracy_u": _end(
        "min", "session classified from the unsupervised latents", "sessions"
    ),
    "session_accuracy_b": _end(
        "max", "session classified from the background latents", "background"
    ),
    "mig": _end("max", "mutual information gap of the labels", "recorded_labels"),
    "sap": _end("max", "separated attribute predictability", "recorded_labels"),
    "dci_disentanglement": _end("max", "each latent matters to one label", "recorded_labels"),
    "dci_completeness": _end("max", "each label needs one latent", "recorded_labels"),
    "dci_informativeness": _end("max", "R2 of the labels from all latents", "recorded_labels"),
    "traversal_concentration": _end(
        "max", "how narrowly an unsupervised latent changes the frame, mean over latents"
    ),
    "traversal_overlap": _end(
        "min", "how far unsupervised latents change the same pixels, mean over pairs"
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
