"""A promoted model behind MLflow's own server."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import h5py
import numpy as np
import pytest

from psvae_tune.data.demo import write_demo
from psvae_tune.data.session_file import read_session
from tests.support.logged_studies import log_study, with_space
from tests.support.tiny_study import command, finish, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def promoted(tmp_path):
    """Return the folder of a study whose choice is registered as `mouse`."""
    write_demo(tmp_path / "demo.h5", n_clips=12, clip_length=20, size=16)
    one_trial = with_space({"ps_vae.alpha": {"grid_search": [10]}})
    log_study(tmp_path / "out", tmp_path / "demo.h5", "study", one_trial)
    out, _ = finish(command(tmp_path, "promote", "out/study", "--name", "mouse"))
    assert out.strip() == "models:/mouse@champion"
    return tmp_path


@pytest.fixture
def address(promoted):
    """Serve the model as its README says, until the test is over."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call = ["mlflow", "models", "serve", "-m", "models:/mouse@champion", "--env-manager", "local"]
    server = subprocess.Popen(
        [sys.executable, "-m", *call, "--host", "127.0.0.1", "--port", str(port)],
        env=os.environ
        | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{promoted / 'out' / 'mlflow.db'}",
            # MLflow looks for the web server's command on the path.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    try:
        wait_for(answers, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=60)


def test_a_served_model_says_what_the_library_says(promoted, address):
    frames = read_session(promoted / "demo.h5", needs_labels=True).frames[:20]
    request = urllib.request.Request(
        f"{address}/invocations",
        data=json.dumps({"inputs": frames.tolist()}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        found = json.load(response)["predictions"]
    call = ("predict", "models:/mouse@champion", "demo.h5", "--output", "out")
    finish(command(promoted, *call))
    with h5py.File(promoted / "demo.latents.h5") as file:
        for name, group in (("latents", "latents"), ("labels", "labels_hat")):
            assert np.allclose(np.array(found[name]), file[group]["trial_0000"], atol=1e-4)
