"""Passwords and tokens: where they are refused, and that they are nowhere to be found later."""

import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from psvae_tune.cli.commands import main
from psvae_tune.cluster.job import JobSpec
from psvae_tune.errors import ClusterError, ConfigError
from psvae_tune.redaction import hide_passwords
from tests.support.leaks import leaks
from tests.support.loopback import free_port, serve_mlflow
from tests.support.tiny_study import COMMAND, finish, make_study, wait_for

PASSWORD = "canary-0123456789"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host:5000/x", "http://host:5000/x"),
        ("https://user:secret@host:5000/path", "https://***@host:5000/path"),
        ("postgresql://user:p%40ss@host/db", "postgresql://***@host/db"),
        ("postgresql://user:pa/ss@host/db", "postgresql://***@host/db"),
        ("https://user:p@ss@host/x", "https://***@host/x"),
        ("git+https://token@host/x", "git+https://***@host/x"),
        ("got 'http://u:p@h/x' and http://h/y", "got 'http://***@h/x' and http://h/y"),
        ("http:/u:p@h/x as a path", "http:/***@h/x as a path"),
        (
            "postgresql://host/db?user=u&password=p&x=1",
            "postgresql://host/db?user=u&password=***&x=1",
        ),
        ("https://h/x?X-Amz-Signature=a1&y=2", "https://h/x?X-Amz-Signature=***&y=2"),
        ("sqlite:////tmp/a@b/mlflow.db", "sqlite:////tmp/a@b/mlflow.db"),
        ("models:/mouse@champion", "models:/mouse@champion"),
    ],
)
def test_passwords_are_not_shown(text, shown):
    assert hide_passwords(text) == shown
    assert str(ConfigError(text, "x", text)) == f"{shown}: x\n\nhint: {shown}"


URL = f"http://user:{PASSWORD}@127.0.0.1:9"
REFUSALS = {
    "in a file": (["check", "study.yaml", "--set", f"tracking.uri={URL}"], "tracking.uri: holds"),
    "of a recording": (["check", "study.yaml", "--data", f"{URL}/x.h5"], "holds a password"),
    "of a listed recording": (["check", "study.yaml", "--data", "list.csv"], "holds a password"),
    "of an output folder": (["run", "study.yaml", "--output", URL], "holds a password"),
    "of a study": (["resume", f"{URL}/study"], "holds a password"),
    "of a server that is away": (
        ["report", "study", "--tracking-uri", URL],
        "***@127.0.0.1:9: does not answer",
    ),
    "in a traceback": (["-v", "report", "study", "--tracking-uri", URL], "Traceback"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_passwords_are_refused_and_not_repeated(tmp_path, monkeypatch, case):
    arguments, problem = REFUSALS[case]
    if arguments[0] == "-v":
        arguments = [*arguments[1:], "-v"]
    monkeypatch.chdir(tmp_path)
    make_study(tmp_path, 1)
    (tmp_path / "list.csv").write_text(f"path\n{URL}/x.h5\n")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert problem in result.output
    assert PASSWORD not in result.output


@pytest.mark.parametrize(
    "spec",
    [
        JobSpec("study", "/out", ("run", "--set", f"tracking.uri={URL}"), "http://mlflow:5000"),
        JobSpec("study", f"s3://key:{PASSWORD}@bucket", (), "http://mlflow:5000"),
        JobSpec("study", "/out", (), URL),
        JobSpec("study", "/out", (), "http://mlflow:5000", {}, f"git+https://{PASSWORD}@host/x"),
        JobSpec("study", "/out", (), "http://mlflow:5000", {"study.yaml": f"uri: {URL}"}),
    ],
)
def test_no_job_is_told_a_password(spec):
    with pytest.raises(ClusterError, match="must hold no password") as caught:
        spec.check_public()
    assert PASSWORD not in str(caught.value)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_leaves_no_secret_anywhere(tmp_path):
    canaries = {
        "URI": secrets.token_hex(16),
        "MLFLOW_TRACKING_PASSWORD": secrets.token_hex(16),
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
    }
    port = free_port()
    ray_folder = tempfile.mkdtemp(prefix="ray")  # sockets have names of limited length
    environment = {
        **{name: secret for name, secret in canaries.items() if name != "URI"},
        "RAY_TMPDIR": ray_folder,
        "MLFLOW_TRACKING_USERNAME": "user",
        "MLFLOW_TRACKING_URI": f"http://user:{canaries['URI']}@127.0.0.1:{port}",
    }
    work = tmp_path / "work"
    work.mkdir()
    file = make_study(work, 2, max_n_epochs=40)
    said = []

    def start(*arguments):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
        return subprocess.Popen(
            [*COMMAND, *arguments, "-v"],
            cwd=work,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean | environment | {"NO_COLOR": "1"},
        )

    def run(*arguments, rc=0):
        process = start(*arguments)
        out, err = process.communicate(timeout=300)
        said.append(out + err)
        assert process.returncode == rc, out + err

    with serve_mlflow(tmp_path, port):
        process = start("run", str(file), "--output", "out", "--name", "study")
        wait_for(lambda: list((work / "out/study/checkpoints").glob("*.pt")), process)
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert not [line for line in lines if any(s.encode() in line for s in canaries.values())]
    said += finish(process)
    run("sync", "out/study", rc=2)
    with serve_mlflow(tmp_path, port):
        run("sync", "out/study")
        run("report", "study")
        run("promote", "study", "--name", "mouse")
    assert "waits for the tracking server" in said[0]
    for name, secret in canaries.items():
        assert not any(secret in text for text in said), name
    logs = list(Path(ray_folder).rglob("worker-*.err"))
    assert any("waits for the tracking server" in path.read_text() for path in logs)
    assert not leaks([tmp_path, ray_folder], canaries)
    shutil.rmtree(ray_folder)
