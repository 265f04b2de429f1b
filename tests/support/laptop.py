"""The machine of a user, who submits a small study and reads its results."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import fsspec
import mlflow

from tests.support.loopback import AWAKE, RayCluster, wait_for
from tests.support.tiny_study import STUDY as TINY

COMMAND = [sys.executable, "-m", "psvae_tune"]
BUCKET = "lab"
STUDY = {
    **TINY,
    "training": {**TINY["training"], "max_n_epochs": 40},
    "search": {
        "space": {"ps_vae.alpha": {"grid_search": [1, 11]}},
        "objectives": TINY["search"]["objectives"],
    },
}
PATH = {
    **STUDY,
    "search": {
        "stages": [
            {"name": "search", **STUDY["search"]},
            {  # goes on from the last state of a trial, which another node may have trained
                "name": "path",
                "start_from": "neighbour",
                "epochs": 4,
                "space": {"ps_vae.beta": {"grid_search": [1, 5]}},
                "objectives": {"val/frame_mse": "min"},
            },
        ],
    },
}
N_EPOCHS = {"search": 40, "path": 4}


@dataclass(frozen=True)
class Laptop:
    """A machine that holds a recording and a search-space file, and can reach the servers."""

    folder: Path
    tracking_uri: str
    environment: dict[str, str]

    def start(
        self, *arguments: str, on: RayCluster | None = None, **environment
    ) -> subprocess.Popen:
        """Start a command, which finds a cluster by its address and token."""
        there = on.client_environment | {"RAY_API_SERVER_ADDRESS": on.address} if on else {}
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))}
            | {"NO_COLOR": "1", "MLFLOW_TRACKING_URI": self.tracking_uri}
            | self.environment
            | AWAKE
            | there
            | environment,
        )

    def run(self, *arguments: str, rc: int = 0, **options) -> str:
        """Run a command and return what it printed: the data, or if it is to fail, the error."""
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=300)
        assert process.returncode == rc, out + err
        return err if rc else out

    def runs(self, study: str, kind: str = "trial") -> list:
        client = mlflow.MlflowClient(self.tracking_uri)
        experiments = [item.experiment_id for item in client.search_experiments()]
        return client.search_runs(
            experiments,
            f"tags.`psvae_tune.kind` = '{kind}' AND tags.`psvae_tune.study` = '{study}'",
        )

    def metrics(self, study: str) -> dict[str, dict[str, float]]:
        """Return the metrics of every trial, but not what it cost, which differs each time."""
        return {
            run.info.run_name: {
                key: value
                for key, value in run.data.metrics.items()
                if not key.startswith("perf/")
            }
            for run in self.runs(study)
        }

    def wait_for_checkpoint(self, study: str) -> None:
        store = fsspec.filesystem("s3", use_listings_cache=False)
        wait_for(
            lambda: store.glob(f"{BUCKET}/studies/{study}/checkpoints/*.pt"),
            what=f"no checkpoint of {study}",
        )

    def check_whole(self, study: str, n_trials: int = 2) -> None:
        """Every trial has one run, finished, with each epoch in it once; so has the study."""
        client = mlflow.MlflowClient(self.tracking_uri)
        trials, studies = self.runs(study), self.runs(study, "study")
        assert len(trials) == len({run.info.run_name for run in trials}) == n_trials
        assert len(studies) == 1
        assert {run.info.status for run in [*trials, *studies]} == {"FINISHED"}
        for run in trials:
            history = client.get_metric_history(run.info.run_id, "val/frame_mse")
            n_epochs = N_EPOCHS[run.data.tags["psvae_tune.stage"]]
            assert [item.step for item in history] == list(range(1, n_epochs + 1))
