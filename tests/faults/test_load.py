"""Eight trials that log at the same time, each epoch, as fast as they can."""

import glob
import multiprocessing
import os
import pwd
import shutil
import subprocess
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.folders import StudyFolder
from tests.support import audit
from tests.support.logging_trial import KEYS, log_in_silence
from tests.support.loopback import free_port, serve_mlflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

N_TRIALS = 8
N_EPOCHS = 20


def log_at_once(folder: Path, uri: str, artifacts: Path | None) -> None:
    """Log eight trials at once, and make sure that everything is there, once."""
    target = open_target(uri, "load", "load", artifacts)
    # They are forked from a process that has imported what each would need seconds to import.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store"])
    processes = [
        context.Process(
            target=log_in_silence,
            args=(target, folder / "study", f"trial_{number}", N_EPOCHS),
        )
        for number in range(N_TRIALS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * N_TRIALS
    assert not list(StudyFolder(folder / "study").outboxes.glob("*"))
    store = audit.Store(uri)
    assert len(store.runs()) == N_TRIALS
    assert {run.info.status for run in store.runs()} == {"FINISHED"}
    expected = Counter()
    for number in range(N_TRIALS):
        for epoch in range(1, N_EPOCHS + 1):
            expected[f"trial_{number}", "train/loss", epoch, 1 / epoch] = 1
            for key in KEYS:
                expected[f"trial_{number}", key, epoch, float(epoch)] = 1
    assert store.rows() == expected


def test_to_a_file_of_sqlite(tmp_path):
    log_at_once(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")


@contextmanager
def postgres(folder: Path):
    """Start PostgreSQL on this machine alone; yield the URI of a database."""
    psycopg = pytest.importorskip("psycopg")
    programs = [shutil.which("postgres"), *glob.glob("/usr/lib/postgresql/*/bin/postgres")]
    found = [Path(os.path.realpath(path)) for path in programs if path]
    if not found:
        pytest.skip("needs PostgreSQL")
    # It refuses to run as root, but its package brings a user, who must reach the folder.
    user = "postgres" if os.geteuid() == 0 else None
    data, port = folder / "data", free_port()
    data.mkdir()
    if user is not None:
        os.chown(data, pwd.getpwnam(user).pw_uid, -1)
    initdb = [str(found[0].with_name("initdb")), "-D", str(data), "-A", "trust", "-U", "mlflow"]
    subprocess.run([*initdb, "--no-sync"], user=user, check=True, capture_output=True, cwd="/")
    options = ["-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(data)]
    process = subprocess.Popen(
        [str(found[0]), *options], user=user, stderr=subprocess.DEVNULL, cwd="/"
    )
    try:
        place, deadline = f"mlflow@127.0.0.1:{port}/postgres", time.monotonic() + 60
        while True:
            try:
                psycopg.connect(f"postgresql://{place}").close()
                break
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield f"postgresql+psycopg://{place}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def open_folder():
    """Return a folder below which other users may have theirs, which pytest's are not."""
    folder = Path("/tmp") / f"psvae_tune_postgres_{os.getpid()}"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


def test_to_a_server_with_postgresql(tmp_path, open_folder):
    port = free_port()
    with postgres(open_folder) as store, serve_mlflow(tmp_path, port, store) as uri:
        log_at_once(tmp_path, uri, None)
