"""Say how a trial stands beside scores that need no network, and what is wrong with it."""

import json
from collections.abc import Iterator
from itertools import product

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
"""Differences of R², and of errors as a share, up to which two scores count as equal."""
_METRICS = {
    "label_r2": "label R²",
    "frame_mse": "frame MSE",
    "hidden_correlation": "correlation of hidden labels",
    "hidden_gain": "gain on hidden labels",
}
"""Metrics in which a trial is compared with baselines, in words."""
_OF_HIDDEN = "components of what the other labels leave"
"""The baseline of hidden labels in words: of each set, as many as there are latents."""
_TO_BEAT = {"label_r2": "ridge", "frame_mse": "pca", "hidden_correlation": "residual_pca"}
"""The baseline of a metric that a figure shows."""
HELP = (
    "What usually helps: more epochs, a smaller decoder_variance, fewer labels that say the same."
)


def describe_baselines(study: LoggedStudy, trial: TrialRecord) -> Iterator[str]:
    """Yield how a trial stands beside the baselines of its study; what it loses to comes first."""
    lost = [what for what, _, is_as_good in _compare(study, trial) if not is_as_good]
    if lost:
        yield f"It loses to {and_list(lost)}. {HELP}"
    parts = []
    for metric, name in _METRICS.items():
        beside = [
            f"{what} has {study.metrics[f'{SCORES}{baseline}_{metric}']:.3g}"
            for what, (baseline, of), _ in _compare(study, trial)
            if of == metric
        ]
        if beside:
            parts.append(f"{name} {trial.metrics[f'best/{metric}']:.3g}, {', '.join(beside)}")
    if parts:
        yield f"Beside what needs no network: {'; '.join(parts)}."


def name_baselines(study: LoggedStudy) -> dict[str, tuple[str, float]]:
    """Return for a metric the baseline that a trial should beat, in words, and its score."""
    words = {**_describe_each(study), "residual_pca": _OF_HIDDEN}
    scores = {
        metric: (words[baseline], study.metrics.get(f"{SCORES}{baseline}_{metric}"))
        for metric, baseline in _TO_BEAT.items()
    }
    return {metric: (what, score) for metric, (what, score) in scores.items() if score is not None}


def list_warnings(study: LoggedStudy, trial: TrialRecord) -> list[str]:
    """Return what a person must know who takes a trial, in phrases about it."""
    metrics, found = trial.metrics, []
    r2, ridge = metrics.get("best/label_r2"), study.metrics.get(f"{SCORES}ridge_label_r2")
    if r2 is not None and ridge is not None and not _is_as_good(r2, ridge, is_r2=True):
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


def _compare(
    study: LoggedStudy, trial: TrialRecord
) -> Iterator[tuple[str, tuple[str, str], bool]]:
    """Yield each baseline in words, its name and a metric, and whether the trial is as good."""
    for (baseline, what), metric in product(_describe_each(study).items(), _METRICS):
        theirs = study.metrics.get(f"{SCORES}{baseline}_{metric}")
        ours = trial.metrics.get(f"best/{metric}")
        if theirs is not None and ours is not None:
            is_as_good = _is_as_good(ours, theirs, is_r2=metric != "frame_mse")
            words = _OF_HIDDEN if metric.startswith("hidden") else what
            yield words, (baseline, metric), is_as_good


def _is_as_good(ours: float, theirs: float, *, is_r2: bool) -> bool:
    """Return whether a score does not fall behind another by more than chance may do."""
    return ours >= theirs - EQUAL_R2 if is_r2 else ours <= theirs * (1 + EQUAL_MSE)


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
