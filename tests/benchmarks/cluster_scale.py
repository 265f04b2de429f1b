"""What a study of many short trials costs its driver: the table of the README on scale.

    python -m tests.benchmarks.cluster_scale [N_TRIALS] [N_SLOTS]

Trials train nothing. Each logs five epochs and ends, so that what is left is what it takes to
start, follow and close one. Slots are those of a cluster that claims more cores than there are.
"""

import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import ray
from ray import tune

import psvae_tune.search.tuner
from psvae_tune.cluster.nodes import list_nodes
from psvae_tune.config.study import Resources
from psvae_tune.config.trial import parse_trial_config
from psvae_tune.search.progress import TrialReport, to_result
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trial_spec import CONTEXT, StageContext, TrialSpec
from psvae_tune.search.tuner import RunContext, train
from psvae_tune.tracking.client import TrackingTarget, open_target
from psvae_tune.tracking.folders import StudyFolder
from psvae_tune.tracking.trial_run import EpochMetrics, TrialRun, TrialRunSpec
from tests.support.loopback import AWAKE, serve_mlflow
from tests.support.studies import make_stage

N_EPOCHS = 5
METRICS = [f"{split}/metric_{number}" for split in ("train", "val") for number in range(10)]


class Unwatched:
    """Shows nothing."""

    def trial_progressed(self, name, report):
        """Pass."""

    def trial_ended(self, name, outcome, reason, metrics):
        """Pass."""


def epochs(spec: TrialSpec, target: TrackingTarget) -> Iterator[TrialReport]:
    """Log what a trial would, as fast as the server takes it."""
    run = TrialRun.open(target, TrialRunSpec("stage", spec.trial_id, spec.name, spec.params, []))
    for epoch in range(1, N_EPOCHS + 1):
        run.log([EpochMetrics.now(epoch, dict.fromkeys(METRICS, float(epoch)))])
        yield TrialReport(spec.trial_id, epoch, {"val/frame_mse": 1 / epoch})
    yield TrialReport(spec.trial_id, N_EPOCHS, {"val/frame_mse": 1.0}, is_finished=True)


def short_trial(config, sessions, n_threads) -> None:
    """Stand in for the trial that fits a model."""
    target = ray.get(config[CONTEXT]).target
    for report in epochs(TrialSpec.from_ray(config), target):
        tune.report(to_result(report))


def measure(n_trials: int, n_slots: int, folder: Path, target: TrackingTarget) -> None:
    """Run a study of trials that do nothing, and print what it cost."""
    base = parse_trial_config({"model": {"model_class": "ae", "n_ae_latents": 2}}, "benchmark")
    study = StudyFolder(folder / "study")
    stage = make_stage(name="stage")
    context = StageContext(stage, base, study, target, (), 0)
    journal = StageJournal(study, stage.name, context.settings_id)
    specs = [TrialSpec({"number": n}, f"{n:08}", f"trial {n}") for n in range(n_trials)]
    run = RunContext(ray.put([]), Resources(), 0.0, Unwatched())
    # Pickled by value, because this file is run as a script: workers need not know it.
    psvae_tune.search.tuner.train_in_worker = short_trial
    before = resource.getrusage(resource.RUSAGE_SELF)
    begin = time.perf_counter()
    train(iter([run.batch(specs, context, journal)]), run)
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ends = journal.trial_ends()
    assert len(ends) == n_trials
    begin = time.perf_counter()
    StageJournal(study, stage.name, context.settings_id).trial_ends()
    reading = time.perf_counter() - begin
    runs = target.client().search_runs([target.experiment_id], max_results=n_trials + 1)
    assert len(runs) == n_trials
    assert {run.info.status for run in runs} == {"FINISHED"}
    n_values = n_trials * N_EPOCHS * len(METRICS)
    size = (study.root / "journal.jsonl").stat().st_size
    print(f"trials {n_trials}, slots {list_nodes().count_slots(1, 0)}")
    print(f"wall                {seconds:.0f} s, {n_trials / seconds:.2f} trials a second")
    print(f"driver              {1000 * cpu / n_trials:.0f} ms of CPU a trial")
    memory, at_start = after.ru_maxrss / 2**10, before.ru_maxrss / 2**10
    print(f"driver's memory     {memory:.0f} MB at most, {at_start:.0f} before")
    print(f"values to MLflow    {n_values / seconds:.0f} a second")
    print(f"journal             {size / n_trials:.0f} bytes a trial, read in {reading:.2f} s")


def main() -> None:
    """Run the benchmark."""
    n_trials, n_slots = (int(text) for text in (*sys.argv[1:], "1000", "16")[:2])
    os.environ.update(AWAKE)
    psvae_tune.cluster.ray_session.set_driver_environment()
    with TemporaryDirectory() as name, serve_mlflow(Path(name)) as uri:
        target = open_target(uri, "scale", "scale", None)
        ray.init(
            address="local",
            num_cpus=n_slots,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
            runtime_env={"env_vars": psvae_tune.cluster.ray_session.WORKER_ENVIRONMENT},
        )
        try:
            measure(n_trials, n_slots, Path(name), target)
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
