"""What is refused without asking any cluster."""

import platform
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from psvae_tune.cli.commands import main
from psvae_tune.cli.jobs import refusal
from psvae_tune.cluster.job_log import first_line, last_error
from psvae_tune.cluster.nodes import Node, Nodes
from psvae_tune.config.study import Resources
from psvae_tune.errors import ClusterError, TrackingError
from psvae_tune.tracking.reachability import check_shareable
from tests.support.laptop import STUDY

CLUSTER = ("--address", "http://head:8265")
SERVER = ("--tracking-uri", "http://mlflow:5000")
REFUSALS = {
    "no address of jobs": (
        ["--address", "ray://head:10001", *SERVER, "--output", "/shared"],
        "error: --address ray://head:10001: must be that of the cluster's jobs",
    ),
    "no tracking server": ([*CLUSTER, "--output", "/shared"], "error: --tracking-uri: is needed"),
    "an output folder that means nothing elsewhere": (
        [*CLUSTER, *SERVER, "--output", "studies"],
        "error: studies: must be a URL, or a path from / on",
    ),
    "a mistake in the file": (
        [*CLUSTER, *SERVER, "--output", "/shared", "--set", "training.epochs=3"],
        "training.epochs: not a known setting",
    ),
    "a wheel that is not there": (
        [*CLUSTER, *SERVER, "--output", "/shared", "--package", "absent.whl"],
        "error: --package: no such file, got absent.whl",
    ),
    "a URL that nothing can reach": (
        [*CLUSTER, *SERVER, "--output", "gopher://burrow/studies"],
        "error: gopher://burrow/studies: cannot be reached",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_submission_is_refused(case, tmp_path):
    options, message = REFUSALS[case]
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY))
    result = CliRunner().invoke(main, ["submit", str(file), *options], env={"RAY_ADDRESS": None})
    assert message in result.stderr
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("uri", "is_remote", "problem"),
    [
        ("sqlite:///mlflow.db", False, "is a file of one machine"),
        ("file:///mlruns", False, "is a file of one machine"),
        ("mlruns", False, "is a file of one machine"),
        ("http://localhost:5000", True, "means another machine on every node"),
        ("http://me:secret@mlflow:5000", True, "holds a password"),
        ("http://localhost:5000", False, None),
        ("https://mlflow.lab", True, None),
    ],
)
def test_a_tracking_uri_must_mean_the_same_to_all(uri, is_remote, problem):
    if problem is None:
        check_shareable(uri, is_remote=is_remote)
        return
    with pytest.raises(TrackingError, match=problem) as caught:
        check_shareable(uri, is_remote=is_remote)
    assert "secret" not in str(caught.value)


def test_a_recording_that_is_here_and_not_there_is_told_as_such(tmp_path):
    recording = tmp_path / "mouse.h5"
    recording.touch()
    log = f"Running entrypoint\n\nerror: {recording}: no such file\n"
    error = refusal(log, [str(recording)], "")
    assert str(error) == (
        f"{recording}: is here, but not on the cluster\n\nhint: send it with --upload, or give "
        "--data the path that it has there, or a URL"
    )


def test_the_error_of_a_job_is_passed_on_with_its_hint():
    log = "running\n\nerror: tracking URI x: does not answer\n\nhint: start it\n"
    assert str(refusal(log, [], "")) == (
        "on the cluster: tracking URI x: does not answer\n\nhint: start it"
    )


def test_a_job_without_an_error_of_ours_shows_the_end_of_its_log():
    assert last_error("Killed") is None
    assert "Killed" in str(refusal("starting\nKilled\n", [], ""))


def test_a_job_whose_packages_cannot_be_installed_tells_which():
    message = first_line(
        "runtime_env setup failed: Failed to set up runtime environment.\nTraceback\n"
        "  Last lines:\n    ERROR: No matching distribution found for psvae-tune==9.9.9\n"
    )
    error = str(refusal("", [], message))
    assert "Failed to set up runtime environment.; ERROR: No matching distribution" in error
    assert "Traceback" not in error


def test_another_python_is_refused_with_both_versions(root):
    process = subprocess.run(
        [sys.executable, "-m", "psvae_tune", "--version"],
        env={"PSVAE_TUNE_PYTHON": "3.8.1"},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert f"runs Python {platform.python_version()}" in process.stderr
    assert "3.8.1" in process.stderr


def nodes(*resources):
    return Nodes(tuple(Node(str(i), f"node{i}", item) for i, item in enumerate(resources)))


def test_trials_are_counted_node_by_node():
    found = nodes({"CPU": 3}, {"CPU": 3, "GPU": 1}, {"CPU": 64, "GPU": 2})
    assert found.count_slots(2, 0) == 1 + 1 + 32
    assert found.count_slots(1, 0.25) == 3 + 8
    assert found.count_slots(2, 0.25) == 1 + 8
    assert found.total("GPU") == 3


def test_a_trial_that_fits_on_no_node_is_refused():
    small = nodes({"CPU": 2}, {"CPU": 2}, {"CPU": 8, "GPU": 1})
    small.check_room(Resources(cpus_per_trial=8, gpus_per_trial=1))
    with pytest.raises(ClusterError, match="needs 4 CPU, 2 GPU, no node has as much") as caught:
        small.check_room(Resources(cpus_per_trial=4, gpus_per_trial=2))
    assert "nodes of 2 CPU, 0 GPU; 8 CPU, 1 GPU" in str(caught.value)
