"""Every private name of Ray that the package uses exists in the installed version."""

import importlib
import inspect
import re
import subprocess
import sys
import time
from pathlib import Path
from pkgutil import resolve_name

import pytest
import ray
from ray.tune.experiment import Trial

from psvae_tune.cluster.ray_private import (
    JOBS_CLIENT_LOGGERS,
    LOST_CONNECTION,
    NO_SERVER_FOR_CLIENT,
    SECRETS,
    on_loopback,
)
from psvae_tune.cluster.ray_session import DRIVER_ENVIRONMENT
from tests.support.processes import command_line

NAMES = (
    "ray._private.ray_constants.ENABLE_RAY_CLUSTER",
    "ray._private.ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER",
    "ray._private.worker._global_node",
    "ray._private.node.Node.kill_all_processes",
    "ray._private.node.Node.is_head",
    "ray._private.node.Node.get_session_dir_path",
    "ray.tune.execution.class_cache.ENV_VARS_TO_PROPAGATE",
    "ray.tune.utils.object_cache._ObjectCache.increase_max",
    "ray.util.client.ray.is_connected",
    "ray.job_submission.JobSubmissionClient._do_request",
)
READERS = {
    "ray._private.worker": "_global_node.kill_all_processes(",
    "ray._private.node": "self.all_processes: dict",
    "ray._private.services": "if not ray_constants.ENABLE_RAY_CLUSTER",
    "ray.tune.execution.class_cache": "in ENV_VARS_TO_PROPAGATE",
    "ray.tune.execution.tune_controller": "self._actor_cache = _ObjectCache(",
    "ray.util.client.worker": NO_SERVER_FOR_CLIENT,
    "ray.dashboard.modules.job.sdk": LOST_CONNECTION,
}
FOLDERS = ("_common", "_private", "dashboard", "tune", "util")
"""Folders of Ray that read variables, those of its other libraries left out."""
VARIABLE = re.compile(r"\b(?:RAY|TUNE)_[A-Z_]*[A-Z]\b")
PRIVATE = re.compile(
    r"ray\._[a-z]|ray\.tune\.execution|ray\.util\.client\b|\._do_request|\._results|\._actor_cache"
)


@pytest.mark.parametrize("name", NAMES)
def test_a_private_name_still_exists(name):
    resolve_name(name)


@pytest.mark.parametrize("module", READERS)
def test_ray_still_reads_what_is_set_and_says_what_is_looked_for(module):
    source = inspect.getsource(importlib.import_module(module))
    assert READERS[module] in source, f"{READERS[module]!r} has gone from {module}"


def test_processes_can_still_be_ended_at_once():
    kill_all = resolve_name("ray._private.node.Node.kill_all_processes")
    assert "allow_graceful" in inspect.signature(kill_all).parameters


@pytest.mark.parametrize(
    "name", ["config", "trial_id", "is_finished", "get_error", "placement_group_factory"]
)
def test_a_trial_of_ray_tune_still_tells(name):
    assert hasattr(Trial("stub", stub=True), name), f"{name} has gone from ray.tune's Trial"


def test_variables_are_still_read(root):
    files = (root / "psvae_tune").rglob("*.py")
    named = {name for path in files for name in VARIABLE.findall(path.read_text())}
    assert named > set(DRIVER_ENVIRONMENT)
    folder = Path(str(ray.__file__)).parent
    readers = [path for name in FOLDERS for path in (folder / name).rglob("*.py")]
    text = "".join(path.read_text() for path in readers)
    assert not [name for name in named if name not in text]


@pytest.mark.parametrize("name", JOBS_CLIENT_LOGGERS)
def test_a_logger_still_has_its_name(name):
    assert "getLogger(__name__)" in inspect.getsource(importlib.import_module(name))


def test_ray_tune_still_propagates_the_secrets_that_are_withheld():
    module = importlib.import_module("ray.tune.execution.class_cache")
    assert all(f'"{name}"' in inspect.getsource(module) for name in SECRETS)


def test_ray_listens_everywhere_again_once_it_has_started():
    constants = importlib.import_module("ray._private.ray_constants")
    assert constants.ENABLE_RAY_CLUSTER
    with on_loopback():
        assert not constants.ENABLE_RAY_CLUSTER
    assert constants.ENABLE_RAY_CLUSTER


def test_private_names_are_used_in_one_file_and_listed_beside_the_version(root):
    files = (root / "psvae_tune").rglob("*.py")
    users = {path.name for path in files if PRIVATE.search(path.read_text())}
    assert users == {"ray_private.py"}
    pyproject = (root / "pyproject.toml").read_text()
    assert not [name for name in NAMES if name.rpartition(".")[2] not in pyproject]


ORPHANED = """
import os, time
from psvae_tune.cluster.ray_private import kill_ray, worker
from psvae_tune.cluster.ray_session import start_ray
from tests.support.processes import descendants

start_ray(1000)
[gcs], [raylet] = (worker._global_node.all_processes[name] for name in ("gcs_server", "raylet"))
time.sleep(3)  # agents have to find their head before they can miss it
below = descendants(raylet.process.pid)
for info in (gcs, raylet):
    info.process.kill()
    info.process.wait()
kill_ray()
print("", *below, sep="\\n", flush=True)
os._exit(0)
"""


@pytest.mark.slow
def test_agents_that_have_lost_their_parent_end_with_the_driver(root):
    """They would look for their head for a minute."""
    call = [sys.executable, "-c", ORPHANED]
    done = subprocess.run(call, cwd=root, capture_output=True, text=True, timeout=120, check=True)
    deadline = time.monotonic() + 10
    pids = [int(line) for line in done.stdout.splitlines() if line.isdecimal()]  # Ray prints too
    assert len(pids) > 2
    while left := [command_line(pid) for pid in pids if command_line(pid).strip()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


HEEDED = """
import os, signal
from concurrent.futures import ThreadPoolExecutor
import ray
from psvae_tune.cluster.ray_session import start_ray

signal.signal(signal.SIGTERM, lambda *of: print("heard", flush=True))
with ThreadPoolExecutor(1) as thread:
    thread.submit(start_ray, 1000).result()
    os.kill(os.getpid(), signal.SIGTERM)
    ray.shutdown()
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.slow
def test_sigterm_has_its_effect_while_ray_runs_and_after(root):
    call = [sys.executable, "-c", HEEDED]
    done = subprocess.run(call, cwd=root, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines().count("heard") == 2
