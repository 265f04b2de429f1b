"""A study that a server keeps which asks for a user and a password."""

import secrets

import mlflow
import pytest

from tests.support.loopback import serve_mlflow
from tests.support.tiny_study import command, finish, make_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PASSWORD = secrets.token_hex(12)
ACCOUNT = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
WRONG = ACCOUNT | {"MLFLOW_TRACKING_PASSWORD": "guess"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accounts")
    accounts = folder / "accounts.ini"
    accounts.write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"database_uri = sqlite:///{folder / 'accounts.db'}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    with serve_mlflow(
        folder,
        app="basic-auth",
        MLFLOW_FLASK_SERVER_SECRET_KEY=secrets.token_hex(16),
        MLFLOW_AUTH_ADMIN_PASSWORD=PASSWORD,
        MLFLOW_AUTH_CONFIG_PATH=str(accounts),
    ) as uri:
        yield uri


def test_a_study_is_kept_and_shown_by_a_server_with_accounts(server, tmp_path, monkeypatch):
    make_study(tmp_path, 2)
    run = ["run", "study.yaml", "--output", "out", "--name", "study", "--tracking-uri", server]
    show = ["ui", "--output", "out"]

    def refusal(call, environment):
        process = command(tmp_path, *call, environment=environment)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 2, err
        assert "has accounts, and knows none with this user and password" in err
        assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in err
        assert "Traceback" not in err

    for environment in ({}, WRONG):
        refusal(run, environment)
        assert not (tmp_path / "out/study").exists()
    out, err = finish(command(tmp_path, *run, environment=ACCOUNT))
    assert "\npick " in out
    assert PASSWORD not in out + err
    refusal(show, WRONG)
    out, _ = finish(command(tmp_path, *show, environment=ACCOUNT))
    assert out.startswith(f"study: {server}/#/experiments/")
    finish(command(tmp_path, "report", "out/study", "--file", "r.html", environment=ACCOUNT))
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    client = mlflow.MlflowClient(server)
    (experiment,) = [item for item in client.search_experiments() if item.name == "tiny"]
    kinds = [
        run.data.tags["psvae_tune.kind"] for run in client.search_runs([experiment.experiment_id])
    ]
    assert sorted(kinds) == ["baseline"] * 4 + ["study", "trial", "trial"]
