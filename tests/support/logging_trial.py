"""A trial that trains nothing and logs as those do that train, as fast as it can.

python -m tests.support.logging_trial URI EXPERIMENT_ID FOLDER TRIAL N_EPOCHS
"""

import contextlib
import io
import sys
from pathlib import Path

from psvae_tune.tracking.client import TrackingTarget
from psvae_tune.tracking.folders import StudyFolder
from psvae_tune.tracking.outbox import Outbox
from psvae_tune.tracking.trial_run import EpochMetrics, TrialRunSpec

PROGRAM = [sys.executable, "-m", "tests.support.logging_trial"]
KEYS = [f"{split}/metric_{number}" for split in ("train", "val") for number in range(6)]


def main() -> None:
    uri, experiment_id, folder, trial_id, n_epochs = sys.argv[1:]
    log_trial(TrackingTarget(uri, experiment_id, "load"), Path(folder), trial_id, int(n_epochs))


def log_trial(target: TrackingTarget, folder: Path, trial_id: str, n_epochs: int) -> None:
    study = StudyFolder(folder)
    run = Outbox.of(study, target, trial_id)
    run.open(TrialRunSpec("stage", trial_id, trial_id, {"n": 1}, []))
    for epoch in range(1, n_epochs + 1):
        metrics = {"train/loss": 1 / epoch, **dict.fromkeys(KEYS, float(epoch))}
        run.log([EpochMetrics.now(epoch, metrics)])
    Outbox.of(study, target, trial_id).close("FINISHED", "trained to the end")


def log_in_silence(*arguments) -> None:
    """Log a trial that must have nothing to warn of."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        log_trial(*arguments)
    assert not said.getvalue(), said.getvalue()


if __name__ == "__main__":
    main()
