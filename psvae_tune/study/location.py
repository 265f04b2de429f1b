"""The location of a study: its folder, and its place in a tracking store."""

from dataclasses import dataclass

from psvae_tune.cluster.nodes import Nodes, list_nodes
from psvae_tune.cluster.preflight import check_nodes
from psvae_tune.cluster.ray_session import WORKER_ENVIRONMENT, join_cluster, set_driver_environment
from psvae_tune.errors import TrackingError
from psvae_tune.study.load_sessions import choose_streamed
from psvae_tune.study.plan import StudyPlan
from psvae_tune.tracking.client import TrackingTarget, open_target
from psvae_tune.tracking.folders import OutputFolder, StudyFolder
from psvae_tune.tracking.reachability import check_shareable
from psvae_tune.tracking.tags import KIND


@dataclass(frozen=True, slots=True)
class StudyLocation:
    """The folder that keeps a study, and the tracking store that its runs are logged to."""

    folder: StudyFolder
    target: TrackingTarget


def open_location(
    plan: StudyPlan,
    output: OutputFolder,
    name: str,
    tracking_uri: str | None,
    *,
    is_shared: bool = False,
) -> StudyLocation:
    """Make sure that a study can be kept and logged, before anything is read or trained.

    Parameters
    ----------
    plan
        The study.
    output
        Folder of all studies.
    name
        Name of the study.
    tracking_uri
        Store or server of MLflow. By default it is that of the search-space file; if the file
        names none, a store in ``output``.
    is_shared
        Whether other machines will log there as well.

    Side effects: creates ``output`` and the experiment.

    Raises
    ------
    TrackingError
        If the store does not answer, or holds another study of this name.
    StorageError
        If ``output`` cannot be written.
    """
    uri = tracking_uri or plan.study.tracking.uri
    experiment = plan.study.experiment_name
    folder = output.study(name)
    if uri is not None:
        if is_shared:
            check_shareable(uri, is_remote=False)
        target = open_target(uri, experiment, name, None)
        output.prepare()
    elif is_shared or not output.is_here:
        raise TrackingError(
            f"study {name!r}",
            "is kept where other machines reach it, and its runs must be, too: no tracking server "
            "was named",
            hint="give --tracking-uri or MLFLOW_TRACKING_URI",
        )
    else:
        output.prepare()
        target = open_target(output.default_tracking_uri, experiment, name, output.artifacts)
    if not output.has_study(name) and target.find_run(KIND, "study") is not None:
        # The runs of the other study would be taken for runs of this one.
        raise TrackingError(
            f"study {name!r}",
            f"is in the experiment {experiment!r} already, but not in {output.root}",
            hint="choose another --name, or resume it where its folder is",
        )
    return StudyLocation(folder, target)


def join(
    address: str, plan: StudyPlan, output: OutputFolder, location: StudyLocation
) -> tuple[Nodes, tuple[str, ...]]:
    """Join a cluster, and make sure that the study can run on every node of it.

    Parameters
    ----------
    address
        Address of the cluster, as in `join_cluster`.
    plan
        The study.
    output
        Folder of all studies.
    location
        Location of this study.

    Returns
    -------
    tuple
        The nodes, and the recordings that `choose_streamed` returns for them.

    Side effects: connects this process to the cluster; the end of `run` disconnects it.

    Raises
    ------
    ClusterError
        If the cluster cannot be joined, or a node could not run trials.
    """
    set_driver_environment()
    join_cluster(address, WORKER_ENVIRONMENT)
    nodes = list_nodes()
    nodes.check_room(plan.study.resources)
    streamed = choose_streamed(plan, nodes)
    check_nodes(nodes, output, location.target, streamed)
    return nodes, streamed
