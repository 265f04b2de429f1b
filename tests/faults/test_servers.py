"""What servers do to a study that runs, and what is left of it."""

import mlflow
import pytest
from test_study_end_to_end import command, finish, make_study, wait_for
from test_tracking_server import free_port, server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_study_ends_without_its_server_and_is_delivered_later(tmp_path):
    file, port = make_study(tmp_path, 3, max_n_epochs=40), free_port()
    uri = f"http://127.0.0.1:{port}"
    with server(tmp_path, port):
        process = command(
            tmp_path, "run", str(file), "--output", "out", "--name", "study", "--tracking-uri", uri
        )
        checkpoints = tmp_path / "out/study/checkpoints"
        wait_for(lambda: list(checkpoints.glob("*.pt")), process)
    out, _ = finish(process)
    assert "model      waits for the tracking server" in out
    assert "psvae-tune sync" in out
    process = command(tmp_path, "sync", "out/study")
    _, err = process.communicate(timeout=200)
    assert process.returncode == 2
    assert "has not taken what" in err
    with server(tmp_path, port):
        out, _ = finish(command(tmp_path, "sync", "out/study"))
        assert "models:/" in out
        client = mlflow.MlflowClient(uri)
        experiment = client.get_experiment_by_name("tiny")
        runs = client.search_runs([experiment.experiment_id])
        kinds = [run.data.tags["psvae_tune.kind"] for run in runs]
        assert sorted(kinds) == ["study", "trial", "trial", "trial"]
        assert {run.info.status for run in runs} == {"FINISHED"}
        assert sum("psvae_tune.selected" in run.data.tags for run in runs) == 1
        for run in runs:
            if run.data.tags["psvae_tune.kind"] == "trial":
                history = client.get_metric_history(run.info.run_id, "val/frame_mse")
                assert [item.step for item in history] == list(range(1, 41))
    assert not list((tmp_path / "out/study/spool").glob("*"))
    again = command(tmp_path, "sync", "out/study")
    _, err = again.communicate(timeout=100)
    assert again.returncode == 0, err
