"""Does a sampler find what is feasible where little is, if most trials are stopped early?

    python -m tests.benchmarks.narrow_space [--seeds 100]

A stage of 24 trials samples α and β, each over three decades. A trial is feasible in a square of
3 % of the space; outside, it misses its requirement by 0.2 times its distance from the square in
decades. Whatever is not feasible is stopped early, as `asha` stops what falls behind. No model is
trained. The suggestions are those of today's sampler, once told what stopped trials lack, and
once not. Prints a Markdown table: the share of studies that end with nothing feasible. A minute.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from psvae_tune.config.stage import Stage
from psvae_tune.search.sampler import StageSampler
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trial_spec import StageContext
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import StudyFolder
from tests.support.studies import make_config

SIDE = 3 * math.sqrt(0.03)
"""Decades that are feasible in each direction, of three."""
N_TRIALS = 24
REQUIRED = 0.8


def label_r2(params: Mapping[str, float]) -> float:
    """Return a label R2 that meets its requirement inside the square alone."""
    away = [abs(math.log10(params[f"ps_vae.{name}"]) - 2) - SIDE / 2 for name in ("alpha", "beta")]
    return REQUIRED - 0.2 * max(away)


def count_feasible(seed: int, *, is_told: bool, n_trials: int = N_TRIALS) -> int:
    """Run a stage; return the number of its trials that are feasible."""
    stage = Stage.model_validate(
        {
            "algorithm": "optuna",
            "num_trials": n_trials,
            "seed": seed,
            "space": {f"ps_vae.{name}": {"loguniform": [1, 1000]} for name in ("alpha", "beta")},
            "objectives": {"val/frame_mse": "min"},
            "select": {"best": "val/frame_mse", "require": {"val/label_r2": f">= {REQUIRED}"}},
            "scheduler": "asha",
        }
    )
    with TemporaryDirectory() as root:
        folder = StudyFolder(Path(root))
        nowhere = TrackingTarget("", "", "study")
        context = StageContext(stage, make_config(), folder, nowhere, ("digest",), 2)
        journal = StageJournal(folder, stage.name, context.settings_id)
        sampler, n_feasible = StageSampler(context, journal), 0
        while (spec := sampler.ask()) is not None:
            r2 = label_r2(spec.params)
            metrics = {"val/frame_mse": 0.01 + 1e-5 * spec.params["ps_vae.alpha"]}
            if is_told or r2 >= REQUIRED:
                metrics["val/label_r2"] = r2
            outcome = "finished" if r2 >= REQUIRED else "stopped"
            journal.note_end(spec.trial_id, outcome, "", 4, metrics)
            n_feasible += r2 >= REQUIRED
    return n_feasible


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    n_seeds = parser.parse_args().seeds
    print("| what stopped trials lack is | studies with nothing feasible | feasible trials |")
    print("|---|---|---|")
    for name, is_told in (("not told", False), ("told", True)):
        found = [count_feasible(seed, is_told=is_told) for seed in range(n_seeds)]
        share = sum(n == 0 for n in found) / n_seeds
        print(f"| {name} | {share:.0%} | {sum(found) / n_seeds:.1f} of {N_TRIALS} |")


if __name__ == "__main__":
    main()
