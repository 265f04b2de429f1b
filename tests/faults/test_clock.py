"""Clocks that are put forward and back between, and within, the starts of a trial."""

import glob
import os
import subprocess
import time

import pytest

from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.folders import StudyFolder
from psvae_tune.tracking.outbox import Outbox
from psvae_tune.tracking.trial_run import TrialRunSpec
from tests.support import audit
from tests.support.logging_trial import KEYS, PROGRAM

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")


def log_until(epoch: int, offset: str, *arguments: str) -> None:
    """Log a trial up to an epoch, with the clock put away from the right time."""
    clock = {"LD_PRELOAD": LIBRARIES[0], "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    subprocess.run(
        [*PROGRAM, *arguments, str(epoch)],
        env={**os.environ, **clock},
        check=True,
    )


@pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime")
def test_a_trial_goes_on_after_the_clock_was_put_back(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    target = open_target(uri, "clock", "load", tmp_path / "artifacts")
    arguments = (uri, target.experiment_id, str(tmp_path / "study"), "trial")
    for epoch, offset in ((3, "+2d"), (6, "+0"), (9, "-400d"), (12, "+1h")):
        log_until(epoch, offset, *arguments)
    (run,) = audit.Store(uri).runs()
    for key in ("train/loss", *KEYS):
        history = audit.Store(uri).client.get_metric_history(run.info.run_id, key)
        assert sorted(item.step for item in history) == list(range(1, 13))
    assert run.data.metrics[KEYS[0]] == 12
    assert run.info.status == "FINISHED"


def test_what_is_known_late_counts_although_the_clock_was_put_back(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    target = open_target(uri, "clock", "load", tmp_path / "artifacts")
    folder = StudyFolder(tmp_path / "study")
    outbox = Outbox.of(folder, target, "trial")
    outbox.open(TrialRunSpec("stage", "trial", "trial", {"n": 1}, []))
    now = time.time()
    for offset, agreement in ((0, 0.9), (0, 0.9), (-3600, 0.5), (-7200, 0.7)):
        monkeypatch.setattr("time.time", lambda offset=offset: now + offset)
        outbox.log_late({"best/udr": agreement})
        (run,) = audit.Store(uri).runs()
        assert run.data.metrics["best/udr"] == agreement
    outbox.close("FINISHED", "trained to the end")
    history = audit.Store(uri).client.get_metric_history(run.info.run_id, "best/udr")
    assert [item.value for item in history] == [0.9, 0.5, 0.7]
