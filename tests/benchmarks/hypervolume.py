"""Does Optuna with Pareto ASHA find as good a front as random search, for the same epochs?

    python -m tests.benchmarks.hypervolume FOLDER [--seeds 10]

Searches alpha, beta and latents of a small generated recording with both, the same number of
epochs for each and every seed, and compares the area that the fronts of their finished trials
dominate (frame MSE and latent correlation, on the validation split). Every study is a real one;
those in FOLDER are not run again. Prints a Markdown table and writes ``hypervolume.json``. Two to
three minutes a seed on two cores.

Two fifths of the clips are for validation: over a few slow movements the correlation of two
latents is chance, and what is chance nobody can search.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import wilcoxon

from psvae_tune.data.demo import write_demo
from psvae_tune.metrics.pareto import hypervolume
from psvae_tune.results.logged_study import open_study
from psvae_tune.tracking.folders import OutputFolder
from tests.support.command import psvae_tune

N_EPOCHS = 480
OBJECTIVES = ("val/frame_mse", "val/latent_correlation")
SPACE = {
    "ps_vae.alpha": {"loguniform": [1, 1000]},
    "ps_vae.beta": {"loguniform": [1, 20]},
    "n_ae_latents": {"choice": ["n_labels + 2", "n_labels + 3", "n_labels + 4"]},
}
STUDY: dict[str, Any] = {
    "experiment_name": "hypervolume",
    "model": {
        "model_class": "ps-vae",
        "ps_vae.anneal_epochs": 8,
        "ae_arch_json": {
            "ae_encoding_n_channels": [8, 16],
            "ae_encoding_kernel_size": [5, 5],
            "ae_encoding_stride_size": [2, 2],
        },
    },
    "training": {"max_n_epochs": 32, "learning_rate": 5e-3},
    "tracking": {"movies": "none"},
}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "random": {"algorithm": "random"},
    "optuna, asha": {
        "algorithm": "optuna",
        "scheduler": {"asha": {"grace_period": "anneal_end", "reduction_factor": 2}},
    },
}


def run(algorithm: str, seed: int, output: Path) -> list[list[float]]:
    """Run one study, unless it is there; return the objectives of its finished trials."""
    name = f"{algorithm.replace(', ', '-')}-{seed}"
    folder = OutputFolder(output)
    if not folder.study(name).selection.exists():
        stage = {
            "space": SPACE,
            "objectives": dict.fromkeys(OBJECTIVES, "min"),
            "num_epochs": N_EPOCHS,
            "seed": seed,
            **ALGORITHMS[algorithm],
        }
        data = {"sessions": [str(output / "demo.h5")], "trial_splits": "5;4;1;0"}
        file = output / f"{name}.yaml"
        file.write_text(yaml.safe_dump({**STUDY, "data": data, "search": stage}))
        psvae_tune("run", file, "--output", output, "--name", name)
    study = open_study(folder.default_tracking_uri, name)
    results = [trial.result() for trial in study.finished]
    return [[result.metrics[key] for key in OBJECTIVES] for result in results]


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    output = options.folder.resolve()
    output.mkdir(parents=True, exist_ok=True)
    if not (output / "demo.h5").exists():
        write_demo(output / "demo.h5", n_clips=40, clip_length=25, size=16)
    found: dict[str, list[list[list[float]]]] = {name: [] for name in ALGORITHMS}
    for seed in range(options.seeds):
        for name in ALGORITHMS:
            found[name].append(run(name, seed, output))
            print(f"{name}, seed {seed}: {len(found[name][-1])} finished", file=sys.stderr)
    # One scale for all: the worst finished trial of any study, and the best.
    every = np.array([point for studies in found.values() for study in studies for point in study])
    low, high = every.min(axis=0), every.max(axis=0)
    areas = {
        name: [
            hypervolume((np.array(study) - low) / (high - low), np.ones(2)) for study in studies
        ]
        for name, studies in found.items()
    }
    gain = np.subtract(*[areas[name] for name in reversed(ALGORITHMS)])
    print(f"| {N_EPOCHS} epochs | finished trials | hypervolume |\n|---|---|---|")
    for name, values in areas.items():
        n_finished = np.mean([len(study) for study in found[name]])
        print(f"| {name} | {n_finished:.1f} | {np.mean(values):.3f} ± {np.std(values):.3f} |")
    p = wilcoxon(gain).pvalue if len(gain) > 1 else np.nan
    print(f"\ngain {gain.mean():+.3f}, in {np.sum(gain > 0)} of {len(gain)} seeds, p = {p:.3f}")
    Path("hypervolume.json").write_text(json.dumps({"hypervolume": areas, "trials": found}))


if __name__ == "__main__":
    main()
