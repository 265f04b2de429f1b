"""The numbers that may be compared between trials, and what each means.

The weighted loss is absent on purpose: it contains the very weights that are searched, so a
trial could win by its weights alone.
"""

from dataclasses import dataclass
from typing import Literal

from psvae_tune.config.model import ModelConfig
from psvae_tune.errors import ConfigError, nearest

Goal = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One comparable number: which way is better, what it means and what it takes to have it."""

    goal: Goal
    meaning: str
    requires: frozenset[str] = frozenset()
    is_at_end: bool = False
    """Whether it is known only once a trial has ended, so that it cannot stop one."""


def _metric(goal: Goal, meaning: str, *needs: str, is_at_end: bool = False) -> Metric:
    return Metric(goal, meaning, frozenset(needs), is_at_end)


def _end(goal: Goal, meaning: str, *needs: str) -> Metric:
    return _metric(goal, meaning, *needs, is_at_end=True)


# What a model offers is told by `ModelConfig.capabilities`, in the words that metrics require.
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


# Of all fits of a stage together, so without a split; known once the stage has ended.
STAGE_METRICS: dict[str, Metric] = {
    "udr": Metric("max", "agreement with fits of other seeds", frozenset({"posterior"})),
}


def is_metric(key: str) -> bool:
    """Tell a metric from a hyperparameter, known or not: a metric has a split or is of a stage."""
    return key.partition("/")[0] in SPLITS or key in STAGE_METRICS


def goal_of(key: str) -> Goal:
    """Return which way a metric is better.

    Raises
    ------
    ConfigError
        If there is no such metric.
    """
    metric = STAGE_METRICS.get(key) or METRICS.get(key.partition("/")[2])
    if metric is None or not is_metric(key):
        raise ConfigError("selection rule", f"not a known metric, got {key!r}")
    return metric.goal


def metric_problem(key: str, model: ModelConfig) -> str | None:
    """Say why ``key`` cannot be compared between trials of a model, or return None."""
    split, _, name = key.partition("/")
    if split not in SPLITS or name not in METRICS:
        if name == "loss":
            return (
                f"the weighted loss cannot be compared, it contains its own weights, got {key!r}"
            )
        near = nearest(key, (f"val/{metric}" for metric in METRICS))
        return f"not a known metric, got {key!r}" + (f"; did you mean `{near}`?" if near else "")
    if split == "train" and METRICS[name].is_at_end:
        return f"known for val and test only, got {key!r}"
    if missing := METRICS[name].requires - model.capabilities - OFFERED_BY_DATA:
        return f"`{model.model_class}` has no {', '.join(sorted(missing))}, got {key!r}"
    return None


def end_problem(key: str) -> str | None:
    """Say why a known metric cannot be compared while trials run, or return None."""
    if METRICS[key.partition("/")[2]].is_at_end:
        return f"known only when a trial has ended, got {key!r}"
    return None
