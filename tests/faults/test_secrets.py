"""Passwords and tokens: where they are hidden, and where they are refused."""

import pytest
from click.testing import CliRunner

from psvae_tune.cli.commands import main
from psvae_tune.cluster.job import JobSpec
from psvae_tune.errors import ClusterError, ConfigError
from psvae_tune.redaction import hide_passwords
from tests.support.tiny_study import make_study

pytestmark = pytest.mark.slow

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
