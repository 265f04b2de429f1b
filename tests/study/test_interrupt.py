"""Requests to stop that come while a study ends."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
from pathlib import Path
from psvae_tune.study.interrupt import explain_interruption
from psvae_tune.tracking.folders import OutputFolder

number, folder = int(sys.argv[1]), OutputFolder(Path(sys.argv[2])).study("study")
for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(other, signal.default_int_handler if other == signal.SIGINT else signal.SIG_DFL)
try:
    with explain_interruption(folder):
        os.kill(os.getpid(), number)
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGHUP)
    print("told how to go on")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_request_does_not_silence_the_answer_to_the_first(number, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int(number)), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "told how to go on\n"
