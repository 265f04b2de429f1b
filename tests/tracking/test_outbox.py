"""What lies in an outbox reaches the run, whoever wrote it and however often it is sent."""

import json

import pytest

from psvae_tune.files import write_bytes
from psvae_tune.tracking.client import TrackingTarget, open_target
from psvae_tune.tracking.folders import StudyFolder
from psvae_tune.tracking.outbox import Outbox, deliver_all
from psvae_tune.tracking.trial_run import EpochMetrics, TrialRunSpec

SPEC = {"stage": "search", "name": "alpha=1", "params": {"alpha": 1}, "datasets": [], "rung": None}
EARLIER = [
    {"kind": "metrics", "metrics": {"train/loss": 3.0}, "epoch": 1, "time": 1000},
    {"kind": "metrics", "metrics": {"train/loss": 2.0}, "epoch": 2, "time": 2000},
    {"kind": "files"},
    {"kind": "final", "metrics": {"test/loss": 9.0}, "epoch": 2, "time": 3000},
    {"kind": "close", "status": "FINISHED", "reason": "trained to the end"},
    {"kind": "late", "metrics": {"best/udr": 0.5}},
]
"""Entries as they were written when an epoch was an entry of its own."""


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return open_target(f"sqlite:///{folder / 'mlflow.db'}", "outbox", "study", folder / "files")


@pytest.fixture
def folder(tmp_path):
    return StudyFolder(tmp_path / "study")


def values(target, run, key):
    history = target.client().get_metric_history(run.info.run_id, key)
    return [(item.step, item.value) for item in history]


def test_what_an_earlier_version_left_is_sent_once_although_it_is_sent_twice(folder, target):
    root = folder.root / "spool" / "earlier"
    waiting = {
        root / "opening": json.dumps({**SPEC, "trial_id": "earlier"}).encode(),
        root / "00000003" / "config.yaml": b"words",
    } | {
        root / f"{number:08d}.json": json.dumps(entry).encode()
        for number, entry in enumerate(EARLIER, 1)
    }
    for _ in range(2):  # the second time as if the first had died before it removed anything
        for path, content in waiting.items():
            write_bytes(path, content)
        assert deliver_all(folder, target) == 0
        assert not list(folder.outboxes.iterdir())
    client = target.client()
    (run,) = client.search_runs([target.experiment_id], "tags.`psvae_tune.trial_id` = 'earlier'")
    assert run.data.params == {"alpha": "1"}
    assert run.info.status == "FINISHED"
    assert run.data.tags["psvae_tune.stop_reason"] == "trained to the end"
    assert values(target, run, "train/loss") == [(1, 3.0), (2, 2.0)]
    assert values(target, run, "test/loss") == [(2, 9.0)]
    assert values(target, run, "best/udr") == [(0, 0.5)]
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["config.yaml"]


@pytest.mark.slow
def test_epochs_that_wait_and_epochs_that_were_sent_are_one_history(folder, target, tmp_path):
    outbox = Outbox.of(folder, target, "halves")
    outbox.open(TrialRunSpec(**SPEC, trial_id="halves"))
    outbox.log([EpochMetrics.now(1, {"train/loss": 3.0})])
    outbox.target = TrackingTarget("http://127.0.0.1:9", "0", "study")  # nobody listens there
    outbox.close("KILLED", "interrupted")  # so that the run has to be opened again
    outbox.log([EpochMetrics.now(2, {"train/loss": 2.0})])
    assert outbox.history() == {"train/loss": [(2, 2.0)]}
    again = Outbox.of(folder, target, "halves")
    again.open(TrialRunSpec(**SPEC, trial_id="halves"))
    assert again.history() == {"train/loss": [(1, 3.0), (2, 2.0)]}
    assert deliver_all(folder, target) == 0
