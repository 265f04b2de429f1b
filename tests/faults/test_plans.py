"""Plans of faults whose studies must come to what they come to alone; see `tests.faults.plans`."""

import re
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEEDS = (0, 1, 3, 7, 8, 12, 41)
MET = {
    "worker kill",
    "driver kill amid a write",
    "driver node lost",
    "worker disk read-only",
    "driver disk broken",
    "server answer late",
    "server request twice",
}
"""Faults that the studies of these seeds must meet, or the test would show nothing of them."""


def test_studies_with_faults_come_to_the_same(root):
    # Processes are forked from the one that runs the plans, which must hold no test's threads.
    command = [sys.executable, "-m", "tests.faults.plans", "--plan", *map(str, SEEDS)]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    lines = re.findall(r"^plan (\d+): equal: (.+)$", process.stdout, re.MULTILINE)
    met = {int(seed): {*faults.split(", ")} for seed, faults in lines}
    assert tuple(met) == SEEDS
    assert {"no fault was met"} not in met.values()
    assert set().union(*met.values()) >= MET, process.stdout
