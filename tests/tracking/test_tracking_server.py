"""Against a real tracking server that comes and goes."""

import mlflow
import pytest

from psvae_tune.files import write_bytes
from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.outbox import Outbox, deliver_all
from psvae_tune.tracking.trial_run import EpochMetrics, TrialRunSpec
from tests.support.loopback import free_port, serve_mlflow

pytestmark = pytest.mark.slow


def test_what_a_trial_logs_waits_for_a_server_that_is_away(tmp_path):
    folder, port = OutputFolder(tmp_path / "out").study("study"), free_port()

    def begin(trial_id="trial"):
        run = Outbox.of(folder, target, trial_id)
        run.open(TrialRunSpec("stage", trial_id, "alpha=1", {"alpha": 1}, []))
        return run

    def values(run, key="train/loss"):
        history = mlflow.MlflowClient(uri).get_metric_history(run.info.run_id, key)
        return [(item.step, item.value) for item in history]

    with serve_mlflow(tmp_path, port) as uri:
        target = open_target(uri, "away", "study", None)
        first = begin()
        first.log([EpochMetrics.now(1, {"train/loss": 1.0})])
    first.log([EpochMetrics.now(2, {"train/loss": 2.0})])
    again = begin()  # as after a crash, which repeats the epochs since the last checkpoint
    again.log([EpochMetrics.now(2, {"train/loss": 2.0})])
    again.log([EpochMetrics.now(3, {"train/loss": 3.0})])
    again.log_text("words", "config.yaml")
    again.log_final(EpochMetrics.now(3, {"test/loss": 9.0}))
    assert again.history() == {"train/loss": [(2, 2.0), (3, 3.0)]}
    Outbox.of(folder, target, "trial").close("FINISHED", "trained to the end")
    Outbox.of(folder, target, "trial").log_late({"best/udr": 0.5})
    begin("other").log(
        [EpochMetrics.now(1, {"train/loss": 5.0})]
    )  # the run of this one does not exist yet
    assert deliver_all(folder, target) == 2
    waiting = {path: path.read_bytes() for path in folder.outboxes.rglob("*") if path.is_file()}
    for _ in range(2):  # the second time as if the first had died before it removed anything
        for path, content in waiting.items():
            write_bytes(path, content)
        with serve_mlflow(tmp_path, port) as uri:
            assert deliver_all(folder, target) == 0
            runs = mlflow.MlflowClient(uri).search_runs([target.experiment_id])
            found = {run.data.tags["psvae_tune.trial_id"]: run for run in runs}
            assert len(runs) == len(found) == 2
            assert values(found["trial"]) == [(1, 1.0), (2, 2.0), (3, 3.0)]
            assert values(found["trial"], "test/loss") == [(3, 9.0)]
            assert values(found["trial"], "best/udr")[-1] == (0, 0.5)
            assert found["trial"].info.status == "FINISHED"
            assert found["trial"].data.tags["psvae_tune.stop_reason"] == "trained to the end"
            assert found["other"].data.params == {"alpha": "1"}
            assert values(found["other"]) == [(1, 5.0)]
            files = mlflow.MlflowClient(uri).list_artifacts(found["trial"].info.run_id)
            assert [item.path for item in files] == ["config.yaml"]
        assert not list(folder.outboxes.iterdir())
