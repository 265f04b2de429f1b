"""Refusals that need no cluster, and the messages of jobs that are refused on one."""

import platform
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from psvae_tune.cli.commands import main
from psvae_tune.cluster.job_log import (
    JobReport,
    first_line,
    last_lines,
    read_report,
    report_ready,
    report_refusal,
    without_reports,
)
from psvae_tune.cluster.jobs import make_refusal
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


def run_as_job(root, *arguments: str, python: str = platform.python_version()):
    """Run the program as a job does, whose log holds both of its streams."""
    return subprocess.run(
        [sys.executable, "-m", "psvae_tune", *arguments],
        env={"PSVAE_TUNE_PYTHON": python},
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_a_recording_that_is_here_and_not_there_is_told_as_such(root, tmp_path):
    recording = tmp_path / "mouse.h5"
    job = run_as_job(root, "run", "search_spaces/ps_vae.yaml", "--data", str(recording))
    assert job.returncode == 2
    report = read_report(job.stdout)
    assert str(make_refusal(report, [str(recording)])) == (
        f"on the cluster: {recording}: no such file"
    )
    recording.touch()
    assert str(make_refusal(report, [str(recording)])) == (
        f"{recording}: is here, but not on the cluster\n\nhint: send it with --upload, or give "
        "--data the path that it has there, or a URL"
    )


def test_the_error_of_a_job_is_passed_on_with_its_hint_and_without_passwords(root):
    job = run_as_job(root, "resume", "s3://key:secret@bucket/study")
    error = str(make_refusal(read_report(job.stdout), []))
    assert error.startswith("on the cluster: s3://***@bucket/study: holds a password")
    assert "\n\nhint: give it in the environment" in error
    assert "secret" not in job.stdout


def test_a_job_that_is_ready_says_so_in_one_line_that_people_do_not_see(monkeypatch, capsys):
    monkeypatch.setenv("PSVAE_TUNE_PYTHON", platform.python_version())
    print("cluster    3 nodes")
    report_ready("3 nodes")
    print("error: an error that comes later")
    report_refusal("later")
    log = capsys.readouterr().out
    assert read_report(log) == JobReport(True, "3 nodes")
    shown = "cluster    3 nodes\nerror: an error that comes later\n"
    for size in (1, 7, len(log)):
        chunks = [log[i : i + size] for i in range(0, len(log), size)]
        assert "".join(without_reports(chunks)) == shown


def test_a_report_that_has_not_arrived_whole_is_none(monkeypatch, capsys):
    monkeypatch.setenv("PSVAE_TUNE_PYTHON", platform.python_version())
    report_refusal("a text\nof two lines", "/data/mouse.h5")
    log = capsys.readouterr().out
    assert log.count("\n") == 1
    assert [read_report(log[:n]) for n in range(len(log))] == [None] * len(log)
    assert read_report(log) == JobReport(False, "a text\nof two lines", "/data/mouse.h5")


def test_what_is_no_job_reports_nothing(capsys):
    report_ready("3 nodes")
    report_refusal("an error")
    assert capsys.readouterr().out == ""


def test_a_job_without_a_report_shows_the_end_of_its_log():
    log = "".join(f"line {i}\n" for i in range(40)) + "Killed\n"
    assert read_report(log) is None
    assert last_lines(log)[-2:] == ["line 39", "Killed"]
    assert "line 0" not in last_lines(log)


def test_a_job_whose_packages_cannot_be_installed_tells_which():
    message = first_line(
        "runtime_env setup failed: Failed to set up runtime environment.\nTraceback\n"
        "  Last lines:\n    ERROR: No matching distribution found for psvae-tune==9.9.9\n"
    )
    assert "Failed to set up runtime environment.; ERROR: No matching distribution" in message
    assert "Traceback" not in message


def test_another_python_is_refused_with_both_versions(root):
    job = run_as_job(root, "--version", python="3.8.1")
    assert job.returncode == 1
    for text in (job.stdout, read_report(job.stdout).text):
        assert f"runs Python {platform.python_version()}" in text
        assert "3.8.1" in text


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
