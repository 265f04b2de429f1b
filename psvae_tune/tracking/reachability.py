"""Checks that workers can reach the tracking server, and that it answers."""

from urllib.parse import urlsplit

from psvae_tune.errors import TrackingError
from psvae_tune.redaction import holds_password
from psvae_tune.tracking.client import TrackingTarget, asking

LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")


def is_loopback(uri: str) -> bool:
    """Return whether a URI names the machine that reads it."""
    try:
        return urlsplit(uri).hostname in LOOPBACK
    except ValueError:  # no URI at all
        return False


def check_shareable(uri: str, *, is_remote: bool) -> None:
    """Check that the workers of a cluster can log to a tracking URI.

    Parameters
    ----------
    uri
        URI of a store or a server.
    is_remote
        Whether the workers are on other machines than this one.

    Raises
    ------
    TrackingError
        If only this machine can reach the store, or if the URI holds a password.
    """
    where = f"tracking URI {uri}"
    hint = "start psvae_tune's compose file or `mlflow server`, and give its address"
    if uri.startswith(("sqlite:", "file:")) or "://" not in uri:
        raise TrackingError(where, "is a file of one machine: workers cannot reach it", hint)
    if is_remote and is_loopback(uri):
        raise TrackingError(
            where, "means another machine on every node: workers cannot reach it", hint
        )
    if holds_password(uri):
        raise TrackingError(
            where,
            "holds a password, which everyone who sees the job would see",
            hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD on the nodes instead",
        )


def check_answers(target: TrackingTarget) -> None:
    """Check that the store of a study answers.

    Raises
    ------
    TrackingError
        If the store does not answer.
    """
    with asking(target.uri):
        target.client().get_experiment(target.experiment_id)
