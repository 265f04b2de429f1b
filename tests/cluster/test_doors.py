"""Ports are open to this machine only, or else ask for a token or refuse unknown hosts."""

import os
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.support.doors import MARK, OUTSIDE, find_doors, knock, second_machine
from tests.support.loopback import free_port, is_up, wait_for
from tests.support.processes import descendants, signal_all
from tests.support.tiny_study import COMMAND, make_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BIN = Path(sys.executable).parent
# Tries requests `METHOD|URL|HEADER|VALUE` and prints the status of each, or `closed`.
REQUESTS = """
import http.client, sys, urllib.error, urllib.request
for line in sys.argv[1:]:
    method, url, header, value = line.split("|")
    data = b'{"entrypoint": "touch owned"}' if method == "POST" else None
    headers = {"Content-Type": "application/json"} | ({header: value} if header else {})
    try:
        request = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            print(answer.status)
    except urllib.error.HTTPError as error:
        print(error.code)
    except (OSError, http.client.HTTPException):
        print("closed")
"""
# Asks a head for its nodes, which every node and driver does first.
JOIN = """
import sys
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)
    print("joined")
except Exception as error:
    print(type(error).__name__)
"""


@contextmanager
def running(command, **environment):
    """Run a command whose processes `find_doors` finds by the mark that is returned."""
    mark = secrets.token_hex(8)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
    process = subprocess.Popen(command, env=clean | environment | {MARK: mark})
    try:
        yield process, mark
    finally:
        signal_all(descendants(process.pid), signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def elsewhere():
    """Have a second machine, or skip."""
    try:
        with second_machine():
            yield
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine permits no network namespaces")


def test_a_study_and_its_pages_listen_on_this_machine_only(tmp_path):
    study, output = str(make_study(tmp_path, 1, max_n_epochs=400)), str(tmp_path / "out")
    run = [*COMMAND, "run", study, "--output", output, "--name", "study"]
    with running(run) as (process, mark):
        wait_for(
            lambda: list(tmp_path.glob("out/study/checkpoints/*.pt")),
            seconds=300,
            what="no checkpoint",
        )
        doors = find_doors(mark)
        assert any("gcs_server" in door.process for door in doors)
        assert not [door for door in doors if not door.is_for_this_machine]
        process.send_signal(signal.SIGINT)
        process.wait(120)
    port = free_port()
    with running([*COMMAND, "ui", "--output", output, "--port", str(port)]) as (_, mark):
        wait_for(lambda: is_up(f"http://127.0.0.1:{port}/health"), seconds=300, what="no pages")
        doors = find_doors(mark)
        assert port in {door.port for door in doors}
        assert not [door for door in doors if not door.is_for_this_machine]


@pytest.fixture(scope="module")
def compose(root):
    return yaml.safe_load((root / "docker/compose.yaml").read_text())["services"]


def test_the_shipped_head_refuses_strangers(compose, elsewhere):
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # sockets have names of limited length
    token, gcs, jobs = secrets.token_hex(32), free_port(), free_port()
    program, *arguments = shlex.split(compose["head"]["command"])
    options = [f"--port={gcs}", f"--dashboard-port={jobs}", f"--temp-dir={folder}"]
    options += [f"--node-ip-address={OUTSIDE}", f"--ray-client-server-port={free_port()}"]
    secret = {"RAY_AUTH_MODE": compose["head"]["environment"]["RAY_AUTH_MODE"]}
    secret |= {"RAY_AUTH_TOKEN": token}
    head = [str(BIN / program), *arguments, *options]
    with running(head, HOME=str(folder), **secret) as (_, mark):
        wait_for(lambda: is_up(f"http://{OUTSIDE}:{jobs}/api/version"), what="no head")
        api = f"http://{OUTSIDE}:{jobs}/api"
        requests = [
            f"{method}|{api}/{path}|{header}"
            for method, path in (("GET", "version"), ("GET", "jobs/"), ("POST", "jobs/"))
            for header in ("|", "Authorization|Bearer wrong")
        ]
        friendly = f"GET|{api}/jobs/|Authorization|Bearer {token}"
        statuses = knock(REQUESTS, *requests, friendly).split()
        assert set(statuses[:-1]) == {"401", "403"}
        assert statuses[-1] == "200"
        # No other door takes orders either; numbers for Prometheus are all that some tell.
        others = {door.port for door in find_doors(mark) if not door.is_for_this_machine}
        orders = [f"POST|http://{OUTSIDE}:{port}/api/job_agent/jobs/||" for port in others]
        assert not {"200", "201", "404"} & set(knock(REQUESTS, *orders).split())
        address = f"{OUTSIDE}:{gcs}"
        stranger = knock(JOIN, address, RAY_AUTH_MODE="disabled")
        mistaken = knock(JOIN, address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
        assert "joined" not in stranger + mistaken
        assert knock(JOIN, address, **secret).split() == ["joined"]
    assert not list(folder.rglob("owned"))


def test_the_shipped_tracking_server_refuses_hosts_that_were_not_named(
    compose, elsewhere, tmp_path
):
    port = free_port()
    program, *arguments = shlex.split(compose["tracking"]["command"])
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    server = [str(BIN / program), *arguments, "--port", str(port), "--workers", "1"]
    server += ["--artifacts-destination", str(tmp_path)]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with running(server, MLFLOW_BACKEND_STORE_URI=store, **quiet):
        wait_for(lambda: is_up(f"http://127.0.0.1:{port}/health"), seconds=300, what="no server")
        page = f"GET|http://{OUTSIDE}:{port}/ajax-api/2.0/mlflow/experiments/get?experiment_id=0"
        hosts = ("|", "Host|evil.example:80", f"Host|tracking:{port}")
        assert knock(REQUESTS, *[f"{page}|{host}" for host in hosts]).split() == [
            "403",
            "403",
            "200",
        ]


def test_what_listens_on_this_machine_is_closed_to_others(elsewhere, tmp_path):
    (tmp_path / "mlflow.db").touch()
    port = free_port()
    pages = [*COMMAND, "ui", "--output", str(tmp_path), "--port", str(port)]
    with running(pages):
        wait_for(lambda: is_up(f"http://127.0.0.1:{port}/health"), seconds=300, what="no pages")
        assert knock(REQUESTS, f"GET|http://{OUTSIDE}:{port}/health||").split() == ["closed"]
