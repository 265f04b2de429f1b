"""The package works where calls that only Linux has are absent, or says what it needs."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from psvae_tune.data.memory_limits import peak_memory
from tests.support.recordings import draw, path_of_square, write_csv, write_video

MACHINE_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
# What macOS lacks.
NO_LINUX = """
import os, pathlib
for name in (
    "sched_getaffinity", "sched_setaffinity", "posix_fadvise", "copy_file_range", "splice",
    "memfd_create", "eventfd", "pidfd_open", "O_DIRECT", "O_TMPFILE",
):
    if hasattr(os, name):
        delattr(os, name)
read_text = pathlib.Path.read_text
def read_text_of_others(path, *arguments, **options):
    if str(path).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return read_text(path, *arguments, **options)
pathlib.Path.read_text = read_text_of_others
"""
# What Windows lacks beside that.
NO_UNIX = (
    NO_LINUX
    + """
import sys
sys.modules |= {"fcntl": None, "resource": None}
"""
)
# All commands that need no cluster, from a video to its latents.
WITHOUT_CLUSTER = """
import sys
from psvae_tune.cli.commands import main

def call(*arguments):
    assert not main(arguments, standalone_mode=False), arguments

video, poses, folder = sys.argv[1:]
session, out = f"{folder}/square.h5", f"{folder}/out"
call("data", "import", video, "--pose", poses, "--size", "32x32", "-o", session)
call("data", "check", session)
settings = ["training.max_n_epochs=2", "model.ps_vae.anneal_epochs=1"]
options = ["--inline", *(word for setting in settings for word in ("--set", setting))]
study = "search_spaces/ps_vae_published.yaml"
call("run", study, "--data", session, "--output", out, *options)
(model,) = pathlib.Path(out).rglob("model.pt")
call("predict", str(model), session, "--to", folder)
"""


@pytest.fixture
def run_without(root):
    """Return a function that runs a program in a Python without some calls; it returns its end."""

    def run_program(
        preparation: str, program: str, *arguments: str
    ) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", preparation + program, *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    return run_program


@pytest.mark.parametrize("preparation", [NO_LINUX, NO_UNIX], ids=["no Linux", "no Unix"])
def test_a_file_is_checked_without_the_calls_of_linux(run_without, preparation):
    program = "from psvae_tune.cli.commands import main\nmain()"
    done = run_without(preparation, program, "check", "search_spaces/ps_vae.yaml")
    assert done.returncode == 0, done.stderr
    assert "ps-vae: up to" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_video_is_imported_fitted_and_described_without_the_calls_of_linux(
    run_without, tmp_path
):
    centres = path_of_square(120)
    video = str(write_video(tmp_path / "square.mp4", draw(centres)))
    poses = str(write_csv(tmp_path / "square.csv", centres))
    done = run_without(NO_LINUX, WITHOUT_CLUSTER, video, poses, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "square.latents.csv").read_text().count("\n") > 100


def test_cpus_and_memory_are_known_without_the_calls_of_linux(run_without):
    program = (
        "from psvae_tune.cluster.nodes import count_cpus\n"
        "from psvae_tune.data.memory_limits import free_memory\n"
        "print(count_cpus(), free_memory())"
    )
    done = run_without(NO_LINUX, program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(os.cpu_count()), str(MACHINE_BYTES)]


def test_a_study_without_file_locks_is_refused_with_what_to_use(run_without, tmp_path):
    program = (
        "import sys\n"
        "from psvae_tune.files import locate\n"
        "from psvae_tune.tracking.folders import OutputFolder\n"
        "with OutputFolder(locate(sys.argv[1])).study('mouse').lock():\n"
        "    pass"
    )
    done = run_without(NO_UNIX, program, str(tmp_path))
    assert done.returncode == 1
    assert "mouse/lock: cannot be locked" in done.stderr
    assert "run studies on Linux or macOS" in done.stderr


def test_cpus_that_this_process_may_not_use_do_not_count(run_without):
    program = (
        "import os\n"
        "from psvae_tune.cluster.nodes import count_cpus\n"
        "os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "print(count_cpus())"
    )
    assert run_without("", program).stdout == "1\n"


def test_the_peak_of_memory_is_in_bytes():
    array = np.ones(2**26, np.uint8)
    assert array.nbytes < peak_memory() < MACHINE_BYTES


def test_macos_gives_the_peak_of_memory_in_bytes_and_linux_in_kilobytes(monkeypatch):
    at_least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    monkeypatch.setattr(sys, "platform", "darwin")
    assert at_least <= peak_memory() < 1024 * at_least
