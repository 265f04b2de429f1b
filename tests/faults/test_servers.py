"""What servers do to a study that runs, and what is left of it."""

import itertools
import os
import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.outbox import Outbox, deliver_all
from psvae_tune.tracking.study_run import StudyRun
from psvae_tune.tracking.trial_run import EpochMetrics, TrialRunSpec
from tests.support import audit
from tests.support.leaks import leaks
from tests.support.loopback import free_port, serve_mlflow
from tests.support.proxy import slow_proxy
from tests.support.tiny_study import command, finish, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

AWAY_S = float(os.environ.get("PSVAE_TUNE_AWAY_S", "5"))
# Shorter than the answers that are held back, so that requests are sent again.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}


def test_a_server_that_is_slow_goes_away_and_comes_back(tmp_path, undisturbed):
    """Meanwhile the recording is cut short, which the study has read and does not notice."""
    call, port = audit.make_study(tmp_path), free_port()
    store = audit.Store(f"http://127.0.0.1:{port}")
    recording = tmp_path / "demo.h5"
    whole = recording.read_bytes()
    rng = np.random.default_rng(4)
    delays = itertools.chain.from_iterable(
        (3.0, *rng.exponential(0.05, size=49)) for _ in itertools.count()
    )
    with slow_proxy(port, lambda: next(delays)) as uri:
        with serve_mlflow(tmp_path, port):
            process = command(tmp_path, *call, "--tracking-uri", uri, environment=IMPATIENT)
            wait_for(lambda: list((tmp_path / "out/study/checkpoints").glob("*.pt")), process)
            os.truncate(recording, len(whole) // 2)
            time.sleep(rng.uniform(0, 1))
        wait_for(lambda: list((tmp_path / "out/study/spool").glob("*/*.json")), process)
        time.sleep(AWAY_S)
        with serve_mlflow(tmp_path, port):
            out, err = finish(process)
            assert "Traceback" not in err
            if "waits for the tracking server" in out:  # it ended before the server was back
                recording.write_bytes(whole)
                finish(command(tmp_path, "sync", "out/study"))
            faults = "tracking server slow, and away for a while; recording cut short"
            audit.enter(faults, 1, tmp_path, store, undisturbed, [])
            recording.write_bytes(whole[: len(whole) // 2])
            process = command(tmp_path, "resume", "out/study")
            _, err = process.communicate(timeout=100)
            assert process.returncode == 2
            assert err.startswith(f"error: {recording}: ")
            assert "Traceback" not in err


@dataclass(frozen=True)
class Delivery:
    """A study that has ended without its server, which is back and has what it had missed."""

    folder: Path
    store: audit.Store
    secrets: dict[str, str]
    environment: dict[str, str]
    """Variables that hold the secrets, for every command."""
    said: list[str]
    """What the commands have printed."""

    def call(self, *arguments: str, rc: int = 0) -> str:
        """Run a command to its end; return what it printed."""
        process = command(self.folder, *arguments, "-v", environment=self.environment)
        self.said.append("".join(process.communicate(timeout=300)))
        assert process.returncode == rc, self.said[-1]
        return self.said[-1]


@pytest.fixture(scope="module")
def delivery(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("delivery"), free_port()
    ray_folder = tempfile.mkdtemp(prefix="ray")  # sockets have names of limited length
    names = ("URI", "MLFLOW_TRACKING_PASSWORD", "RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY")
    canaries = {name: secrets.token_hex(32) for name in names}
    environment = {
        **canaries,
        "RAY_TMPDIR": ray_folder,
        "MLFLOW_TRACKING_USERNAME": "user",
        "MLFLOW_TRACKING_URI": f"http://user:{canaries['URI']}@127.0.0.1:{port}",
    }
    del environment["URI"]
    store = audit.Store(f"http://127.0.0.1:{port}")
    found = Delivery(folder, store, canaries, environment, [])
    call = audit.make_study(folder)
    with serve_mlflow(folder, port):
        process = command(folder, *call, "-v", environment=environment)
        wait_for(lambda: list((folder / "out/study/checkpoints").glob("*.pt")), process)
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert not [line for line in lines if any(s.encode() in line for s in canaries.values())]
    found.said.extend(finish(process))
    assert "model      waits for the tracking server" in found.said[0]
    assert "psvae-tune sync" in found.said[0]
    assert "has not taken what" in found.call("sync", "out/study", rc=2)
    with serve_mlflow(folder, port):
        assert "models:/" in found.call("sync", "out/study")
        yield found
    shutil.rmtree(ray_folder)


def test_a_study_ends_without_its_server_and_is_delivered_later(delivery, undisturbed):
    fault = "tracking server away for good"
    audit.enter(fault, 1, delivery.folder, delivery.store, undisturbed, [])
    runs = delivery.store.runs()
    assert sum("psvae_tune.selected" in run.data.tags for run in runs) == 1
    delivery.call("sync", "out/study")


def test_it_leaves_no_secret_anywhere(delivery):
    delivery.call("report", "study")
    delivery.call("promote", "study", "--name", "mouse")
    for name, secret in delivery.secrets.items():
        assert not any(secret in text for text in delivery.said), name
    ray_folder = Path(delivery.environment["RAY_TMPDIR"])
    logs = list(ray_folder.rglob("worker-*.err"))
    assert any("waits for the tracking server" in path.read_text() for path in logs)
    assert not leaks([delivery.folder, ray_folder], delivery.secrets)


def test_requests_that_are_sent_again_count_once(tmp_path, monkeypatch):
    """Every third answer comes so late that MLflow's client has asked a second time."""
    for name, value in IMPATIENT.items():
        monkeypatch.setenv(name, value)
    folder, port = OutputFolder(tmp_path / "out").study("study"), free_port()
    delays = itertools.cycle([3.0, 0.01, 0.01])
    opening = TrialRunSpec("stage", "trial", "alpha=1", {"ps_vae.alpha": 1}, [])
    n_epochs = 9
    with serve_mlflow(tmp_path, port) as uri, slow_proxy(port, lambda: next(delays)) as slow:
        target = open_target(slow, "late", "study", None)
        study_run = StudyRun.open(target, {"ps_vae.beta": 1})
        run = Outbox.of(folder, target, "trial")
        run.open(opening)
        for epoch in range(1, n_epochs + 1):
            metrics = {"train/loss": 1 / epoch, "val/frame_mse": 2 / epoch}
            run.log([EpochMetrics.now(epoch, metrics)])
        run.log_text("words", "config.yaml")
        run.log_final(EpochMetrics.now(n_epochs, {"test/frame_mse": 0.5}))
        Outbox.of(folder, target, "trial").close("FINISHED", "trained to the end")
        Outbox.of(folder, target, "trial").log_late({"best/udr": 0.5})
        study_run.close("FINISHED")
        while deliver_all(folder, target):
            pass
        store = audit.Store(uri)
        assert {run.info.status for run in store.runs()} == {"FINISHED"}
        assert len(store.runs()) == 2
        (found,) = store.trials()
        assert found.data.params == {"ps_vae.alpha": "1"}
        epochs = range(1, n_epochs + 1)
        expected = {("trial", "train/loss", epoch, 1 / epoch): 1 for epoch in epochs}
        expected |= {("trial", "val/frame_mse", epoch, 2 / epoch): 1 for epoch in epochs}
        expected |= {
            ("trial", "test/frame_mse", n_epochs, 0.5): 1,
            ("trial", "best/udr", 0, 0.5): 1,
        }
        assert store.rows() == expected
        files = store.client.list_artifacts(found.info.run_id)
        assert [item.path for item in files] == ["config.yaml"]
