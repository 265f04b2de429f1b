"""Plans of faults whose studies must come to what they come to alone; see `tests.faults.plans`."""

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

N_PLANS = int(os.environ.get("PSVAE_TUNE_PLANS", "6"))


def test_studies_with_faults_come_to_the_same(root):
    command = [sys.executable, "-m", "tests.faults.plans", "--plans", str(N_PLANS)]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
