"""What servers do to a study that runs, and what is left of it."""

import itertools
import os
import time

import numpy as np
import pytest

from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.outbox import Outbox, deliver_all
from psvae_tune.tracking.study_run import StudyRun
from psvae_tune.tracking.trial_run import EpochMetrics, TrialRunSpec
from tests.support import audit
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


def test_a_study_ends_without_its_server_and_is_delivered_later(tmp_path, undisturbed):
    call, port = audit.make_study(tmp_path), free_port()
    store = audit.Store(f"http://127.0.0.1:{port}")
    with serve_mlflow(tmp_path, port):
        process = command(tmp_path, *call, "--tracking-uri", store.uri)
        wait_for(lambda: list((tmp_path / "out/study/checkpoints").glob("*.pt")), process)
    out, _ = finish(process)
    assert "model      waits for the tracking server" in out
    assert "psvae-tune sync" in out
    process = command(tmp_path, "sync", "out/study")
    _, err = process.communicate(timeout=200)
    assert process.returncode == 2
    assert "has not taken what" in err
    with serve_mlflow(tmp_path, port):
        out, _ = finish(command(tmp_path, "sync", "out/study"))
        assert "models:/" in out
        audit.enter("tracking server away for good", 1, tmp_path, store, undisturbed, [])
        assert sum("psvae_tune.selected" in run.data.tags for run in store.runs()) == 1
        again = command(tmp_path, "sync", "out/study")
        _, err = again.communicate(timeout=100)
        assert again.returncode == 0, err


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
