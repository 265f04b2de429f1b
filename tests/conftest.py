"""What several test files need: the real recordings, and small studies."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch

# How long an example takes says how busy the machine is, and nothing else.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keep generated recordings out of the home of whoever runs the tests."""
    before = os.environ.get("PSVAE_TUNE_CACHE")
    os.environ["PSVAE_TUNE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["PSVAE_TUNE_CACHE"]
    else:
        os.environ["PSVAE_TUNE_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Small tensors are slower on several threads, the more so beside other processes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real recordings and reference outputs, or skip."""
    folder = Path(os.environ.get("PSVAE_TUNE_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the real recordings, which are not in {folder}")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
