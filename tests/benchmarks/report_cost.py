"""What do the figures of a study cost, against the training of its trials?

    python -m tests.benchmarks.report_cost OUTPUT STUDY

Of a finished study of the default tracking store in OUTPUT, makes the figures and the report
again, and the files of some of its trials, movies included, and holds the processor time against
that of all epochs that its trials trained. Changes nothing. Prints a Markdown table and writes
``report_cost.json``.
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from psvae_tune.config.study import parse_study
from psvae_tune.data.demo import session_path
from psvae_tune.data.session_file import read_session
from psvae_tune.models.model_file import load_model
from psvae_tune.results.figures.trial_files import FinishedTrial, make_files
from psvae_tune.results.logged_study import LoggedStudy, open_study
from psvae_tune.results.report import make_report
from psvae_tune.results.report_data import make_study_figures
from psvae_tune.results.trial_record import TrialRecord
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.trial_run import fetch_file
from psvae_tune.training.batches import prepare_data

N_TRIALS = 5
CPU = torch.device("cpu")


def to_finished(study: LoggedStudy, trial: TrialRecord, output: OutputFolder) -> FinishedTrial:
    """Return what the worker had when it made the files of a trial."""
    raw = output.study(study.name).read_study_file()
    paths = [session_path(name) for name in raw["data"]["sessions"]]
    sessions = [read_session(path, needs_labels=True) for path in paths]
    config = parse_study(raw, study.name, sessions[0].header.n_labels).base
    with TemporaryDirectory() as folder:
        path = fetch_file(study.target, trial.trial_id, "model.pt", Path(folder))
        model = load_model(path).model
    keys = [key for key in trial.metrics if key.startswith(("train/", "val/"))]
    histories = {key: [(s, v) for _, s, v in study.history(trial, key)] for key in keys}
    return FinishedTrial(
        model,
        prepare_data(sessions, config),
        CPU,
        trial.result().metrics,
        {key: points for key, points in histories.items() if len(points) > 1},
        int(trial.metrics["best/epoch"]),
        config.model.n_anneal_epochs,
    )


def main() -> None:
    """Make, time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("study")
    options = parser.parse_args()
    torch.set_num_threads(1)
    output = OutputFolder(options.output.resolve())
    study = open_study(output.default_tracking_uri, options.study)
    training_s = sum(
        value for trial in study.trials for _, _, value in study.history(trial, "perf/cpu_seconds")
    )
    per_trial = []
    for trial in study.finished[:N_TRIALS]:
        finished = to_finished(study, trial, output)
        begin = time.process_time()
        for _, make in make_files(finished, "mp4"):
            make()
        per_trial.append(time.process_time() - begin)
    trials_s = float(np.mean(per_trial)) * len(study.finished)
    begin = time.process_time()
    report = make_report(study, dict(make_study_figures(study))).encode()
    report_s = time.process_time() - begin
    rows = {
        "training": training_s,
        "files of the trials": trials_s,
        "figures and report of the study": report_s,
    }
    print(f"| {len(study.finished)} trials | CPU seconds | of training |\n|---|---|---|")
    for name, seconds in rows.items():
        print(f"| {name} | {seconds:.0f} | {100 * seconds / training_s:.1f} % |")
    print(f"\nreport.html {len(report) / 1e6:.1f} MB")
    Path("report_cost.json").write_text(json.dumps({**rows, "report_bytes": len(report)}))


if __name__ == "__main__":
    main()
