import fcntl
import os
import time

import h5py
import numpy as np
import pytest

from tests.support import audit, hostile
from tests.support.tiny_study import command, finish


@pytest.fixture(scope="session")
def reader():
    """Return a process that reads files; see `hostile.Reader`."""
    process = hostile.Reader()
    yield process
    process.close()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Return what the study that is disturbed elsewhere comes to when it is left alone.

    It is run once, by the first process of the tests that needs it.
    """
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent
    folder = common / "undisturbed"
    with (common / "undisturbed.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (folder / "seconds").exists():
            call, begin = audit.make_study(folder), time.monotonic()
            finish(command(folder, *call))
            (folder / "seconds").write_text(str(time.monotonic() - begin))
    seconds = float((folder / "seconds").read_text())
    return audit.Outcome.read(folder, audit.Store.beside(folder), seconds)


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recordings") / "session.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["label_names"] = np.bytes_('["x", "y"]')
        for i in range(12):
            file[f"images/trial_{i:04}"] = rng.integers(0, 256, (4, 1, 32, 32), np.uint8)
            file[f"labels/trial_{i:04}"] = rng.random((4, 2))
            file[f"labels_sc/trial_{i:04}"] = rng.random((4, 2))
    return path


@pytest.fixture(scope="session")
def store_file(tmp_path_factory):
    """Return an empty store: making one takes seconds, copying it nothing."""
    import mlflow

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path.read_bytes()
