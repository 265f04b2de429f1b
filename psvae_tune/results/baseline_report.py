"""Say how a trial stands beside scores that need no network, and what is wrong with it."""

import json
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from psvae_tune.config.hidden_labels import HIDDEN
from psvae_tune.config.wording import and_list
from psvae_tune.results.logged_study import LoggedStudy
from psvae_tune.results.trial_record import TrialRecord
from psvae_tune.tracking.baseline_runs import SCORES, describe_each

POOR_R2 = 0.5
"""Label R² below which the supervised latents are hardly those of the labels."""
LEAKY_R2 = 0.3
"""Leak R² above which the unsupervised latents hold labels."""
EQUAL_R2, EQUAL_MSE = 0.02, 0.02
"""Differences of R² and correlations, and of errors as a share, that count as none."""
_METRICS = {
    "label_r2": "label R²",
    "frame_mse": "frame MSE",
    "hidden_correlation": "correlation of hidden labels",
}
"""Metrics in which a trial is compared with baselines, in words."""
_TO_BEAT = {"label_r2": "ridge", "frame_mse": "pca"}
"""The baseline of a metric that a figure shows."""
HELP = (
    "What usually helps: more epochs, a smaller decoder_variance, fewer labels that say the same."
)


class _Comparison(NamedTuple):
    """A trial beside a baseline, in one metric."""

    metric: str
    what: str
    """The baseline in words."""
    score: float
    """Score of the baseline."""
    is_as_good: bool
    """Whether the trial does not fall behind."""


def describe_baselines(study: LoggedStudy, trial: TrialRecord) -> Iterator[str]:
    """Yield how a trial stands beside the baselines of its study; what it loses to comes first."""
    compared = list(_compare(study, trial))
    lost = dict.fromkeys(item.what for item in compared if not item.is_as_good)
    if lost:
        yield f"It loses to {and_list(lost)}. {HELP}"
    parts = []
    for metric, name in _METRICS.items():
        beside = [f"{i.what} has {i.score:.3g}" for i in compared if i.metric == metric]
        if beside:
            parts.append(f"{name} {trial.metrics[f'best/{metric}']:.3g}, {', '.join(beside)}")
    if parts:
        yield f"Beside what needs no network: {'; '.join(parts)}."


def name_baselines(study: LoggedStudy) -> dict[str, tuple[str, float]]:
    """Return for a metric the baseline that a trial should beat, in words, and its score."""
    words = _describe_each(study)
    return {
        metric: (words[baseline], study.metrics[key])
        for metric, baseline in _TO_BEAT.items()
        if (key := f"{SCORES}{baseline}_{metric}") in study.metrics
    }


def list_warnings(study: LoggedStudy, trial: TrialRecord) -> list[str]:
    """Return what a person must know who takes a trial, in phrases about it."""
    metrics, found = trial.metrics, []
    r2, ridge = metrics.get("best/label_r2"), study.metrics.get(f"{SCORES}ridge_label_r2")
    if r2 is not None and ridge is not None and not _is_as_good(r2, ridge, is_error=False):
        found.append(
            f"its label R² of {r2:.2g} is below the {ridge:.2g} of ridge regression on pixels"
        )
    elif r2 is not None and r2 < POOR_R2:
        found.append(f"its label R² of {r2:.2g} is poor")
    mean = study.metrics.get(f"{SCORES}mean_frame_mse")
    if mean is not None and metrics.get("best/frame_mse", 0.0) >= mean:
        found.append("its frames are no better than the mean frame")
    n_latents, n_active = _count_unsupervised(study, trial), metrics.get("best/active_units")
    if n_latents is not None and n_active is not None and n_active < n_latents:
        n_lost = n_latents - int(n_active)
        found.append(f"{n_lost} of its {n_latents} unsupervised latents collapsed")
    if (leak := metrics.get("best/leak_r2", 0.0)) > LEAKY_R2:
        found.append(f"its unsupervised latents tell the labels with an R² of {leak:.2g}")
    return found


def _describe_each(study: LoggedStudy) -> dict[str, str]:
    """Return each baseline that a trial is compared with, in words."""
    n_unsupervised = int(study.metrics.get(f"{SCORES}n_unsupervised", 0))
    return describe_each(study.params.get("n_ae_latents", 0), n_unsupervised)


def _compare(study: LoggedStudy, trial: TrialRecord) -> Iterator[_Comparison]:
    """Yield a comparison for each baseline and each metric that both have."""
    for (baseline, what), metric in product(_describe_each(study).items(), _METRICS):
        theirs = _score_of(study, trial, f"{SCORES}{baseline}_{metric}")
        ours = trial.metrics.get(f"best/{metric}")
        if theirs is not None and ours is not None:
            is_as_good = _is_as_good(ours, theirs, is_error=metric == "frame_mse")
            yield _Comparison(metric, what, theirs, is_as_good)


def _score_of(study: LoggedStudy, trial: TrialRecord, key: str) -> float | None:
    """Return the score of a baseline; of hidden labels, over those that the trial does not see."""
    if not key.endswith("hidden_correlation"):
        return study.metrics.get(key)
    names = json.loads(trial.params.get(HIDDEN, "[]"))
    scores = [study.metrics[k] for name in names if (k := f"{key}/{name}") in study.metrics]
    return sum(scores) / len(scores) if scores else None


def _is_as_good(ours: float, theirs: float, *, is_error: bool) -> bool:
    """Return whether a score does not fall behind another by more than chance may do."""
    return ours <= theirs * (1 + EQUAL_MSE) if is_error else ours >= theirs - EQUAL_R2


def _count_unsupervised(study: LoggedStudy, trial: TrialRecord) -> int | None:
    """Return the number of unsupervised latents of a trial; None if nothing tells it."""
    of_base = study.metrics.get(f"{SCORES}n_unsupervised")
    if of_base is None:
        return None

    def more(name: str) -> int:
        return int(trial.params.get(name, 0)) - int(study.params.get(name, 0))

    n_latents = int(of_base) + more("n_ae_latents") - more("n_background")
    if "best/label_r2" not in trial.metrics:
        return n_latents
    # Each label that is hidden leaves its supervised latent to the others.
    n_hidden, n_before = (
        len(json.loads(params.get(HIDDEN, "[]"))) for params in (trial.params, study.params)
    )
    return n_latents + n_hidden - n_before
