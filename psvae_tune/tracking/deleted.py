"""A run or an experiment that was deleted on MLflow's pages is named, with how to restore it."""

from psvae_tune.errors import DeletedError
from psvae_tune.tracking.client import TrackingTarget, import_mlflow, refuse_deleted, restoring
from psvae_tune.tracking.tags import KIND, STUDY, TRIAL


def check_experiment(target: TrackingTarget) -> None:
    """Refuse an experiment that was deleted.

    Raises
    ------
    DeletedError
        If the experiment of the target was deleted.
    """
    refuse_deleted(target.uri, target.client().get_experiment(target.experiment_id))


def missing_trial(target: TrackingTarget, trial_id: str, name: str) -> DeletedError:
    """Return the error that the run of a trial, which a study needs, is gone.

    Parameters
    ----------
    target
        The study.
    trial_id, name
        The trial.
    """
    view = import_mlflow().entities.ViewType.DELETED_ONLY
    runs = target.client().search_runs(
        [target.experiment_id], f"tags.`{TRIAL}` = '{trial_id}'", run_view_type=view
    )
    where = f"trial {name!r} of study {target.study!r}"
    other = f"choose another with psvae-tune choose {target.study} --trial NAME"
    if not runs:
        return DeletedError(where, "has no run in MLflow any more", hint=other)
    run_id = runs[0].info.run_id
    restore = restoring(target.uri, f"runs restore --run-id {run_id}")
    return DeletedError(where, f"its run {run_id} was deleted", hint=f"{restore}, or {other}")


def raise_if_study_was_deleted(uri: str, name: str) -> None:
    """Say of a study that a store does not list that it was deleted, if it was.

    Raises
    ------
    DeletedError
        If the run of the study, or its experiment, was deleted.
    """
    client, view = TrackingTarget(uri, "", name).client(), import_mlflow().entities.ViewType.ALL
    experiments = {item.experiment_id: item for item in client.search_experiments(view_type=view)}
    runs = client.search_runs(
        list(experiments), f"tags.`{KIND}` = 'study'", run_view_type=view, max_results=5000
    )
    for run in runs:
        if run.data.tags.get(STUDY) == name:
            refuse_deleted(uri, experiments[run.info.experiment_id])
            restore = f"runs restore --run-id {run.info.run_id}"
            raise DeletedError(
                f"study {name!r}",
                f"its run {run.info.run_id} was deleted from {uri}",
                hint=restoring(uri, restore),
            )
