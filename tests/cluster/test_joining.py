"""Joining a cluster whose head is busy."""

import pytest
import ray

from psvae_tune.cluster.ray_session import join_cluster
from psvae_tune.errors import ClusterError

HANGS = "Initialization failure from server:\nRuntimeError: Starting Ray client server failed."


@pytest.mark.parametrize(
    ("answers", "n_asked"),
    [([HANGS, None], 2), ([HANGS, HANGS, None], 2), (["refused", None], 1)],
)
def test_a_head_that_could_not_serve_a_client_is_asked_once_more(monkeypatch, answers, n_asked):
    """Only a head under load answers so, and it cannot be made to: ``ray.init`` is replaced."""
    asked = []

    def answer(address, **settings):
        asked.append(address)
        if (text := answers[len(asked) - 1]) is not None:
            raise ConnectionAbortedError(text)

    monkeypatch.setattr(ray, "init", answer)
    if answers[n_asked - 1] is None:
        join_cluster("ray://head:10001", {})
    else:
        with pytest.raises(ClusterError, match="does not answer"):
            join_cluster("ray://head:10001", {})
    assert len(asked) == n_asked
