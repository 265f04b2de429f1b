"""Hostile input: how it is made, what may come of it, and how much of it was tried.

The only outcomes allowed are success and one `PsvaeTuneError`. Files that a C library reads
are read in a process of their own, so that a hang or a crash is an outcome too.
"""

import json
import math
import os
import random
import resource
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from psvae_tune.errors import PsvaeTuneError
from tests.support import tables

# A sample that is the same each time; a search for new trouble sets the number of inputs.
N_INPUTS = int(os.environ.get("PSVAE_TUNE_INPUTS", "0"))


def share(n_usual: int, part: float = 1) -> int:
    """Return how many inputs a test tries that has a part of those of its parser."""
    return math.ceil(part * N_INPUTS) if N_INPUTS else n_usual


def sample(n_usual: int = 60, part: float = 1) -> settings:
    """Return how hypothesis is to go about it; see `share`."""
    return settings(
        max_examples=share(n_usual, part),
        derandomize=not N_INPUTS,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


TIME_LIMIT_S = 30
MEMORY_LIMIT = 4 * 2**30


def count(parser: str, outcome: str) -> None:
    """Note an outcome for the table at the end."""
    tables.tried.setdefault(parser, Counter())[outcome] += 1


def attempt(parser: str, action: Callable[[], object]) -> PsvaeTuneError | None:
    """Do what may end well or with one error of ours, and nothing else; return the error."""
    try:
        action()
    except PsvaeTuneError as error:
        text = str(error)
        assert len(text) < 20_000, f"an error of {len(text)} characters"
        text.encode()
        count(parser, "refused")
        return error
    except BaseException:
        count(parser, "failed")
        raise
    count(parser, "taken")
    return None


def _serve() -> None:
    """Attempt what stdin asks for, line by line, with little memory. Ends with stdin."""
    from tests.support import readers

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    for line in sys.stdin:
        name, path = json.loads(line)
        try:
            refusal = attempt(name, lambda: readers.READERS[name](Path(path)))  # noqa: B023
            outcome = "taken" if refusal is None else "refused"
        except BaseException as error:
            outcome = f"failed: {error!r}".replace("\n", " ")
        print(outcome, flush=True)


class Reader:
    """A process that reads files and may die of it; another one then takes its place."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def read(self, name: str, path: Path) -> str:
        """Read a file with one of `readers.READERS`; return what came of it."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.hostile"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps([name, str(path)]), file=process.stdin, flush=True)
        answer = "hang\n"
        if select.select([process.stdout], [], [], TIME_LIMIT_S)[0]:
            answer = process.stdout.readline() or f"crash {process.wait()}\n"
        outcome = answer.strip()
        if outcome.startswith(("hang", "crash")):
            self.close()
        count(name, outcome.partition(":")[0])
        return outcome

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def damage(content: bytes, seed: int) -> bytes:
    """Return bytes with a few of them changed, moved, or cut off."""
    rng = random.Random(seed)
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at, other = rng.randrange(len(damaged)), rng.randrange(len(damaged))
        width = rng.choice([1, 1, 2, 4, 8])
        kinds = {
            "set": rng.randbytes(width),
            "flip": bytes([damaged[at] ^ (1 << rng.randrange(8))]),
            "fill": rng.choice([b"\0", b"\xff"]) * width,
            "copy": bytes(damaged[other : other + width]),
            "number": rng.randbytes(8),
        }
        kind = rng.choice([*kinds, "cut"])
        if kind == "cut":
            del damaged[max(1, at) :]
        else:
            damaged[at : at + len(kinds[kind])] = kinds[kind]
    return bytes(damaged)


NASTY = [
    "",
    " ",
    ".",
    "..",
    "../x",
    "/etc/passwd",
    "a/b",
    "a\nb",
    "a\0b",
    "a'b",
    'a"b',
    "`a`",
    "$(x)",
    "; rm x",
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "<!--",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "$\\frac$",
    "%s%n",
    "%2e%2e/x",
    "~",
    "~nobody",
    "a\tb\rc",
    "\x1b[31m",
    "\ufeff",
    "\u2028",
    "http://[",
    "file:///etc/passwd",
    "ü",
    "名前",
    "\u202ex",
    "\ud800",
    "x" * 300,
    "-x",
    "--help",
    "nan",
    "null",
    "1e400",
    "demo",
]
"""Text that does harm where it is taken for more than text."""

text = st.sampled_from(NASTY) | st.text(max_size=20)

if __name__ == "__main__":
    _serve()
