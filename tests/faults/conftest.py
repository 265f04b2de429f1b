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
    """Return what the study that is disturbed elsewhere comes to when it is left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    call, begin = audit.make_study(folder), time.monotonic()
    finish(command(folder, *call))
    seconds = time.monotonic() - begin
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
