"""The baselines of a study in MLflow: runs that stand in the charts of its trials.

Each says what is reached without a network, under the names that a trial's metrics have.
"""

from collections.abc import Callable, Mapping

from psvae_tune.tracking.study_run import StudyRun
from psvae_tune.tracking.tags import BASELINE, KIND, STUDY
from psvae_tune.tracking.trial_run import EpochMetrics, to_metrics

SCORES = "baseline/"
"""Prefix of all scores of baselines on the study's run."""


def describe_each(n_latents: int, n_unsupervised: int) -> dict[str, str]:
    """Return each baseline in words; its scores have its name, ``_`` and that of a metric."""
    return {
        "ridge": "ridge regression on the pixels",
        "pca": f"PCA with {n_latents} components",
        "residual_pca": (
            f"a regression on the labels with {n_unsupervised} components of the rest"
        ),
        "mean": "the mean frame",
        "components": "components of what the other labels leave",
    }


def log_baselines(
    study_run: StudyRun, measure: Callable[[], Mapping[str, float]], n_latents: int
) -> None:
    """Measure baselines, unless the study's run has their scores, and log those that it lacks.

    Parameters
    ----------
    study_run
        The run of the study.
    measure
        Returns the scores that `measure_baselines` describes.
    n_latents
        Number of latents of the study's model.

    Side effects: logs to the study's run and to one run of each baseline.
    """
    metrics = study_run.target.client().get_run(study_run.run_id).data.metrics
    logged = {k.removeprefix(SCORES): v for k, v in metrics.items() if k.startswith(SCORES)}
    scores = logged or measure()
    for baseline, words in describe_each(n_latents, int(scores["n_unsupervised"])).items():
        prefix = f"{baseline}_"
        own = [name for name in scores if name.startswith(prefix)]
        if own:
            found = {f"best/{name.removeprefix(prefix)}": scores[name] for name in own}
            _log_run(study_run, min(own), f"baseline: {words}", found)
    if not logged:
        named = {f"{SCORES}{name}": score for name, score in scores.items()}
        _log(study_run, study_run.run_id, named)


def _log_run(study_run: StudyRun, key: str, name: str, metrics: Mapping[str, float]) -> None:
    target, client = study_run.target, study_run.target.client()
    if target.find_run(BASELINE, key) is None:
        tags = {KIND: "baseline", STUDY: target.study, BASELINE: key}
        client.create_run(target.experiment_id, tags=tags, run_name=name)
    # A late answer may have created more than one. This deletes the others.
    run_id = target.find_run(BASELINE, key)
    assert run_id is not None
    if client.get_run(run_id).info.status != "FINISHED":
        _log(study_run, run_id, metrics)
        client.set_terminated(run_id, "FINISHED")


def _log(study_run: StudyRun, run_id: str, metrics: Mapping[str, float]) -> None:
    metrics_of_run = to_metrics(EpochMetrics.now(0, metrics))
    study_run.target.client().log_batch(run_id, metrics=metrics_of_run)
