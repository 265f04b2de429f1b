"""Commands whose arguments are not what they should be: one error, whatever they say."""

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from psvae_tune.cli.commands import main
from tests.support.hostile import N_INPUTS, NASTY, count, sample

pytestmark = pytest.mark.timeout(0 if N_INPUTS else 300)

# What a shell can hand over: no NUL, and bytes that are no text as Python passes them on.
words = st.sampled_from([*NASTY, "\udcff", "x" * 5000, "~/x", "models:/x"]) | st.text(max_size=20)
arguments = words.filter(lambda word: "\0" not in word and "\ud800" not in word)

STUDY, RECORDING, CLUSTER = "space.yaml", "recording.h5", ("--address", "http://127.0.0.1:1")
SERVER, NOWHERE = ("--tracking-uri", "http://mlflow:5000"), ("--tracking-uri", "foo://x")
COMMANDS = {
    "check": lambda x: ["check", x],
    "check data": lambda x: ["check", STUDY, "--data", x],
    "check set": lambda x: ["check", STUDY, "--data", RECORDING, "--set", x],
    "run name": lambda x: ["run", STUDY, "--data", RECORDING, "--name", x, *NOWHERE],
    "run output": lambda x: ["run", STUDY, "--data", RECORDING, "--output", x, *NOWHERE],
    "resume": lambda x: ["resume", x],
    "resume set": lambda x: ["resume", "absent", "--set", x],
    "sync": lambda x: ["sync", x],
    "report": lambda x: ["report", x, "--output", "out"],
    "report output": lambda x: ["report", "study", "--output", x],
    "report store": lambda x: ["report", "study", "--tracking-uri", f"sqlite:///{x}"],
    "choose": lambda x: ["choose", x, "--trial", x, "--reason", x, "--output", "out"],
    "promote": lambda x: ["promote", x, "--name", x, "--output", "out"],
    "export": lambda x: ["export", x, "--to", x, "--output", "out"],
    "export optuna": lambda x: ["export", "study", "--optuna", x, "--output", "out"],
    "compare": lambda x: ["compare", x, x, "--output", "out"],
    "predict": lambda x: ["predict", x, RECORDING],
    "predict recording": lambda x: ["predict", RECORDING, x],
    "data info": lambda x: ["data", "info", x],
    "data check": lambda x: ["data", "check", x],
    "data split": lambda x: ["data", "split", RECORDING, "--trial-splits", x],
    "data merge": lambda x: ["data", "merge", x, x, "-o", "merged.csv"],
    "data import": lambda x: ["data", "import", x, "-o", "imported.h5"],
    "data import poses": lambda x: ["data", "import", RECORDING, "--pose", x, "-o", "x.h5"],
    "import-behavenet": lambda x: ["import-behavenet", x, x, x],
    "recommend": lambda x: ["recommend", x],
    "submit": lambda x: ["submit", STUDY, "--address", x, "--output", x, *SERVER],
    "submit output": lambda x: ["submit", STUDY, *CLUSTER, "--output", f"memory://{x}", *SERVER],
    "submit server": lambda x: ["submit", STUDY, *CLUSTER, "--output", "/x", "--tracking-uri", x],
    "submit package": lambda x: ["submit", STUDY, *CLUSTER, "--output", "/x", "--package", x],
    "jobs": lambda x: ["jobs", "status", x, "--address", x],
    "jobs resume": lambda x: ["jobs", "resume", x, "--address", x, *SERVER],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, recording, store_file, root):
    """Return a folder with a study file, a recording, and a store in which nothing is."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / RECORDING).symlink_to(recording)
    (folder / STUDY).write_bytes((root / "search_spaces/ps_vae.yaml").read_bytes())
    (folder / "out").mkdir()
    (folder / "out" / "mlflow.db").write_bytes(store_file)
    return folder


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (["report", "x" * 300], "is too long for a file: "),
        (["report", "study", "--tracking-uri", "sqlite:///space.yaml"], "is no SQLite database"),
        (["check", STUDY, "--data", "list.csv"], "must be a path"),
        (["resume", "http://["], "cannot be reached: Invalid IPv6 URL"),
        (["submit", STUDY, *CLUSTER, *SERVER, "--output", "http://[/x"], "Invalid IPv6 URL"),
    ],
)
def test_what_was_found(folder, monkeypatch, command, problem):
    monkeypatch.chdir(folder)
    listed = folder / "list.csv"
    listed.write_text("path\n~nobody-here/x.h5\n")
    result = CliRunner().invoke(main, command)
    listed.unlink()
    assert result.exit_code == 2
    assert problem in result.output


@sample(n_usual=150)
@given(name=st.sampled_from(sorted(COMMANDS)), argument=arguments)
def test_arguments(folder, name, argument):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        result = CliRunner().invoke(main, COMMANDS[name](argument), env={"NO_COLOR": "1"})
    if not isinstance(result.exception, SystemExit | None):
        count("command line", "traceback")
        raise result.exception
    assert result.exit_code in (0, 1, 2)
    count("command line", "refused" if result.exit_code else "taken")
    assert {path.name for path in folder.iterdir()} <= {STUDY, RECORDING, "out", "merged.csv"}
