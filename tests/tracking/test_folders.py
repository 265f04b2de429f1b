import json
import os
import pickle
import subprocess
import sys
import time

import pytest

from psvae_tune.errors import StorageError
from psvae_tune.files import write_bytes
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.tracking.folders import OutputFolder, StudyFolder
from psvae_tune.tracking.journal import FileJournal


def test_a_file_replaces_the_one_before(tmp_path):
    path = tmp_path / "new" / "file"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"one")
    with pytest.raises(TypeError):
        write_bytes(path, "not bytes")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    checkpoint = folder.checkpoint("trial")
    write_bytes(checkpoint, b"whole")
    checkpoint.with_name(f".{checkpoint.name}.12345").write_bytes(b"ha")
    with folder.lock():
        assert list(checkpoint.parent.iterdir()) == [checkpoint]


def test_a_journal_returns_what_was_appended(tmp_path):
    journal = FileJournal(tmp_path / "study" / "journal.jsonl")
    assert list(journal.events()) == []
    events = [{"event": "end", "name": "ümlaut\n'quote'"}, {"event": "rung", "costs": [0.1, None]}]
    for event in events:
        journal.append(event)
    assert list(journal.events()) == events


@pytest.mark.parametrize("n_lost", range(1, 20))
def test_a_torn_line_loses_only_itself(tmp_path, n_lost):
    journal = FileJournal(tmp_path / "journal.jsonl")
    for index in range(2):
        journal.append({"event": "end", "index": index})
    journal.path.write_bytes(journal.path.read_bytes()[:-n_lost])
    journal.append({"event": "end", "index": 2})
    indices = [event["index"] for event in journal.events()]
    assert indices in ([0, 2], [0, 1, 2])
    assert (indices == [0, 1, 2]) == (n_lost == 1)


def test_a_trial_that_another_stage_finished_counts_but_one_it_stopped_does_not(tmp_path):
    folder = StudyFolder(tmp_path)
    first, second = StageJournal(folder, "first"), StageJournal(folder, "second")
    first.note_end("a", "finished", "", 3, {})
    first.note_end("b", "stopped", "", 2, {})
    assert set(first.trial_ends()) == {"a", "b"}
    assert set(second.trial_ends()) == {"a"}


def test_rungs_come_back_with_what_is_not_finite(tmp_path):
    record = StageJournal(StudyFolder(tmp_path), "alpha")
    record.note_rung("a", 5, [0.25, float("inf")])
    record.note_rung("b", 5, [0.5, 1.0])
    record.note_rung("a", 15, [0.125, 2.0])
    assert record.rungs() == {
        5: {"a": [0.25, float("inf")], "b": [0.5, 1.0]},
        15: {"a": [0.125, 2.0]},
    }
    assert StageJournal(StudyFolder(tmp_path), "beta").rungs() == {}


def test_hours_go_on_where_a_clock_has_another_beginning(tmp_path, monkeypatch):
    """A client of a cluster sends its record to a node."""
    folder = StudyFolder(tmp_path)
    folder.journal.append({"event": "rung", "stage": "alpha", "hours": 2.0})
    sent = pickle.dumps(StageJournal(folder, "alpha"))
    here = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: here() - 1e6)
    assert pickle.loads(sent).hours() == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "a b", "-x", ".hidden", "a\nb"])
def test_names_that_are_no_folders(tmp_path, name):
    with pytest.raises(StorageError, match="must consist of"):
        OutputFolder(tmp_path).study(name)


def test_an_output_folder_that_is_a_file(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(StorageError, match="cannot be written"):
        OutputFolder(path).prepare()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be written: Permission denied"):
        OutputFolder(tmp_path / "out").prepare()


def test_a_study_that_is_absent_names_those_that_are_there(tmp_path):
    output = OutputFolder(tmp_path)
    output.study("first").save_study_file({"experiment_name": "x"})
    assert output.study("first").read_study_file() == {"experiment_name": "x"}
    with pytest.raises(StorageError, match="there are first"):
        output.study("second").read_study_file()


def test_the_journal_is_readable_by_others(tmp_path):
    record = StageJournal(StudyFolder(tmp_path), "alpha")
    record.note_end("a", "finished", "trained to the end", 3, {"val/frame_mse": 0.1})
    (line,) = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert json.loads(line)["metrics"] == {"val/frame_mse": 0.1}


HOLD = """
import sys, time
from pathlib import Path
from psvae_tune.tracking.folders import StudyFolder
with StudyFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_study_is_run_by_one_process_and_a_killed_one_lets_go(tmp_path):
    folder = StudyFolder(tmp_path / "study")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.root)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match="is being run by another process"), folder.lock():
            pass
        other.kill()
    with folder.lock():
        pass
    with folder.lock():  # and so does one that ended as it should
        pass
