"""Numbers that no change of the code may change: fits and a study, metric by metric.

`python -m tests.test_golden` writes `golden.json` anew, which only a change that is meant to
change numbers may do.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import yaml

from psvae_tune.config.trial import parse_trial_config
from psvae_tune.data.demo import write_demo
from psvae_tune.training.batches import prepare_data
from psvae_tune.training.final_metrics import final_metrics
from psvae_tune.training.fit import best_model, fit, start
from tests.support.studies import ARCHITECTURE, make_session

FILE = Path(__file__).with_name("golden.json")
CPU = torch.device("cpu")
MODELS = {
    "ae": {},
    "cond-ae-msp": {"msp.alpha": 0.1},
    "ps-vae": {"ps_vae.alpha": 10, "ps_vae.beta": 2, "ps_vae.anneal_epochs": 2},
    "msps-vae": {
        "ps_vae.alpha": 10,
        "ps_vae.beta": 2,
        "ps_vae.delta": 5,
        "ps_vae.anneal_epochs": 2,
        "n_background": 1,
    },
}
STUDY = {
    "experiment_name": "golden",
    "data": {"sessions": ["demo.h5"]},
    "model": {
        "model_class": "ps-vae",
        "n_ae_latents": "n_labels + 2",
        "ps_vae.beta": 1,
        "ps_vae.anneal_epochs": 1,
        "ae_arch_json": ARCHITECTURE,
    },
    "training": {"max_n_epochs": 3, "learning_rate": 0.003, "precision": "float32"},
    "search": {
        "stages": [
            {
                "name": "alpha",
                "space": {"ps_vae.alpha": {"grid_search": [10, 100, 1000]}},
                "objectives": {"val/frame_mse": "min", "val/label_r2": "max"},
                "select": {
                    "within": {"metric": "val/label_r2", "tolerance": 0.05},
                    "then": {"ps_vae.alpha": "min"},
                },
            },
            {
                "name": "beta",
                "space": {"ps_vae.beta": {"grid_search": [1, 5]}},
                "objectives": {"val/tc": "min"},
            },
        ]
    },
    "resources": {"max_concurrent_trials": 1},  # a second worker would take longer to start
}


def fit_model(name: str) -> dict[str, float]:
    """Return every metric of three epochs, and of the model that they end with."""
    model = {"model_class": name, "n_ae_latents": 4, "ae_arch_json": ARCHITECTURE, **MODELS[name]}
    training = {"max_n_epochs": 3, "learning_rate": 3e-3, "precision": "float32"}
    config = parse_trial_config({"model": model, "training": training}, "golden")
    sessions = [make_session(seed) for seed in range(2 if name == "msps-vae" else 1)]
    data = prepare_data(sessions, config)
    state = start(config, data, CPU)
    found = {}
    for report in fit(state, data, config):
        found |= {f"epoch {report.epoch} {key}": value for key, value in report.metrics.items()}
    return round_numbers(found | final_metrics(best_model(state), data, CPU))


def run_study(folder: Path) -> dict[str, dict]:
    """Return the selection of every stage of a study, with all numbers that it tells."""
    write_demo(folder / "demo.h5", n_clips=12, clip_length=20, size=16)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    program = "from psvae_tune.cli.commands import main; main()"
    arguments = ["run", "study.yaml", "--output", "out", "--name", "golden", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for stage in found.values():
        del stage["params"]["sessions"]  # where the recording lies
    return round_numbers(found)


def round_numbers(value):
    """Return data with every number in it cut to six digits."""
    if isinstance(value, dict):
        return {key: round_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [round_numbers(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def assert_same(found, expected, place=""):
    """Compare data, its numbers to what processors of another kind round differently."""
    assert type(found) is type(expected), place
    if isinstance(found, dict):
        assert found.keys() == expected.keys(), place
        for key, value in found.items():
            assert_same(value, expected[key], f"{place} {key}")
    elif isinstance(found, list):
        assert len(found) == len(expected), place
        for index, value in enumerate(found):
            assert_same(value, expected[index], f"{place} {index}")
    elif isinstance(found, float):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6), place
    else:
        assert found == expected, place


@pytest.mark.parametrize("name", MODELS)
def test_every_metric_of_a_fit(name):
    assert_same(fit_model(name), json.loads(FILE.read_text())["fits"][name])


@pytest.mark.slow
def test_every_choice_of_a_study(tmp_path):
    found, expected = run_study(tmp_path), json.loads(FILE.read_text())["study"]
    assert_same(found, expected)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        golden = {"fits": {name: fit_model(name) for name in MODELS}}
        golden["study"] = run_study(Path(folder))
    FILE.write_text(json.dumps(golden, indent=1) + "\n")
