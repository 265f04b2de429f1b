"""Catalogue of the metrics that may be compared between trials.

The weighted loss is absent on purpose: it contains the weights that are searched, so a trial
could win by its weights alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from psvae_tune.config.model import Capability, ModelConfig
from psvae_tune.config.wording import and_list, pluralise
from psvae_tune.errors import ConfigError, nearest

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
LEAST_UNSUPERVISED = LEAST_ACTIVE | {"leak_r2": 1, "session_accuracy_u": 1}
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
    "kl": "undivided KL",
    "labels_hat": "predicted labels",
    "posterior": "posterior",
    "projection": "projection",
    "recorded_labels": "recorded labels",
    "sessions": "several sessions",
}
"""Name of each capability in an error."""
OFFERED_BY_DATA: frozenset[Capability] = frozenset({"recorded_labels", "sessions"})
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


def metric_problem(key: str, model: ModelConfig, *, of_stage: bool = False) -> str | None:
    """Return why nothing may be chosen by a metric; None if it may.

    A choice reads the validation split alone. A test split that chose would be no test any more,
    and a trial that has ended has no metrics of the training split.

    Parameters
    ----------
    key
        Metric with its split, for example ``val/frame_mse``.
    model
        Model of the trials; its capabilities decide which metrics there are.
    of_stage
        Whether `STAGE_METRICS` are allowed, too.
    """
    metric = find_metric(key)
    if metric is None or (key in STAGE_METRICS and not of_stage):
        return _unknown_metric(key, of_stage)
    if missing := metric.requires - model.capabilities - OFFERED_BY_DATA:
        return f"`{model.model_class}` has no {_name(missing)}, got {key!r}"
    split, _, name = key.partition("/")
    if key not in STAGE_METRICS and split != "val":
        return f"only validation metrics may choose, got {key!r}; use `val/{name}`"
    return None


def _unknown_metric(key: str, of_stage: bool) -> str:
    if key.partition("/")[2] == "loss":
        return f"the weighted loss cannot be compared, it contains its own weights, got {key!r}"
    near = nearest(key, STAGE_METRICS) if of_stage and "/" not in key else None
    near = near or nearest(key, (f"val/{metric}" for metric in METRICS))
    return f"not a known metric, got {key!r}" + (f"; did you mean `{near}`?" if near else "")


def recording_problem(
    key: str, model: ModelConfig, n_sessions: int, n_labels: int, n_unsupervised: int
) -> str | None:
    """Return why recordings cannot give a metric of a model; None if they can.

    Parameters
    ----------
    key
        Metric in which `metric_problem` finds no problem.
    model
        Model of the trials.
    n_sessions, n_labels
        Number of sessions of the study, and of labels in each of them.
    n_unsupervised
        Largest number of unsupervised latents that a trial may have.
    """
    name = key.removeprefix("val/")
    if n_unsupervised < (needed := LEAST_UNSUPERVISED.get(name, 0)):
        return (
            f"needs {pluralise(needed, 'unsupervised latent')}, got {key!r} with "
            f"{n_unsupervised}; a larger n_ae_latents has more"
        )
    n_latents = n_unsupervised + model.count_supervised(n_labels)
    if n_latents < (needed := LEAST_LATENTS.get(name, 0)):
        return f"needs {pluralise(needed, 'latent')}, got {key!r} with {n_latents}"
    if 0 < n_labels < (needed := LEAST_LABELS.get(name, 0)):
        return f"needs {pluralise(needed, 'label')}, got {key!r} with {n_labels}"
    metric = find_metric(key)
    offered: set[Capability] = set(model.capabilities)
    if n_sessions > 1:
        offered.add("sessions")
    if n_labels:
        offered.add("recorded_labels")
    missing = metric.requires - offered if metric else frozenset()
    if not missing:
        return None
    return (
        f"needs {_name(missing)}, got {key!r} with "
        f"{pluralise(n_sessions, 'session')}, {pluralise(n_labels, 'label')}"
    )


def _name(capabilities: Iterable[Capability]) -> str:
    return and_list(CAPABILITIES[capability] for capability in sorted(capabilities))


def end_problem(key: str) -> str | None:
    """Return why a metric cannot be compared while trials run; None if it can."""
    if key in STAGE_METRICS:
        return f"known only when all trials of a stage have ended, got {key!r}"
    metric = find_metric(key)
    if metric and metric.is_at_end:
        return f"known only when a trial has ended, got {key!r}"
    return None
