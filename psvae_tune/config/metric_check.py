"""Tell why a metric cannot be used: by a model, by recordings, or while trials run."""

from collections.abc import Iterable

from psvae_tune.config.metric_catalog import (
    CAPABILITIES,
    LEAST_LABELS,
    LEAST_LATENTS,
    LEAST_UNSUPERVISED,
    METRICS,
    OFFERED_BY_DATA,
    STAGE_METRICS,
    find_metric,
)
from psvae_tune.config.model import Capability, ModelConfig
from psvae_tune.config.wording import and_list, pluralise
from psvae_tune.errors import nearest


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
    key: str,
    model: ModelConfig,
    n_sessions: int,
    n_labels: int,
    n_unsupervised: int,
    n_hidden: int = 0,
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
    n_hidden
        Smallest number of labels that are hidden from a trial.
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
    if n_hidden:
        offered.add("hidden_labels")
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
