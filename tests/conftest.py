"""Fixtures and settings of all tests, and how pytest spreads them over processes."""

import os
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import tables

# The time that an example takes tells how busy the machine is, and nothing about the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

ROOT = Path(__file__).parents[1]
MAX_PROCESSES = 4
"""Each process needs a gigabyte of memory."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Spread the tests over processes if all are asked for, but run those that are named here.

    A process takes seconds to begin, and a debugger sees only the tests in its own process.
    """
    is_all = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return min(os.cpu_count() or 1, MAX_PROCESSES) if is_all else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests in one process that share what takes long: those of a file, or of a cluster."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            folder = "tests/cluster/"
            return folder if nodeid.startswith(folder) else super()._split_scope(nodeid)

    return Scheduling(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the tables over to the process that prints them, if this is another one."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tables"] = tables.dump()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the tables of a process that has ended, unless it crashed."""
    if hasattr(node, "workeroutput"):
        tables.merge(node.workeroutput["tables"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of faults, and that of damaged and hostile input."""
    if hasattr(terminalreporter.config, "workeroutput"):
        return
    for title, rows, describe in (
        ("faults", tables.faults, tables.describe_faults),
        ("damaged and hostile input", tables.tried, tables.describe_tried),
    ):
        if rows:
            terminalreporter.section(title)
            for line in describe():
                terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keep generated recordings out of the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PSVAE_TUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_tracking_uri():
    """Forget the store of a test: MLflow notes the last one in the environment."""
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Use one thread, here and in the commands that tests start.

    Small tensors are slower on several, which wait for each other while other processes run.
    """
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real recordings and reference outputs, or skip."""
    folder = Path(os.environ.get("PSVAE_TUNE_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"needs the real recordings, which are not in {folder}")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the root of the repository."""
    return ROOT
