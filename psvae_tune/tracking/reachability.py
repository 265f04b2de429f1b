"""Whether those who log can reach the tracking server from where they are."""

from urllib.parse import urlsplit

from psvae_tune.errors import TrackingError
from psvae_tune.redaction import holds_password
from psvae_tune.tracking.client import TrackingTarget, reason_of

LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")


def is_loopback(uri: str) -> bool:
    """Return whether a URI means the very machine that reads it."""
    try:
        return urlsplit(uri).hostname in LOOPBACK
    except ValueError:  # no URI at all
        return False


def check_shareable(uri: str, *, is_remote: bool) -> None:
    """Make sure that other machines than this can log to a tracking URI.

    Parameters
    ----------
    uri
        Of the store or server.
    is_remote
        Whether they are certainly other machines.

    Raises
    ------
    TrackingError
        If what it names is here alone, or if it holds a password.
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
    """Make sure that the store of a study answers.

    Raises
    ------
    TrackingError
        If it does not.
    """
    try:
        target.client().get_experiment(target.experiment_id)
    except Exception as error:  # stores raise what their database or HTTP library raises
        raise TrackingError(
            f"tracking URI {target.uri}",
            f"does not answer: {reason_of(error)}",
        ) from error
