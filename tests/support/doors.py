"""The sockets that processes listen on, and a second machine that tries to connect to them."""

import ipaddress
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

NAMESPACE, OUTSIDE, INSIDE = "psvae-tune", "10.213.7.1", "10.213.7.2"
MARK = "PSVAE_TUNE_DOORS"


class Door(NamedTuple):
    """A socket that a process listens on."""

    address: str
    port: int
    process: str

    @property
    def is_for_this_machine(self) -> bool:
        """Whether other machines cannot connect to it."""
        address = ipaddress.ip_address(self.address)
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def find_doors(mark: str) -> set[Door]:
    """Return the sockets of all processes that have ``MARK=mark`` in their environment."""
    sockets, found = _listening(), set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            links = [str(link.readlink()) for link in (folder / "fd").iterdir()]
            name = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
        except OSError:  # it has ended, or is another user's
            continue
        found |= {Door(*sockets[link], name) for link in links if link in sockets}
    return found


def _listening() -> dict[str, tuple[str, int]]:
    """Return the address and port of every listening socket, by its name in ``/proc``."""
    found = {}
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].partition(":")
            if fields[3] == "0A":
                words = [bytes.fromhex(address)[i : i + 4] for i in range(0, len(address) // 2, 4)]
                packed = b"".join(word[::-1] for word in words)
                place = str(ipaddress.ip_address(packed)), int(port, 16)
                found[f"socket:[{fields[9]}]"] = place
    return found


@contextmanager
def second_machine() -> Iterator[None]:
    """Have a network namespace with one wire to this machine, whose end here is `OUTSIDE`.

    Raises
    ------
    OSError, subprocess.CalledProcessError
        If this machine does not permit it.
    """
    here, there = "psvae-tune-0", "psvae-tune-1"
    commands = [
        f"link add {here} type veth peer name {there} netns {NAMESPACE}",
        f"addr add {OUTSIDE}/30 dev {here}",
        f"link set {here} up",
        f"-n {NAMESPACE} addr add {INSIDE}/30 dev {there}",
        f"-n {NAMESPACE} link set {there} up",
        f"-n {NAMESPACE} link set lo up",
    ]
    _ip(f"netns add {NAMESPACE}")
    try:
        for command in commands:
            _ip(command)
        yield
    finally:
        _ip(f"netns del {NAMESPACE}")  # takes the wire along


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True)


def knock(code: str, *arguments: str, **environment: str) -> str:
    """Run Python on the second machine; return what it printed."""
    done = subprocess.run(
        ["ip", "netns", "exec", NAMESPACE, sys.executable, "-c", code, *arguments],
        env={k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout
