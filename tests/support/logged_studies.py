"""Small studies in real stores, fitted in this process."""

import json
import re
from pathlib import Path

import torch
import yaml
from click.testing import CliRunner

from psvae_tune.cli.commands import main
from psvae_tune.config.study import parse_study
from psvae_tune.data.session_file import read_session
from psvae_tune.results.logged_study import open_study
from psvae_tune.search.selection.select import select
from psvae_tune.search.trainable import run_trial
from psvae_tune.search.trial_spec import StageContext
from psvae_tune.tracking.client import open_target
from psvae_tune.tracking.folders import OutputFolder
from psvae_tune.tracking.study_run import StudyRun
from psvae_tune.tracking.tags import SELECTED
from psvae_tune.tracking.trial_run import close_trial

CPU = torch.device("cpu")
RAW = {
    "experiment_name": "experiment",
    "data": {"sessions": ["demo"]},
    "model": {
        "model_class": "ps-vae",
        "n_ae_latents": "n_labels + 2",
        "ps_vae.beta": 1,
        "ps_vae.anneal_epochs": 1,
        "ae_arch_json": {
            "ae_encoding_n_channels": [4, 8],
            "ae_encoding_kernel_size": [5, 5],
            "ae_encoding_stride_size": [2, 2],
        },
    },
    "training": {"max_n_epochs": 3, "learning_rate": 3.0e-3},
    "search": {
        "space": {"ps_vae.alpha": {"grid_search": [10, 100, 1000]}},
        "objectives": {"val/frame_mse": "min", "val/label_r2": "max"},
        "select": {"best": "val/frame_mse"},
    },
    "tracking": {"movies": "none"},
}


def log_study(folder: Path, session_path: Path, name: str, raw=RAW, n_cut=0, n_failed=0):
    """Fit every trial of a one-stage study, cut off or fail the last ones, and choose.

    Returns the study as MLflow knows it.
    """
    session = read_session(session_path, needs_labels=raw["model"]["model_class"] != "ae")
    study = parse_study(raw, "test", session.header.n_labels)
    (stage,) = study.stages
    output = OutputFolder(folder)
    target = open_target(
        output.default_tracking_uri, study.experiment_name, name, output.artifacts
    )
    run = StudyRun.open(target, study.base.params)
    context = StageContext(
        stage,
        study.base,
        output.study(name),
        target,
        (session.digest,),
        session.header.n_labels,
        study.tracking.movies,
    )
    specs = context.specs(stage.grid())
    for index, spec in enumerate(specs):
        last = len(specs) - 1 - index
        reports = run_trial(spec, [session], context, CPU)
        is_cut = last < n_cut + n_failed
        trial_id = (next(reports) if is_cut else [*reports][-1]).trial_id
        reports.close()  # which notes that the trial runs: before its end is noted
        if last < n_failed:
            close_trial(target, trial_id, "FAILED", "no longer finite")
        elif is_cut:
            close_trial(target, trial_id, "FINISHED", "stopped early at epoch 1")
        else:
            close_trial(target, trial_id, "FINISHED", "trained to the end")
    kept = output.study(name)
    kept.save_study_file(raw)
    run.log_text(kept.study_file.read_text(), "study.yaml")
    logged = open_study(target.uri, name)
    if logged.finished:
        trials = [trial.result() for trial in logged.trials]
        choice = select(trials, stage.select, stage.objectives)
        kept.save_selection({stage.name: choice.to_dict()})
        run.log_text(kept.selection.read_text(), "selection.json")
        run.mark([choice.chosen.trial_id], SELECTED)
    kept.save_tracking(target.uri, target.experiment_id)
    run.close("FINISHED")
    return open_study(target.uri, name)


def with_space(space, **model):
    """Return the raw study with another space, and other settings of the model."""
    raw = yaml.safe_load(yaml.safe_dump(RAW))
    raw["model"] |= model
    raw["search"]["space"] = space
    return raw


def call(*arguments):
    """Run a command in this process, and return its result."""
    # MLflow notes the store it was last pointed at in the environment; a user's is clean.
    return CliRunner(env={"MLFLOW_TRACKING_URI": None}).invoke(main, list(map(str, arguments)))


def data_of(report: str) -> dict:
    """Return the data that a report holds."""
    return json.loads(re.search(r'id="data">(.*?)</script>', report, re.DOTALL)[1])
