"""Studies whose processes are stopped or killed, at moments that nothing chose."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support import audit
from tests.support.processes import command_line, descendants, signal_all, workers
from tests.support.tiny_study import command, finish, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

N_KILLS = int(os.environ.get("PSVAE_TUNE_KILLS", "4"))
SLEEP_S = 15
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")  # of the kernel's first version of them


def heed_signals():
    """Undo what a shell does to commands, these tests maybe, that `&` or `nohup` starts."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


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


@pytest.mark.parametrize(
    "ways",
    [
        {"Ctrl-C": [signal.SIGINT], "closed terminal": [signal.SIGHUP]},
        {
            "SIGTERM to all processes": [signal.SIGTERM],
            "SIGTERM twice": [signal.SIGTERM, signal.SIGTERM],
        },
    ],
    ids=["by a person", "by a batch system"],
)
def test_a_study_that_is_told_to_stop(tmp_path, undisturbed, ways):
    """Batch systems signal every process of a study, whatever its group.

    A study is stopped twice: one that is stopped more often may end before the last signal.
    """
    call, store, repeated = audit.make_study(tmp_path), audit.Store.beside(tmp_path), []
    rng = np.random.default_rng(1)
    checkpoints = tmp_path / "out/study/checkpoints"
    for name, signals in ways.items():
        begin = time.time()
        process = command(tmp_path, *call, start_new_session=True, preexec_fn=heed_signals)
        wait_for(
            lambda since=begin: any(p.stat().st_mtime > since for p in checkpoints.glob("*.pt")),
            process,
        )
        time.sleep(rng.uniform(0, 1))
        study = descendants(process.pid)
        for number in signals:
            signal_all([process.pid] if number == signal.SIGINT else study, number)
            time.sleep(0.3)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 1, err
        assert err.count("error:") == err.count("psvae-tune resume") == 1, err
        assert "Traceback" not in err
        assert "GCS" not in err  # of which Ray tells when its processes are gone
        # A machine that is busy may not let the trials end in the time that there is.
        is_in_order = "interrupted" in err
        assert is_in_order != ("stopped at once" in err)
        assert not (is_in_order and name == "SIGTERM twice")
        assert is_in_order or name != "Ctrl-C"
        if is_in_order:
            assert "RUNNING" not in {run.info.status for run in store.runs()}
        wait_for_end(study)
        repeated += audit.epochs_to_repeat(tmp_path, store)
        assert not audit.partial_files(tmp_path / "out")
        call = ("resume", "out/study")
    finish(command(tmp_path, *call))
    audit.enter(", ".join(ways), len(ways), tmp_path, store, undisturbed, repeated)


def test_a_laptop_that_sleeps(tmp_path, undisturbed):
    """All processes stand still, Ray's too, and then go on."""
    call, store = audit.make_study(tmp_path), audit.Store.beside(tmp_path)
    process = command(tmp_path, *call, start_new_session=True)
    wait_for(lambda: list((tmp_path / "out/study/checkpoints").glob("*.pt")), process)
    study = descendants(process.pid)
    signal_all(study, signal.SIGSTOP)
    time.sleep(SLEEP_S)
    signal_all(study[::-1], signal.SIGCONT)
    finish(process)
    audit.enter("sleep of the machine", 1, tmp_path, store, undisturbed, [])


def is_running(pid):
    """Return whether a process has not ended; one that nobody has waited for yet has."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_for_end(processes):
    names = {pid: command_line(pid) for pid in processes}
    deadline = time.monotonic() + 30
    while left := [names[pid] for pid in processes if is_running(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


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
