"""Frames and labels of every model at equal latents; whether latents tell sessions apart.

    python -m tests.benchmarks.model_table [--out FILE.json]
    python -m tests.benchmarks.model_table --flies FOLDER [--out FILE.json]

The first fits every model to the demo recording, the second the PS-VAE and its multi-session
form to two real animals of one video (``flies13_track{0,1}_96.h5`` in FOLDER), from three seeds
each. Prints a Markdown table and writes the numbers behind it. Under ten minutes on one core.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from psvae_tune.config.trial import parse_trial_config
from psvae_tune.data.demo import session_path
from psvae_tune.data.session import Session
from psvae_tune.data.session_file import read_session
from psvae_tune.metrics.label_prediction import leak_r2, predict_by_ridge
from psvae_tune.models.model import Model
from psvae_tune.training.batches import PreparedData, prepare_data
from psvae_tune.training.evaluate import evaluate
from psvae_tune.training.final_metrics import final_metrics
from psvae_tune.training.fit import best_model, fit, start

CPU = torch.device("cpu")
SEEDS = (0, 1, 2)
DEMO_LAYERS = {
    "ae_encoding_n_channels": [16, 32, 64],
    "ae_encoding_kernel_size": [5, 5, 5],
    "ae_encoding_stride_size": [2, 2, 2],
}
FLIES_LAYERS = {
    "ae_encoding_n_channels": [16, 32, 32],
    "ae_encoding_kernel_size": [7, 5, 3],
    "ae_encoding_stride_size": [4, 4, 2],
}
# Of 14 clips, 3 to judge by: neighbours are alike, and one clip would be one place.
FLIES_SPLITS = "8;3;3;0"
PSVAE = {"ps_vae.alpha": 100, "ps_vae.beta": 1, "ps_vae.anneal_epochs": 10}
# Six latents each: four supervised and two unsupervised, where there are such blocks.
MODELS: dict[str, dict[str, Any]] = {
    "ae": {},
    "vae": {"vae.beta": 1, "vae.beta_anneal_epochs": 10},
    "beta-tcvae": {"beta_tcvae.beta": 1, "beta_tcvae.beta_anneal_epochs": 10},
    "cond-ae": {},
    "cond-vae": {"vae.beta": 1, "vae.beta_anneal_epochs": 10},
    "cond-ae-msp": {"msp.alpha": 0.1},
    "ps-vae": PSVAE,
}
MSPS = {"model_class": "msps-vae", "n_background": 1, "ps_vae.delta": 500}
N_LATENTS = 6


def train(
    model: Mapping[str, Any],
    sessions: Sequence[Session],
    max_n_epochs: int,
    rate: float,
    trial_splits: str = "8;1;1;0",
) -> tuple[Model, PreparedData]:
    """Fit one configuration; return its best model."""
    training = {"max_n_epochs": max_n_epochs, "learning_rate": rate, "val_check_interval": 5}
    raw = {"model": model, "training": training, "data": {"trial_splits": trial_splits}}
    config = parse_trial_config(raw, "benchmark")
    data = prepare_data(sessions, config)
    state = start(config, data, CPU)
    for _ in fit(state, data, config):
        pass
    return best_model(state), data


def score(model: Model, data: PreparedData) -> dict[str, float]:
    """Return the test metrics, and how well the labels can be read from all latents."""
    found = {
        key.removeprefix("test/"): value
        for key, value in final_metrics(model, data, CPU).items()
        if key.startswith("test/")
    }
    seen, test = evaluate(model, data, "train", CPU), evaluate(model, data, "test", CPU)
    (labels, mask), (test_labels, test_mask) = (
        (item.targets.labels, item.targets.label_mask) for item in (seen, test)
    )
    labels_hat = predict_by_ridge(seen.mean, labels, test.mean, mask)
    r2 = leak_r2(test_labels, labels_hat, test_mask)
    return found | ({} if r2 is None else {"readout_r2": r2})


def run_all(
    models: Mapping[str, Mapping[str, Any]],
    sessions: Mapping[str, Sequence[Session]],
    max_n_epochs: int,
    rate: float,
    trial_splits: str = "8;1;1;0",
) -> dict[str, list[dict[str, float]]]:
    """Fit every model from every seed to its sessions."""
    found: dict[str, list[dict[str, float]]] = {}
    for name, model in models.items():
        for seed in SEEDS:
            begin = time.process_time()
            settings = {**model, "rng_seed_model": seed}
            row = score(*train(settings, sessions[name], max_n_epochs, rate, trial_splits))
            row["seconds"] = time.process_time() - begin
            found.setdefault(name, []).append(row)
            print(f"{name} seed {seed}: {row['seconds']:.0f} s", file=sys.stderr, flush=True)
    return found


def tabulate(found: Mapping[str, list[dict[str, float]]], columns: Mapping[str, str]) -> str:
    """Return a Markdown table of mean ± standard deviation over seeds."""
    lines = [
        "| model | " + " | ".join(columns.values()) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name, rows in found.items():
        cells = []
        for key in columns:
            values = [row[key] for row in rows if key in row]
            cells.append(f"{np.mean(values):.4g} ± {np.std(values):.2g}" if values else "–")
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def compare_models(n_epochs: int) -> tuple[dict[str, list[dict[str, float]]], str]:
    """Fit every model to the demo; return the numbers and their table."""
    demos = [read_session(session_path(name), needs_labels=True) for name in ("demo", "demo:1")]
    models = {
        name: {"model_class": name, "n_ae_latents": N_LATENTS, "ae_arch_json": DEMO_LAYERS, **rest}
        for name, rest in MODELS.items()
    }
    # The multi-session model needs a second session, the demo in another light. Of its six
    # latents one is of the background, and one is left unsupervised.
    models["msps-vae"] = {**models["ps-vae"], **MSPS}
    sessions = {name: demos if name == "msps-vae" else demos[:1] for name in models}
    found = run_all(models, sessions, n_epochs, 1e-3)
    columns = {
        "label_r2": "label R²",
        "readout_r2": "label R², ridge from all latents",
        "leak_r2": "label R², ridge from unsupervised",
        "frame_mse": "frame MSE",
        "active_units": "active unsupervised latents",
        "seconds": "CPU seconds",
    }
    return found, tabulate(found, columns)


def compare_sessions(folder: Path, n_epochs: int) -> tuple[dict[str, list[dict[str, float]]], str]:
    """Fit both models to both animals, four unsupervised latents each."""
    flies = [
        read_session(folder / f"flies13_track{track}_96.h5", needs_labels=True)
        for track in range(2)
    ]
    n_labels = flies[0].header.n_labels
    shared = {
        "ae_arch_json": FLIES_LAYERS,
        "ps_vae.alpha": 500,
        "ps_vae.beta": 5,
        "ps_vae.anneal_epochs": 20,
    }
    models = {
        "ps-vae": {"model_class": "ps-vae", "n_ae_latents": n_labels + 4, **shared},
        "msps-vae": {
            "model_class": "msps-vae",
            "n_ae_latents": n_labels + 8,
            "n_background": 4,
            "ps_vae.delta": 50,
            **shared,
        },
    }
    found = run_all(models, dict.fromkeys(models, flies), n_epochs, 2e-3, FLIES_SPLITS)
    columns = {
        "session_accuracy_u": "session accuracy, unsupervised (chance 0.5)",
        "session_accuracy_b": "session accuracy, background",
        "label_r2": "label R²",
        "frame_mse": "frame MSE",
        "active_units": "active unsupervised latents",
        "seconds": "CPU seconds",
    }
    return found, tabulate(found, columns)


def main() -> None:
    """Fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("model_table.json"))
    parser.add_argument("--flies", type=Path, help="the folder of the two flies13 recordings")
    parser.add_argument("--epochs", type=int, help="default: 30, and 100 for the flies")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.flies:
        found, table = compare_sessions(options.flies, options.epochs or 100)
    else:
        found, table = compare_models(options.epochs or 30)
    print(table)
    options.out.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
