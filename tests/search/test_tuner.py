"""One run of Ray Tune trains all groups of a study, on workers that stay."""

import os
import signal
from pathlib import Path

import pytest
import ray

from psvae_tune.cluster.ray_session import start_ray
from psvae_tune.config.study import Resources
from psvae_tune.search.stage_journal import StageJournal
from psvae_tune.search.trial_spec import StageContext
from psvae_tune.search.tuner import RunContext, train
from psvae_tune.study.start import SilentObserver
from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.folders import StudyFolder
from tests.support.processes import workers
from tests.support.studies import make_config, make_session, make_stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_workers_stay_between_batches_and_one_that_dies_idle_fails_no_trial(tmp_path):
    session = make_session()
    target = open_target(f"sqlite:///{tmp_path}/mlflow.db", "study", "study", tmp_path / "files")
    folder, stage = StudyFolder(tmp_path / "study"), make_stage()
    seen = []

    def groups():
        for seed in range(3):
            config = make_config(training={"rng_seed_train": seed})
            context = StageContext(stage, config, folder, target, (session.digest,), 2)
            specs = context.specs(stage.grid())
            journal = StageJournal(folder, stage.name, context.settings_id)
            yield run.group(specs, context, journal)
            assert {end.outcome for end in journal.trial_ends().values()} == {"finished"}
            seen.append(workers(os.getpid()))
            if seed == 1:
                os.kill(min(seen[-1]), signal.SIGKILL)

    start_ray(session.frames.nbytes)
    try:
        run = RunContext(ray.put([session]), Resources(), 0.0, SilentObserver())
        train(groups(), run)
    finally:
        ray.shutdown()
    first, second, third = seen
    assert first == second
    assert len(first - third) == 1
    assert len(list(Path(tmp_path, "study").glob("checkpoints/*"))) == 0
