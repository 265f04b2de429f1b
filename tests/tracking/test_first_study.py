"""Several studies begin at once in an output folder that does not exist yet."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import mlflow
import pytest

from psvae_tune.errors import StorageError
from psvae_tune.files import locate
from psvae_tune.tracking.client import open_target, sqlite_uri
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.study_name import claim_name

OPEN = """
import sys
from pathlib import Path
from psvae_tune.tracking.client import import_mlflow, open_target, sqlite_uri
import_mlflow()
import mlflow.store.tracking.sqlalchemy_store
print("ready", flush=True)
sys.stdin.readline()
path = Path(sys.argv[1])
print(open_target(sqlite_uri(path), "mouse", sys.argv[2], path.parent).experiment_id)
"""


def start(path, name):
    process = subprocess.Popen(
        [sys.executable, "-c", OPEN, path, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


@pytest.mark.slow
def test_two_studies_make_one_store_and_one_experiment(tmp_path):
    processes = [start(tmp_path / "mlflow.db", name) for name in ("one", "two")]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate() for process in processes]
    assert all(process.returncode == 0 for process in processes), answers
    (found,) = {out.strip() for out, _ in answers}
    client = mlflow.MlflowClient(sqlite_uri(tmp_path / "mlflow.db"))
    assert client.get_experiment_by_name("mouse").experiment_id == found
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.slow
def test_a_store_that_was_cut_off_while_it_was_made_is_made_anew(tmp_path):
    process = start(tmp_path / "mlflow.db", "one")
    process.stdin.write("\n")
    process.stdin.flush()
    while not any(path.stat().st_size for path in tmp_path.rglob("whole")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "mlflow.db").exists()
    target = open_target(sqlite_uri(tmp_path / "mlflow.db"), "mouse", "two", tmp_path)
    assert target.find_run("a", "b") is None


def test_studies_without_a_name_get_different_ones(tmp_path):
    output, n_studies = OutputFolder(tmp_path / "new"), 8
    begin = Barrier(n_studies)

    def claim(stack):
        begin.wait()
        return stack.enter_context(claim_name(output, "my mouse"))

    with ExitStack() as stack, ThreadPoolExecutor(n_studies) as threads:
        names = [*threads.map(claim, [stack] * n_studies)]
        assert len({*names}) == n_studies
        assert all(name.startswith("my-mouse-") for name in names)
        (output.root / names[0] / "study.yaml").touch()
    assert [path.name for path in output.root.iterdir()] == [names[0]]


def test_names_need_a_folder_that_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match="cannot be written"),
        claim_name(OutputFolder(tmp_path / "file"), "mouse"),
    ):
        pass


def test_names_behind_a_url_are_not_claimed():
    with claim_name(OutputFolder(locate("memory://studies")), "mouse") as name:
        assert name.startswith("mouse-")
