import numpy as np
import pytest

from psvae_tune.data.demo import write_demo
from psvae_tune.data.session_file import read_session, write_session


@pytest.fixture(scope="session")
def demo_session(tmp_path_factory):
    path = tmp_path_factory.mktemp("recordings") / "demo.h5"
    write_demo(path, n_clips=10, clip_length=12)
    return read_session(path, needs_labels=True)


@pytest.fixture(scope="session")
def many_labels_session(tmp_path_factory):
    """Two channels, 44 labels, no places in pixels."""
    path = tmp_path_factory.mktemp("recordings") / "many.h5"
    rng = np.random.default_rng(0)
    write_session(
        path,
        rng.random((60, 2, 16, 20)).astype(np.float32),
        [6] * 10,
        label_names=[f"label {i}" for i in range(44)],
        labels=rng.normal(size=(60, 44)).astype(np.float32),
    )
    return read_session(path, needs_labels=True)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recordings") / "<b>mouse & co.h5"
    write_demo(path, n_clips=20, clip_length=8, size=16)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")
