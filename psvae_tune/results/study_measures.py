"""Measures of a whole study: the importance of hyperparameters, and progress."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from psvae_tune.results.logged_study import LoggedStudy
from psvae_tune.results.trial_record import TrialRecord


def measure_importance(
    trials: Sequence[TrialRecord], varied: Sequence[str], keys: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return, for each metric, the share of its variance that each hyperparameter explains.

    It is empty where fewer than two hyperparameters vary, because one explains all.

    References
    ----------
    Hutter et al. (2014), An efficient approach for assessing hyperparameter importance.
    """
    if len(trials) < 3 or len(varied) < 2:
        return {}
    import optuna

    distributions = _distributions(trials, varied)
    if len(distributions) < 2:
        return {}
    found = {}
    for key in keys:
        values = [trial.metrics[key] for trial in trials]
        if max(values) == min(values):
            continue
        study = optuna.create_study()
        for trial, value in zip(trials, values, strict=True):
            params = {name: trial.params[name] for name in distributions}
            study.add_trial(
                optuna.trial.create_trial(params=params, distributions=distributions, value=value)
            )
        # A tree takes longer the more trials there are, and then fewer trees agree as well.
        n_trees = 64 if len(trials) < 300 else 16
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=n_trees, seed=0)
        found[key] = dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    return found


def _distributions(trials: Sequence[TrialRecord], varied: Sequence[str]) -> dict[str, Any]:
    """Return Optuna's distribution of every hyperparameter that differs between trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found: dict[str, Any] = {}
    for name in varied:
        values = [trial.params.get(name) for trial in trials]
        if None in values or len(set(values)) < 2:
            continue
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            low, high = min(values), max(values)  # type: ignore[type-var]
            found[name] = optuna.distributions.FloatDistribution(low, high)
        else:
            found[name] = optuna.distributions.CategoricalDistribution(list(set(values)))
    return found


def measure_progress(
    study: LoggedStudy, keys: Sequence[str]
) -> tuple[list[int], NDArray[np.float64]]:
    """Return the metrics of each trial, and the epochs that all trials had spent at its end.

    Parameters
    ----------
    study
        The study. The epochs of trials without a best epoch count, but they have no row.
    keys
        Names of metrics as in MLflow: ``best/…``.

    Returns
    -------
    epochs
        (trial,), in the order in which trials ended.
    points
        (trial, metric), in the same order.
    """
    spent: list[int] = []
    ends: list[tuple[int, tuple[float, ...]]] = []
    for trial in study.trials:
        times = [time for time, _, _ in study.history(trial, "train/loss")]
        spent += times
        if times and all(key in trial.metrics for key in keys):
            ends.append((max(times), tuple(trial.metrics[key] for key in keys)))
    ends.sort()
    epochs = np.searchsorted(np.sort(np.array(spent)), [time for time, _ in ends], side="right")
    return epochs.tolist(), np.array([values for _, values in ends])
