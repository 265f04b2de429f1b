"""Does early stopping change what a stage chooses, and how well do epochs order the end?

    python -m tests.benchmarks.early_stopping FOLDER [--seeds 10] [--files ae vae ...]

Trains every trial of the shipped grids in full, once a seed, and keeps its metrics of every epoch.
Then replays each stage with `asha`, whose first rung lies at several parts of the training, and
with `median_stopping`, two trials at a time in random orders, and with ``fidelity: schedule``,
whose shorter trainings are trained as well. All decisions are made by the code that a study uses.
A later stage starts from what the one before chose without early stopping; stages that
choose by ``udr`` are left out. Fits lie in FOLDER and are not trained again, so the benchmark can
be interrupted. One thread; ten seeds of a file take ten minutes to an hour.

Prints a Markdown table. *Other choice* counts the replays that chose another trial than a stage
without early stopping; *worse by* is the largest difference between the two choices in a metric
that the rule compares, in standard deviations of that metric over seeds. *Order* is the rank
correlation of the first objective at the first rung with that at the end.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ray.tune.schedulers import TrialScheduler
from scipy.stats import spearmanr

from psvae_tune.config.metric_catalog import STAGE_METRICS, is_metric
from psvae_tune.config.study_file import read_study_file
from psvae_tune.config.trial import TrialConfig, with_fewer_epochs
from psvae_tune.data.session import Session
from psvae_tune.errors import StudyError
from psvae_tune.search.progress import TrialReport, to_result
from psvae_tune.search.schedulers import MedianStop, ParetoAsha, StageStand
from psvae_tune.search.selection.select import select
from psvae_tune.search.stage_journal import TrialEnd
from psvae_tune.search.successive_halving import epoch_divisors, select_survivors
from psvae_tune.search.trial_spec import StageContext, TrialSpec
from psvae_tune.study.load_sessions import read_sessions
from psvae_tune.study.plan import make_plan
from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import StudyFolder
from psvae_tune.tracking.trial_result import TrialResult
from psvae_tune.training.batches import prepare_data
from psvae_tune.training.final_metrics import final_metrics
from psvae_tune.training.fit import best_model, fit, start
from tests.support.command import ROOT

CPU = torch.device("cpu")
GRIDS = (
    "ae",
    "cond_ae",
    "cond_ae_msp",
    "vae",
    "cond_vae",
    "beta_tcvae",
    "ps_vae_published",
    "msps_vae",
)
FIRST_RUNGS = (1 / 9, 1 / 3, 1 / 2, 2 / 3)
FACTOR = 3
N_ORDERS = 5


@dataclass(frozen=True)
class Fit:
    """The metrics of a trial: the best so far of every epoch, and those of the kept model."""

    epochs: list[dict[str, float]]
    final: dict[str, float]


def train(config: TrialConfig, sessions: Sequence[Session], folder: Path) -> Fit:
    """Train a trial in full, unless it is in the folder."""
    path = folder / f"{config.trial_id([session.digest for session in sessions])}.json"
    if not path.exists():
        data = prepare_data(sessions, config)
        state = start(config, data, CPU)
        epochs = []
        for epoch in fit(state, data, config):
            best = epoch.metrics if state.best is None else state.best.metrics
            epochs.append({key: best[key] for key in best if key.startswith("val/")})
        final = final_metrics(best_model(state), data, CPU)
        path.write_text(json.dumps({"epochs": epochs, "final": final}))
        print(path, file=sys.stderr)
    return Fit(**json.loads(path.read_text()))


@dataclass(frozen=True)
class Stage:
    """A stage, with every trial trained in full."""

    context: StageContext
    sessions: Sequence[Session]
    folder: Path
    specs: list[TrialSpec]
    fits: dict[str, Fit]

    def results(self, specs: Sequence[TrialSpec]) -> list[TrialResult]:
        """Return what a selection reads of trials that were trained to their end."""
        ends = {
            spec.trial_id: TrialEnd("", "finished", "", 0, self.fits[spec.trial_id].final)
            for spec in specs
        }
        return self.context.results(specs, ends)

    def choose(self, specs: Sequence[TrialSpec]) -> TrialResult:
        """Return the choice of the stage among some of its trials."""
        stage = self.context.stage
        return select(self.results(specs), stage.select, stage.objectives).chosen

    def replay(
        self, scheduler: TrialScheduler, rng: np.random.Generator
    ) -> tuple[list[TrialSpec], float]:
        """Run the trials two at a time, and stop those that a scheduler stops.

        Returns
        -------
        list of TrialSpec
            The trials that ended.
        float
            Share of epochs that were trained.
        """
        waiting = [self.specs[row] for row in rng.permutation(len(self.specs))]
        running: dict[str, int] = {}
        specs = {spec.trial_id: spec for spec in self.specs}
        ended, n_trained = [], 0
        while waiting or running:
            while waiting and len(running) < 2:
                running[waiting.pop().trial_id] = 0
            name = str(rng.choice(list(running)))
            running[name] += 1
            n_trained += 1
            epochs, epoch = self.fits[name].epochs, running[name]
            trial = SimpleNamespace(config=specs[name].to_ray())
            report = TrialReport(name, epoch, epochs[epoch - 1])
            if scheduler.on_trial_result(None, trial, to_result(report)) == TrialScheduler.STOP:
                del running[name]
            elif epoch == len(epochs):
                del running[name]
                ended.append(specs[name])
        return ended, n_trained / sum(len(one.epochs) for one in self.fits.values())

    def halve(self) -> tuple[list[TrialSpec], float]:
        """Train shorter schedules; return the survivors, and the share of epochs trained."""
        specs, n_trained = self.specs, 0
        rule = self.context.stage.select
        for divisor in epoch_divisors(len(specs), FACTOR):
            context = replace(self.context, base=with_fewer_epochs(self.context.base, divisor))
            short = [context.spec(spec.params) for spec in specs]
            fits = train_all(context, short, self.sessions, self.folder)
            n_trained += sum(len(one.epochs) for one in fits.values())
            results = replace(self, context=context, specs=short, fits=fits).results(short)
            specs = [specs[row] for row in select_survivors(results, rule, FACTOR)]
        n_trained += sum(len(self.fits[spec.trial_id].epochs) for spec in specs)
        return specs, n_trained / sum(len(one.epochs) for one in self.fits.values())

    def order_at(self, part: float) -> float:
        """Return the rank correlation of the first objective at an epoch with that at the end.

        It is nan if fewer than three trials have it, because latents have collapsed.
        """
        key = next(iter(self.context.stage.objectives))
        pairs = [
            (one.epochs[int(np.ceil(part * len(one.epochs))) - 1].get(key), one.final.get(key))
            for one in self.fits.values()
        ]
        values = [pair for pair in pairs if None not in pair]
        return float(spearmanr(*np.array(values).T).statistic) if len(values) > 2 else np.nan


def train_all(
    context: StageContext, specs: Sequence[TrialSpec], sessions: Sequence[Session], folder: Path
) -> dict[str, Fit]:
    """Train some trials of a stage in full; return their metrics by trial."""
    return {
        spec.trial_id: train(context.base.with_params(spec.params), sessions, folder)
        for spec in specs
    }


def stages(file: str, seed: int, folder: Path) -> Iterator[Stage]:
    """Yield the stages of a shipped file for one seed, each from the choice of the one before.

    Raises
    ------
    StudyError
        If a stage has nothing to choose.
    """
    plan = make_plan(read_study_file(ROOT / f"search_spaces/{file}.yaml"), file)
    sessions = read_sessions(plan, ())
    base = plan.study.base.with_params({"rng_seed_model": seed, "rng_seed_train": seed})
    nowhere = TrackingTarget("", "", file)
    with TemporaryDirectory() as root:
        for stage in plan.study.stages:
            if STAGE_METRICS.keys() & set(stage.select.metrics):
                continue
            digests = tuple(session.digest for session in sessions)
            n_labels = sessions[0].header.n_labels
            kept = StudyFolder(Path(root))
            context = StageContext(stage, base, kept, nowhere, digests, n_labels)
            specs = context.specs(stage.grid())
            found = Stage(
                context, sessions, folder, specs, train_all(context, specs, sessions, folder)
            )
            chosen = found.choose(specs)
            yield found
            base = base.with_params(
                next(spec.params for spec in specs if spec.trial_id == chosen.trial_id)
            )


def ways(stage: Stage) -> Iterator[tuple[str, list[tuple[list[TrialSpec], float]]]]:
    """Yield every way of stopping, with the trials that end and the epochs, for each order."""
    context = stage.context
    n_epochs = context.base.training.max_n_epochs
    stand = StageStand(context)
    given: tuple[Any, ...] = (context.stage, stand, {}, lambda *event: None, n_epochs)
    n_anneal = context.base.model.n_anneal_epochs
    for part in FIRST_RUNGS:
        first = max(n_anneal, int(np.ceil(part * n_epochs)))
        rungs = [first * FACTOR**k for k in range(9) if first * FACTOR**k < n_epochs]
        make = partial(ParetoAsha, *given, rungs, FACTOR)
        name = f"`asha`, first at {part:.2f}"
        yield name, [stage.replay(make(), np.random.default_rng(i)) for i in range(N_ORDERS)]
    if len(context.stage.objectives) == 1:
        for part in FIRST_RUNGS[1:3]:
            first = max(n_anneal, int(np.ceil(part * n_epochs)))
            make = partial(MedianStop, *given, first, 3)
            name = f"`median_stopping`, first at {part:.2f}"
            yield name, [stage.replay(make(), np.random.default_rng(i)) for i in range(N_ORDERS)]
    yield "`fidelity: schedule`", [stage.halve()]


def compare(
    chosen: TrialResult, without: TrialResult, spread: Mapping[str, float], rule: Any
) -> float:
    """Return the largest difference of two choices, in standard deviations over seeds."""
    keys = [key for key in (*rule.objectives, *rule.then) if is_metric(key)]
    differences = [(abs(chosen.metrics[key] - without.metrics[key]), spread[key]) for key in keys]
    # A metric such as `leak_r2` may be 0 with every seed.
    return max(
        value / width if width else (np.inf if value else 0.0) for value, width in differences
    )


def main() -> None:
    """Train, replay and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--files", nargs="+", default=GRIDS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    print("| stage | stopped by | epochs | order | other choice | worse by |")
    print("|---|---|---|---|---|---|")
    for file in options.files:
        by_stage: dict[str, list[Stage]] = {}
        for seed in range(options.seeds):
            try:
                for stage in stages(file, seed, options.folder):
                    by_stage.setdefault(stage.context.stage.name, []).append(stage)
            except StudyError as error:  # with full trainings, so there is nothing to compare with
                print(f"{file}, seed {seed}: {error}", file=sys.stderr)
        for name, seeds in by_stage.items():
            print_stage(f"{file}, {name}", seeds)


def print_stage(name: str, seeds: Sequence[Stage]) -> None:
    """Print the rows of one stage."""
    rule = seeds[0].context.stage.select
    without = [stage.choose(stage.specs) for stage in seeds]
    keys = [key for key in (*rule.objectives, *rule.then) if is_metric(key)]
    spread = {key: float(np.std([one.metrics[key] for one in without], ddof=1)) for key in keys}
    rows: dict[str, list[tuple[float, bool, float]]] = {}
    for stage, best in zip(seeds, without, strict=True):
        for way, runs in ways(stage):
            for ended, share in runs:
                chosen = stage.choose(ended)
                is_other = chosen.trial_id != best.trial_id
                rows.setdefault(way, []).append(
                    (share, is_other, compare(chosen, best, spread, rule))
                )
    for way, found in rows.items():
        shares, others, differences = zip(*found, strict=True)
        order = ""
        if "first at" in way:
            part = float(way.rpartition(" ")[2])
            known = [one for stage in seeds if np.isfinite(one := stage.order_at(part))]
            order = f"{np.mean(known):.2f}" if known else ""
        print(
            f"| {name} | {way} | {np.mean(shares):.0%} | {order} "
            f"| {sum(others)} of {len(others)} | {max(differences):.1f} |"
        )


if __name__ == "__main__":
    main()
