"""A study that trains in seconds, run with the commands of a user."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import yaml

from psvae_tune.data.demo import write_demo

COMMAND = [sys.executable, "-c", "from psvae_tune.cli.commands import main; main()"]
STUDY = {
    "experiment_name": "tiny",
    "data": {"sessions": ["demo.h5"]},
    "model": {
        "model_class": "ps-vae",
        "n_ae_latents": "n_labels + 2",
        "ps_vae.beta": 1,
        "ps_vae.anneal_epochs": 2,
        "ae_arch_json": {
            "ae_encoding_n_channels": [4, 8],
            "ae_encoding_kernel_size": [5, 5],
            "ae_encoding_stride_size": [2, 2],
        },
    },
    "training": {"max_n_epochs": 8, "learning_rate": 0.003, "checkpoint_every": 2},
    "search": {
        "space": {"ps_vae.alpha": {"grid_search": [1 + 10 * i for i in range(8)]}},
        "objectives": {"val/frame_mse": "min", "val/label_r2": "max"},
    },
}

LEARNING_RATES = [0.003, 1e-06]


def command(folder: Path, *arguments: str, environment=None, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # MLflow notes the store it was last pointed at in the environment; a user's is clean.
        env={name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        | {"NO_COLOR": "1"}
        | (environment or {}),
        **options,
    )


def finish(process: subprocess.Popen) -> tuple[str, str]:
    out, err = process.communicate(timeout=800)
    assert process.returncode == 0, err
    return out, err


def make_study(folder: Path, n_trials: int, **training) -> Path:
    write_demo(folder / "demo.h5", n_clips=12, clip_length=20, size=16)
    raw = json.loads(json.dumps(STUDY))
    grid = raw["search"]["space"]["ps_vae.alpha"]
    grid["grid_search"] = grid["grid_search"][:n_trials]
    raw["training"] |= training
    if n_trials == 16:
        # Half of them learn nothing, and cannot catch up.
        raw["search"]["space"]["learning_rate"] = {"grid_search": LEARNING_RATES}
        raw["search"]["scheduler"] = {"asha": {"reduction_factor": 2}}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def runs_of(folder: Path, kind: str) -> list:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'out' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    return client.search_runs(
        [experiment.experiment_id], f"tags.`psvae_tune.kind` = '{kind}'", max_results=100
    )


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 400
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
