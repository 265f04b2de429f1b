"""Plans of faults whose studies must come to what they come to alone; see `tests.faults.plans`."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEEDS = (0, 1, 3, 7, 8, 12)
"""Kills of a worker, of the driver amid a write and of a node; disks; answers late and twice."""


def test_studies_with_faults_come_to_the_same(root):
    command = [sys.executable, "-m", "tests.faults.plans", "--plan", *map(str, SEEDS)]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
