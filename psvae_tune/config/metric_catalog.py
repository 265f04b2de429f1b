"""Catalogue of the metrics that may be compared between trials.

The weighted loss is absent on purpose: it contains the weights that are searched, so a trial
could win by its weights alone.
"""

from dataclasses import dataclass
from typing import Literal

from psvae_tune.config.model import Capability
from psvae_tune.errors import ConfigError

Goal = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Metric:
    """Metric of a trial that may be compared with those of other trials."""

    goal: Goal
    """Direction that is better."""
    meaning: str
    """Definition in a few words."""
    requires: frozenset[Capability] = frozenset()
    """Capabilities of model and recordings without which the metric does not exist."""
    is_at_end: bool = False
    """Whether the metric is computed only when a trial has ended, so that it can stop none."""


def _metric(goal: Goal, meaning: str, *requires: Capability, is_at_end: bool = False) -> Metric:
    return Metric(goal, meaning, frozenset(requires), is_at_end)


def _end(goal: Goal, meaning: str, *requires: Capability) -> Metric:
    return _metric(goal, meaning, *requires, is_at_end=True)


METRICS: dict[str, Metric] = {
    "frame_mse": _metric("min", "mean squared pixel error over valid pixels"),
    "label_r2": _metric("max", "pooled, masked, variance-weighted R2 of the labels", "labels_hat"),
    "label_mse": _metric("min", "masked mean squared error of the labels", "labels_hat"),
    "latent_correlation": _metric(
        "min",
        "mean absolute correlation over pairs of active unsupervised latents, "
        "in the split and in training clips",
    ),
    "hsic": _end("min", "mean normalised HSIC above chance over the same pairs and frames"),
    "gaussian_tc": _metric(
        "min", "Gaussian total correlation of the same latents and frames, per pair"
    ),
    "active_units": _metric(
        "max", "unsupervised latents with mean KL above 0.01 over the same frames", "posterior"
    ),
    "leak_r2": _end(
        "min", "ridge R2 of the labels from the active unsupervised latents", "recorded_labels"
    ),
    "session_accuracy_u": _end(
        "min",
        "session classified from the active unsupervised latents, at least chance",
        "sessions",
    ),
    "session_accuracy_b": _end(
        "max", "session classified from the background latents, at least chance", "background"
    ),
    "hidden_correlation": _end(
        "max",
        "correlation of a hidden label with the unsupervised latent that has the largest on "
        "training frames, mean over labels",
        "hidden_labels",
    ),
    "hidden_r2": _end("max", "ridge R2 of the hidden labels, mean over labels", "hidden_labels"),
    "hidden_gain": _end(
        "max",
        "R2 of the hidden labels that the unsupervised latents add to the labels that are seen",
        "hidden_labels",
    ),
    "mig": _end("max", "mutual information gap of the labels", "recorded_labels"),
    "sap": _end("max", "separated attribute predictability", "recorded_labels"),
    "dci_disentanglement": _end("max", "each latent matters to one label", "recorded_labels"),
    "dci_completeness": _end("max", "each label needs one latent", "recorded_labels"),
    "dci_informativeness": _end("max", "R2 of the labels from all latents", "recorded_labels"),
    "traversal_concentration": _end(
        "max",
        "how narrowly an active unsupervised latent changes the frame, mean over latents",
    ),
    "traversal_overlap": _end(
        "min",
        "how far active unsupervised latents change the same pixels, mean over pairs",
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
"""Metrics of a trial by name; a key such as ``val/frame_mse`` puts the split before the name."""

SPLITS = ("train", "val", "test")
NOT_ABOVE_ONE = frozenset(
    {
        "label_r2",
        "latent_correlation",
        "hsic",
        "leak_r2",
        "session_accuracy_u",
        "session_accuracy_b",
        "hidden_correlation",
        "hidden_r2",
        "mig",
        "sap",
        "dci_disentanglement",
        "dci_completeness",
        "dci_informativeness",
        "traversal_concentration",
        "traversal_overlap",
        "udr",
    }
)
"""Metrics that are shares, correlations or R2, so that a bound in percent is a slip."""
NOT_NEGATIVE = frozenset({"frame_mse", "label_mse", "active_units", "leak_r2", "projection"})
"""Metrics that are mean squares, numbers, or cut off at 0."""

LEAST_ACTIVE = {
    "latent_correlation": 2,
    "gaussian_tc": 2,
    "hsic": 2,
    "traversal_overlap": 2,
    "traversal_concentration": 1,
}
"""Smallest number of active unsupervised latents with which a fit has a metric."""
LEAST_UNSUPERVISED = LEAST_ACTIVE | {
    "leak_r2": 1,
    "session_accuracy_u": 1,
    "hidden_correlation": 1,
    "hidden_r2": 1,
    "hidden_gain": 1,
}
"""Smallest number of unsupervised latents with which a metric exists; 0 for all others.

A fit of which none is active leaks nothing: its ``leak_r2`` is 0, and its ``session_accuracy_u``
is chance.
"""
LEAST_LABELS = {"dci_disentanglement": 2, "dci_completeness": 2, "dci_informativeness": 2}
"""Smallest number of labels with which a metric exists, beside ``recorded_labels``."""
LEAST_LATENTS = {
    "mig": 2,
    "sap": 2,
    "dci_disentanglement": 2,
    "dci_completeness": 2,
    "dci_informativeness": 2,
}
"""Smallest number of supervised and unsupervised latents together with which a metric exists."""

CAPABILITIES: dict[Capability, str] = {
    "background": "background latents",
    "decomposition": "decomposed KL",
    "hidden_labels": "hidden labels",
    "kl": "undivided KL",
    "labels_hat": "predicted labels",
    "posterior": "posterior",
    "projection": "projection",
    "recorded_labels": "recorded labels",
    "sessions": "several sessions",
}
"""Name of each capability in an error."""
OFFERED_BY_DATA: frozenset[Capability] = frozenset(
    {"hidden_labels", "recorded_labels", "sessions"}
)
"""Capabilities of recordings; all others are capabilities of a model."""

STAGE_METRICS: dict[str, Metric] = {
    "udr": Metric("max", "agreement with fits of other seeds", frozenset({"posterior"})),
}
"""Metrics of all fits of a stage together, known once it has ended; their keys have no split."""


def is_metric(key: str) -> bool:
    """Return whether a key names a metric, known or not, rather than a hyperparameter.

    The key of a metric begins with a split, or is one of `STAGE_METRICS`.
    """
    return key.partition("/")[0] in SPLITS or key in STAGE_METRICS


def find_metric(key: str) -> Metric | None:
    """Return the metric of a key such as ``val/frame_mse`` or ``udr``; None if it is unknown."""
    split, _, name = key.partition("/")
    return METRICS.get(name) if split in SPLITS else STAGE_METRICS.get(key)


def goal_of(key: str) -> Goal:
    """Return the goal of a metric.

    Raises
    ------
    ConfigError
        If the metric is unknown.
    """
    metric = find_metric(key)
    if metric is None:
        raise ConfigError("selection rule", f"not a known metric, got {key!r}")
    return metric.goal


def sign(goal: Goal) -> int:
    """Return the factor that turns a goal into minimisation: 1 for ``min``, -1 for ``max``."""
    return 1 if goal == "min" else -1
