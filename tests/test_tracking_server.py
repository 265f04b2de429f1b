"""Against a real tracking server that comes and goes."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import mlflow
import pytest

from psvae_tune.tracking import TrialRun, open_target

pytestmark = pytest.mark.slow


@contextmanager
def server(folder, port):
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    process = subprocess.Popen(
        command,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_metrics_wait_for_a_server_that_is_away(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with server(tmp_path, port) as uri:
        target = open_target(uri, "away", "study", None)
        run = TrialRun.open(target, "stage", "trial", "alpha=1", {"ps_vae.alpha": 1}, [])
        run.log({"train/loss": 1.0}, 1)
    run.log({"train/loss": 2.0}, 2)
    run.log({"train/loss": 3.0}, 3)
    assert not run.deliver()
    with server(tmp_path, port) as uri:
        run.log({"train/loss": 4.0}, 4)
        assert run.deliver()
        history = mlflow.MlflowClient(uri).get_metric_history(run.run_id, "train/loss")
        assert [(item.step, item.value) for item in history] == [
            (n, float(n)) for n in range(1, 5)
        ]
        again = TrialRun.open(target, "stage", "trial", "alpha=1", {}, [])
        assert (again.run_id, again.last_step) == (run.run_id, 4)
