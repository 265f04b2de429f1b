"""Do two trials at a time waste the processor? CPU time of two beside against after each other.

    python -m tests.benchmarks.concurrency

Prints a table and writes ``concurrency.json`` to the working folder.
"""

import json
import os
import tempfile
from pathlib import Path

import mlflow

from tests.support.command import ROOT, psvae_tune


def cpu_seconds(n_at_a_time: int, folder: Path) -> float:
    """Run the same two trials ``n_at_a_time`` and return the CPU time of their epochs."""
    stage = (
        "{name: two, space: {ps_vae.alpha: {grid_search: [50, 100]}}, "
        "objectives: {val/frame_mse: min}}"
    )
    call = ["run", ROOT / "search_spaces" / "ps_vae.yaml", "--output", folder]
    call += ["--name", f"at-{n_at_a_time}", "--set", f"search.stages=[{stage}]"]
    psvae_tune(*call, "--set", f"resources.max_concurrent_trials={n_at_a_time}")
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("ps-vae")
    runs = client.search_runs(
        [experiment.experiment_id], f"tags.`psvae_tune.study` = 'at-{n_at_a_time}'"
    )
    return sum(
        item.value
        for run in runs
        for item in client.get_metric_history(run.info.run_id, "perf/cpu_seconds")
    )


def main() -> None:
    """Alternate both ways, so that what else the machine does meets them alike."""
    rows = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        for repetition in range(2):
            for n in rows:
                rows[n].append(cpu_seconds(n, Path(folder) / str(repetition)))
    ratio = sum(rows[2]) / sum(rows[1])
    print("| two trials | CPU seconds | |\n|---|---|---|")
    for n, name in ((1, "one after the other"), (2, "at the same time")):
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in rows[n]) + " |")
    print(f"\nratio {ratio:.3f} on {os.cpu_count()} cores")
    Path("concurrency.json").write_text(json.dumps({"cpu_seconds": rows, "ratio": ratio}))


if __name__ == "__main__":
    main()
