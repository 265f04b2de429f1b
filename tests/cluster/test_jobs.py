"""Studies are submitted, watched, stopped and resumed on a cluster of two nodes."""

import re

import fsspec
import numpy as np
import pytest

from psvae_tune.data.demo import write_demo
from psvae_tune.data.session_file import read_session, write_session
from psvae_tune.study.load_sessions import STORE_SHARE
from tests.support.leaks import leaks
from tests.support.loopback import STORE_BYTES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OUTPUT = "s3://lab/studies"
SUBMIT = ("submit", "study.yaml", "--output", OUTPUT)


@pytest.fixture(scope="module")
def followed(laptop, cluster):
    """Return what following a study from its submission to its end printed."""
    return laptop.run(*SUBMIT, "--upload", "--name", "followed", "--follow", on=cluster)


def test_a_study_runs_over_all_nodes_as_it_does_on_one_machine(laptop, followed, alone):
    laptop.check_whole("followed")
    assert laptop.metrics("followed") == alone
    workers = {run.data.tags["psvae_tune.worker"] for run in laptop.runs("followed")}
    assert len(workers) == 2


def test_following_shows_the_nodes_the_trials_and_the_pick(followed):
    assert "cluster    2 nodes, 2 CPUs, 0 GPUs: up to 2 trials at a time" in followed
    assert len(re.findall(r"^  \d/2 +alpha=\d+ +finished", followed, re.M)) == 2
    assert re.search(r"^pick +alpha=\d+$", followed, re.M)
    assert "Traceback" not in followed


def test_neither_the_head_nor_the_files_of_the_nodes_tell_a_secret(laptop, cluster, followed):
    keys = ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD")
    secrets = {"token": cluster.token} | {key: cluster.environment[key] for key in keys}
    told = cluster.ask("/api/jobs/")
    for table in ("jobs", "actors", "tasks", "workers", "runtime_envs"):
        told += cluster.ask(f"/api/v0/{table}?detail=1&limit=1000")
    assert b"followed" in told
    assert not [name for name, secret in secrets.items() if secret.encode() in told]
    assert not leaks([cluster.folder, laptop.folder], secrets)


def test_a_study_that_is_stopped_goes_on_where_it_was(laptop, cluster, followed, alone):
    """The recording is read from a path that means the same on the cluster."""
    there = ("--data", str(laptop.folder / "demo.h5"))
    out = laptop.run(*SUBMIT, *there, "--name", "stopped", on=cluster)
    job_id = re.search(r"^job +(\S+)$", out, re.M)[1]
    laptop.wait_for_checkpoint("stopped")
    assert laptop.run("jobs", "stop", job_id, on=cluster) == f"{job_id} STOPPED\n"
    states = {run.info.status for run in laptop.runs("stopped")}
    assert "RUNNING" not in states
    assert "KILLED" in states
    assert "status     STOPPED" in laptop.run("jobs", "status", "stopped", on=cluster)
    assert "those cut off go on" in laptop.run("jobs", "logs", "stopped", on=cluster)
    resumed = ("jobs", "resume", "s3://lab/studies/stopped", "--follow")
    assert re.search(r"^pick +alpha", laptop.run(*resumed, on=cluster), re.M)
    laptop.check_whole("stopped")
    assert laptop.metrics("stopped") == alone
    listed = laptop.run("jobs", "list", on=cluster).splitlines()
    assert [line.split()[-1] for line in listed] == ["stopped", "stopped", "followed"]


def test_a_study_is_looked_at_from_elsewhere_with_the_tracking_uri_alone(laptop, followed):
    laptop.run("report", "followed", "--file", "report.html")
    assert "alpha=11" in (laptop.folder / "report.html").read_text()
    chosen = laptop.run("choose", "followed", "--trial", "alpha=1", "--reason", "because")
    assert chosen.startswith("chosen: alpha=1, run ")


def test_a_cluster_can_be_used_interactively(laptop, cluster):
    """Ray Tune then runs on the cluster, while the sampler, the journal and the table do not."""
    few = ("--set", "search.space.ps_vae.alpha={uniform: [1, 11]}", "--name", "client")
    few += ("--set", "search.algorithm=random", "--set", "search.num_trials=2")
    few += ("--set", "training.max_n_epochs=4")
    at = ("--address", f"ray://127.0.0.1:{cluster.client_port}")
    process = laptop.start("run", "study.yaml", "--output", OUTPUT, *at, *few, on=cluster)
    out, err = process.communicate(timeout=300)
    assert re.search(r"^pick +alpha", out, re.M), err
    assert len(re.findall(r"^  [12]/2 +alpha=\S+ +finished +epoch 4", err, re.M)) == 2
    assert {run.info.status for run in laptop.runs("client")} == {"FINISHED"}


@pytest.fixture
def larger_than_a_store(laptop, tmp_path):
    """Return the URL of a recording that no object store of the cluster has room for."""
    write_demo(tmp_path / "small.h5", n_clips=22, clip_length=200)
    session = read_session(tmp_path / "small.h5", needs_labels=True)
    frames = (session.frames / np.float32(255)).repeat(2, axis=2).repeat(2, axis=3)
    assert frames.nbytes > STORE_SHARE * STORE_BYTES
    write_session(
        tmp_path / "large.h5",
        frames,
        session.header.clip_lengths,
        label_names=session.header.label_names,
        labels=session.labels,
        label_masks=session.label_masks,
    )
    fsspec.filesystem("s3").put(str(tmp_path / "large.h5"), "lab/large.h5")
    return "s3://lab/large.h5"


def test_a_recording_larger_than_the_stores_is_read_clip_by_clip(
    laptop, cluster, larger_than_a_store, tmp_path
):
    """The study is kept on a path that the nodes share, which serves as well as a URL."""
    few = ("--set", "search.space.ps_vae.alpha={grid_search: [1, 11]}", "--name", "large")
    few += ("--set", "training.max_n_epochs=2", "--set", "tracking.movies=none")
    place = ("--data", larger_than_a_store, "--output", str(tmp_path))
    out = laptop.run("submit", "study.yaml", *place, *few, "--follow", on=cluster)
    assert f"recording  {larger_than_a_store} is too large for memory" in out
    assert {run.info.status for run in laptop.runs("large")} == {"FINISHED"}
    assert len({run.data.tags["psvae_tune.worker"] for run in laptop.runs("large")}) == 2
    assert (tmp_path / "large" / "selection.json").exists()


REFUSALS = {
    "an address that is silent": (
        ["--address", "http://127.0.0.1:1"],
        {},
        "error: http://127.0.0.1:1: does not answer",
    ),
    "a wrong token": ([], {"RAY_AUTH_TOKEN": "ab" * 32}, "refuses the token"),
    "no token": ([], {"RAY_AUTH_TOKEN": "", "RAY_AUTH_MODE": "disabled"}, "asks for a token"),
    "a tracking server that is silent": (
        ["--tracking-uri", "http://127.0.0.1:1"],
        {},
        "error: on the cluster: tracking URI http://127.0.0.1:1: does not answer",
    ),
    "more CPUs than any node has": (
        ["--set", "resources.cpus_per_trial=2"],
        {},
        "a trial needs 2 CPU, 0 GPU, no node has as much: got nodes of 1 CPU, 0 GPU",
    ),
    "a recording that is nowhere": (
        ["--data", "/nowhere/mouse.h5"],
        {},
        "error: on the cluster: /nowhere/mouse.h5: no such file",
    ),
    "an upload to where this machine cannot write": (
        ["--output", "/scratch", "--upload"],
        {},
        "/scratch: is a path, which names another folder on the cluster",
    ),
    "a bucket that does not exist": (
        ["--output", "s3://absent/studies", "--upload"],
        {},
        "error: s3://absent/studies",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_run_is_refused_and_leaves_nothing(laptop, cluster, case):
    options, environment, message = REFUSALS[case]
    command = [*SUBMIT, "--name", "refused", *options]
    err = laptop.run(*command, on=cluster, rc=2, **environment)
    assert message in err
    assert "Traceback" not in err
    assert not laptop.runs("refused")


def test_a_job_that_is_gone_is_told_as_such(laptop, cluster, followed):
    for command in ("status", "logs", "stop"):
        err = laptop.run("jobs", command, "refused", on=cluster, rc=2)
        assert "error: job refused: is not known at http://127.0.0.1" in err
    err = laptop.run("jobs", "stop", "followed", on=cluster, rc=2)
    assert "is over already: SUCCEEDED" in err
