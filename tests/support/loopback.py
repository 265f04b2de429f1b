"""A Ray cluster and the servers beside it, all of them processes of this machine."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import descendants, signal_all

# By default, workers yield to all other processes, which starves them where tests run.
AWAKE = {"RAY_worker_niceness": "0"}
RAY = str(Path(sys.executable).with_name("ray"))
START_S = 120
STORE_BYTES = 80 * 2**20  # little more than the minimum of Ray


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_for(condition, seconds: float = START_S, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@dataclass
class RayCluster:
    """A head and nodes, each a process tree with a temporary folder and resources of its own."""

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of the environment of every node."""
    nodes: dict[str, subprocess.Popen] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    jobs_port: int = field(default_factory=free_port)
    client_port: int = field(default_factory=free_port)

    @property
    def address(self) -> str:
        """Address that jobs are submitted to."""
        return f"http://127.0.0.1:{self.jobs_port}"

    @property
    def client_environment(self) -> dict[str, str]:
        """Variables that a user of the cluster needs in the environment."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def start_head(self, cpus: int = 0) -> None:
        ports = {"port": self.port, "dashboard-port": self.jobs_port}
        ports["ray-client-server-port"] = self.client_port
        self._start("head", ["--head", "--include-dashboard", "true", *_options(ports)], cpus)
        wait_for(lambda: is_up(f"{self.address}/api/version"), what="no head")

    def count_nodes(self) -> int:
        """Return the number of nodes that the head knows; new ones take it a while."""
        nodes = json.loads(self.ask("/api/v0/nodes"))["data"]["result"]["result"]
        return sum(node["state"] == "ALIVE" for node in nodes)

    def ask(self, path: str) -> bytes:
        """Ask the head as its dashboard does."""
        request = urllib.request.Request(
            self.address + path, headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())

    def add_node(self, name: str, cpus: int = 1) -> None:
        self._start(name, ["--address", f"127.0.0.1:{self.port}"], cpus)

    def _start(self, name: str, arguments: list[str], cpus: int) -> None:
        # Sockets have names of limited length, so Ray's folders must not lie deep.
        place = self.folder / name
        place.mkdir(parents=True)
        options = {
            "num-cpus": cpus,
            "num-gpus": 0,
            "node-ip-address": "127.0.0.1",
            "object-store-memory": STORE_BYTES,
            "temp-dir": place,
            "dashboard-agent-listen-port": free_port(),
        }
        command = [RAY, "start", *arguments, "--block", "--disable-usage-stats"]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.nodes[name] = subprocess.Popen(
                [*command, *_options(options)],
                env={k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
                | self.client_environment
                | self.environment
                | AWAKE
                | {"PSVAE_TUNE_CACHE": str(place / "cache"), "HOME": str(place)}
                | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=place,
            )

    def kill(self, name: str) -> None:
        """End a node as a power cut would."""
        process = self.nodes.pop(name)
        signal_all(descendants(process.pid), signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for name in reversed(list(self.nodes)):
            self.kill(name)


def _options(values: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


@contextmanager
def serve(command: list[str], url: str, **environment: str) -> Iterator[str]:
    """Run a server until the block ends."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: is_up(url), what=f"no answer from {url}")
        yield url
    finally:
        signal_all(descendants(process.pid), signal.SIGTERM)
        process.wait(30)


def serve_mlflow(
    folder: Path, port: int | None = None, store: str | None = None, app: str = "", **environment
):
    """Run a tracking server, by default on a free port and an SQLite file in a folder."""
    port = port or free_port()
    options = {
        "port": port,
        "workers": 1,
        "backend-store-uri": store or f"sqlite:///{folder / 'mlflow.db'}",
        "artifacts-destination": folder / "artifacts",
        **({"app-name": app} if app else {}),
    }
    return serve(
        [sys.executable, "-m", "mlflow", "server", *_options(options)],
        f"http://127.0.0.1:{port}",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        **environment,
    )


def serve_s3():
    port = free_port()
    return serve(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        f"http://127.0.0.1:{port}",
    )
