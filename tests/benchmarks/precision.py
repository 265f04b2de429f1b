"""Is a fit in bfloat16 as good as one in float32, and how much quicker is it?

    python -m tests.benchmarks.precision [SESSION] [--alpha 50] [--epochs N]

Fits the PS-VAE of the shipped guide to a recording (the demo) in both, three seeds each, one after
the other in turn on one core, or on the GPU if there is one. Prints a Markdown table and writes
``precision.json``. Two minutes for the demo where the processor is quicker in bfloat16; where it
is not, the second row says what it costs.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import yaml

from psvae_tune.config.study import parse_study
from psvae_tune.data.demo import session_path
from psvae_tune.data.session_file import read_session
from psvae_tune.training.batches import prepare_data
from psvae_tune.training.final_metrics import final_metrics
from psvae_tune.training.fit import best_model, fit, start
from tests.support.command import ROOT

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SEEDS = (0, 1, 2)
COLUMNS = ("test/label_r2", "test/frame_mse", "test/latent_correlation")


def main() -> None:
    """Fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("session", nargs="?", default="demo")
    parser.add_argument("--alpha", type=float, default=50)
    parser.add_argument("--epochs", type=int, help="by default those of the guide")
    args = parser.parse_args()
    torch.set_num_threads(1)
    raw = yaml.safe_load((ROOT / "search_spaces" / "ps_vae_published.yaml").read_text())
    sessions = [read_session(session_path(args.session), needs_labels=True)]
    base = parse_study(raw, "ps_vae_published.yaml", sessions[0].header.n_labels).base
    params = {"ps_vae.alpha": args.alpha}
    if args.epochs:
        params |= {"max_n_epochs": args.epochs, "ps_vae.anneal_epochs": args.epochs // 2}
    base = base.with_params(params)
    rows: dict[str, list[dict[str, float]]] = {"float32": [], "bfloat16": []}
    for seed in SEEDS:
        for precision, found in rows.items():
            config = base.with_params({"precision": precision, "rng_seed_model": seed})
            data = prepare_data(sessions, config)
            state = start(config, data, DEVICE)
            begin = time.process_time()
            for _ in fit(state, data, config):
                pass
            seconds = time.process_time() - begin
            found.append({**final_metrics(best_model(state), data, DEVICE), "seconds": seconds})
    print("| | CPU seconds | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for precision, found in rows.items():
        cells = [f"{np.mean([row['seconds'] for row in found]):.1f}"]
        for key in COLUMNS:
            values = [row[key] for row in found]
            cells.append(f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}")
        print(f"| {precision} | " + " | ".join(cells) + " |")
    Path("precision.json").write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
