import os
import subprocess
import sys

import pytest

from psvae_tune.errors import StorageError
from psvae_tune.files import write_bytes
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
