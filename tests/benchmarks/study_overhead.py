"""What does a study of many small trials cost beside their training?

    python -m tests.benchmarks.study_overhead [--epochs 50]

Runs 32 trials of the PS-VAE on the demo recording, one at a time on each core, with everything
that a study does: pictures, models, MLflow. Tells how much of the time of the slots was spent
outside of epochs: before the first trial, in trials and between them, and after the last. Prints a
Markdown table and writes ``study_overhead.json``. Six minutes on two cores.
"""

import argparse
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import yaml

from psvae_tune.results.logged_study import open_study
from psvae_tune.tracking.folders import OutputFolder
from tests.support.command import ROOT, psvae_tune

SPACE = {
    "ps_vae.alpha": {"grid_search": [50, 100, 500, 1000]},
    "ps_vae.beta": {"grid_search": [1, 5, 10, 20]},
    "rng_seed_model": {"grid_search": [0, 1]},
}


def main() -> None:
    """Run, read, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=50)
    options = parser.parse_args()
    raw = yaml.safe_load((ROOT / "search_spaces" / "ps_vae_published.yaml").read_text())
    stage = {"name": "all", "space": SPACE, "objectives": {"val/frame_mse": "min"}}
    raw["search"]["stages"] = [stage]
    raw["training"]["max_n_epochs"] = options.epochs
    n_slots = len(os.sched_getaffinity(0))
    with TemporaryDirectory() as folder:
        output = OutputFolder(Path(folder) / "studies")
        file = Path(folder) / "study.yaml"
        file.write_text(yaml.safe_dump(raw))
        begin = time.time()
        psvae_tune("run", file, "--output", output.root, "--name", "overhead")
        whole_s = time.time() - begin
        study = open_study(output.default_tracking_uri, "overhead")
        trials = study.finished
        epochs_s = sum(
            value for trial in trials for _, _, value in study.history(trial, "perf/epoch_seconds")
        )
        client = mlflow.MlflowClient(output.default_tracking_uri)
        runs = [client.get_run(trial.run_id).info for trial in trials]
        spans = [(run.start_time / 1000, run.end_time / 1000) for run in runs]
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    rows = {
        "epochs": epochs_s,
        "before the first trial": n_slots * (first - begin),
        "trials, beside epochs": n_slots * (last - first) - epochs_s,
        "after the last trial": n_slots * (begin + whole_s - last),
    }
    print(f"| {len(trials)} trials of {options.epochs} epochs | slot seconds | | a trial |")
    print("|---|---|---|---|")
    for name, seconds in rows.items():
        share = 100 * seconds / (n_slots * whole_s)
        print(f"| {name} | {seconds:.1f} | {share:.1f} % | {seconds / len(trials):.2f} s |")
    Path("study_overhead.json").write_text(json.dumps({"n_slots": n_slots, **rows}, indent=2))


if __name__ == "__main__":
    main()
