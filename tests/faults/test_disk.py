"""Disks that take no more, in the middle of whatever is written."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from psvae_tune.errors import StudyInterrupted, TrackingError
from psvae_tune.files import write_bytes
from psvae_tune.study.interrupt import explain_full_disk
from psvae_tune.tracking.client import open_target, writing
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.journal import FileJournal
from psvae_tune.tracking.trial_run import EpochMetrics, TrialRun, TrialRunSpec
from tests.support import audit
from tests.support.tiny_study import command, finish, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

N_TIMES = int(os.environ.get("PSVAE_TUNE_DISKS", "1"))


@dataclass(frozen=True)
class Disk:
    """A file system of its own, in memory, whose size can be changed."""

    root: Path

    def resize(self, n_bytes: int) -> None:
        subprocess.run(
            ["mount", "-o", f"remount,size={n_bytes}", str(self.root)],
            check=True,
            capture_output=True,
        )

    def fill(self, n_left: int) -> None:
        """Leave room for about so many bytes."""
        for _ in range(20):  # while others write, it may be more at once
            status = os.statvfs(self.root)
            used = (status.f_blocks - status.f_bfree) * status.f_frsize
            try:
                return self.resize(used + n_left)
            except subprocess.CalledProcessError:
                n_left += 4096
        raise AssertionError("the disk cannot be made smaller")

    def make_room(self) -> None:
        self.resize(400 * 2**20)


@pytest.fixture
def disk(tmp_path):
    root = tmp_path / "disk"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(root)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield Disk(root)
    subprocess.run(["umount", "--lazy", str(root)], check=True)


def test_a_study_goes_on_when_there_is_room_again(disk, undisturbed):
    call, store, repeated = audit.make_study(disk.root), audit.Store.beside(disk.root), []
    checkpoints = disk.root / "out/study/checkpoints"
    rng = np.random.default_rng(3)
    for _ in range(N_TIMES):
        begin = time.time()
        process = command(disk.root, *call)
        wait_for(
            lambda since=begin: any(p.stat().st_mtime > since for p in checkpoints.glob("*.pt")),
            process,
        )
        time.sleep(rng.uniform(0, 1))
        disk.fill(int(rng.integers(0, 2**15)))
        out, err = process.communicate(timeout=200)
        assert process.returncode == 1, out + err
        assert err.count("error:") == 1, err
        assert "No space left on device" in err
        assert "Traceback" not in err
        assert "psvae-tune resume" in err
        assert not audit.partial_files(disk.root / "out")
        disk.make_room()
        repeated += audit.epochs_to_repeat(disk.root, store)
        call = ("resume", "out/study")
    finish(command(disk.root, *call))
    audit.enter("full disk", N_TIMES, disk.root, store, undisturbed, repeated)


def test_no_writer_leaves_a_part_of_a_file(disk, tmp_path):
    """A checkpoint, the journal, a picture and the database, each when the disk is just full."""
    output = OutputFolder(disk.root / "out")
    folder = output.study("study")
    target = open_target(output.default_tracking_uri, "full", "study", output.artifacts)
    run = TrialRun.open(target, TrialRunSpec("stage", "trial", "alpha=1", {"alpha": 1}, []))
    journal = FileJournal(folder.root / "journal.jsonl")
    checkpoint = folder.checkpoint("trial")
    write_bytes(checkpoint, b"before")
    journal.append({"event": "before"})
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "picture.png").write_bytes(bytes(2**17))
    disk.fill(2**13)
    with pytest.raises(OSError, match="No space left on device"):
        run.log_folder(pictures)
    with (
        pytest.raises(StudyInterrupted, match="cannot be kept: No space left"),
        explain_full_disk(folder),
    ):
        write_bytes(checkpoint, bytes(2**17))
    with pytest.raises(OSError, match="No space left on device"):
        journal.append({"event": "lost", "text": "x" * 2**17})
    metrics = {f"train/metric_{number}": 1.0 for number in range(100)}

    def log_on():
        for epoch in range(1, 100):
            run.log([EpochMetrics.now(epoch, metrics)])

    with pytest.raises(TrackingError, match="is full"), writing("the run"):
        log_on()
    n_logged = run.last_step
    assert checkpoint.read_bytes() == b"before"
    assert not [path for path in output.artifacts.rglob("*") if path.is_file()]
    disk.make_room()
    journal.append({"event": "after"})
    assert [event["event"] for event in journal.events()] == ["before", "after"]
    run.log([EpochMetrics.now(n_logged + 1, metrics)])
    history = target.client().get_metric_history(run.run_id, "train/metric_0")
    assert [item.step for item in history] == list(range(1, n_logged + 2))
    run.log_folder(pictures)
    (kept,) = [path for path in output.artifacts.rglob("*") if path.is_file()]
    assert kept.read_bytes() == bytes(2**17)
