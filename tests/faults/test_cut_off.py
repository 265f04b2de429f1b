"""Studies whose processes are stopped or killed, at moments that nothing chose."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support import audit
from tests.support.processes import workers
from tests.support.tiny_study import command, finish, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

N_KILLS = int(os.environ.get("PSVAE_TUNE_KILLS", "4"))
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")  # of the kernel's first version of them


def heed_ctrl_c():
    """Undo what a shell does to the commands, these tests maybe, that it starts with `&`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_driver_killed_again_and_again(tmp_path, undisturbed):
    call, store, repeated = audit.make_study(tmp_path), audit.Store.beside(tmp_path), []
    rng = np.random.default_rng(0)
    n_kills = 0
    # The earlier ones before anything is trained, and later ones where those before had got to.
    for seconds in undisturbed.seconds * rng.uniform(0.05, 0.6, size=N_KILLS):
        process = command(tmp_path, *call)
        try:
            process.communicate(timeout=seconds)
            assert process.returncode == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            n_kills += 1
            repeated += audit.epochs_to_repeat(tmp_path, store)
            assert not audit.partial_files(tmp_path / "out")
        if (tmp_path / "out/study/study.yaml").exists():
            call = ("resume", "out/study")
    assert n_kills >= N_KILLS // 2
    finish(command(tmp_path, *call))
    audit.enter("SIGKILL of the driver", n_kills, tmp_path, store, undisturbed, repeated)


def test_a_driver_that_is_told_to_stop(tmp_path, undisturbed):
    """By Ctrl-C in a terminal, which the workers get as well; by two; by a batch system."""
    call, store, repeated = audit.make_study(tmp_path), audit.Store.beside(tmp_path), []
    rng = np.random.default_rng(1)
    checkpoints = tmp_path / "out/study/checkpoints"
    ways = {
        "Ctrl-C": [signal.SIGINT],
        "Ctrl-C twice": [signal.SIGINT, signal.SIGINT],
        "SIGTERM": [signal.SIGTERM],
    }
    for name, signals in ways.items():
        begin = time.time()
        process = command(tmp_path, *call, start_new_session=True, preexec_fn=heed_ctrl_c)
        wait_for(
            lambda since=begin: any(p.stat().st_mtime > since for p in checkpoints.glob("*.pt")),
            process,
        )
        time.sleep(rng.uniform(0, 1))
        for number in signals:
            if number == signal.SIGTERM:
                process.send_signal(number)
            else:
                os.killpg(process.pid, number)
            time.sleep(0.3)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 1, err
        assert err.count("error:") == 1
        assert "Traceback" not in err
        assert "psvae-tune resume" in err
        assert ("stopped at once" if name == "Ctrl-C twice" else "interrupted") in err
        if name != "Ctrl-C twice":
            assert "RUNNING" not in {run.info.status for run in store.runs()}
        repeated += audit.epochs_to_repeat(tmp_path, store)
        assert not audit.partial_files(tmp_path / "out")
        call = ("resume", "out/study")
    finish(command(tmp_path, *call))
    audit.enter(", ".join(ways), len(ways), tmp_path, store, undisturbed, repeated)


@pytest.fixture
def little_memory():
    """Return a group of processes that the kernel kills for want of memory, or None."""
    group = MEMORY_GROUPS / f"psvae_tune_{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("16M")
    except OSError:
        yield None
        return
    yield group
    group.rmdir()


def test_workers_that_die(tmp_path, undisturbed, little_memory):
    call, store, repeated = audit.make_study(tmp_path), audit.Store.beside(tmp_path), []
    rng = np.random.default_rng(2)
    checkpoints = tmp_path / "out/study/checkpoints"
    process = command(tmp_path, *call)
    wait_for(lambda: list(checkpoints.glob("*.pt")), process)
    killed = set()
    for _ in range(2):
        time.sleep(rng.uniform(0, 1))
        killed.add(pid := any_worker(process, killed))
        os.kill(pid, signal.SIGKILL)
        repeated += audit.epochs_to_repeat(tmp_path, store)
    if little_memory is not None:
        killed.add(pid := any_worker(process, killed))
        (little_memory / "cgroup.procs").write_text(str(pid))
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), process)
        repeated += audit.epochs_to_repeat(tmp_path, store)
    _, err = finish(process)
    assert err.count("goes on from its last checkpoint: its worker died") == len(killed)
    how = "SIGKILL of a worker" if little_memory is None else "SIGKILL, out-of-memory of a worker"
    audit.enter(how, len(killed), tmp_path, store, undisturbed, repeated)


def any_worker(process, others):
    found = []
    wait_for(lambda: found.extend(workers(process.pid, doing=".train") - others) or found, process)
    return found[0]
