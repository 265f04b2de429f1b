"""Score a fitted model, and log it and its figures to its run."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from psvae_tune.config.trial import TrialConfig
from psvae_tune.data.session import Session
from psvae_tune.files import write_bytes
from psvae_tune.models.model import Model
from psvae_tune.models.model_file import save_model
from psvae_tune.tracking.outbox import Outbox
from psvae_tune.tracking.trial_run import EpochMetrics, TrialRun
from psvae_tune.training.batches import PreparedData
from psvae_tune.training.final_metrics import final_metrics

if TYPE_CHECKING:
    from psvae_tune.results.figures.movies import MovieFormat
    from psvae_tune.results.figures.trial_files import FinishedTrial

logger = logging.getLogger(__name__)


def best_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return validation metrics under the names that they have at the best epoch."""
    return {
        f"best/{key.removeprefix('val/')}": value
        for key, value in metrics.items()
        if key.startswith("val/")
    }


def keep_model(
    model: Model,
    epoch: int,
    data: PreparedData,
    device: torch.device,
    run: TrialRun | Outbox,
    movies: "MovieFormat" = "mp4",
) -> dict[str, float]:
    """Score a fitted model, log it and its figures to a run, and return its metrics.

    Side effects: logs to the run.
    """
    # What draws takes half a second to import, which the first step of a trial need not wait for.
    from psvae_tune.results.figures.trial_files import FinishedTrial

    metrics = final_metrics(model, data, device)
    test = {key: value for key, value in metrics.items() if key.startswith("test/")}
    run.log_final(EpochMetrics.now(epoch, best_metrics(metrics) | test | {"best/epoch": epoch}))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        save_model(path, model, data.label_scaler, data.describe())
        run.log_folder(path.parent)
    finished = FinishedTrial(
        model, data, device, metrics, run.history(), epoch, model.config.n_anneal_epochs
    )
    _log_pictures(finished, run, movies)
    return metrics


def _log_pictures(trial: "FinishedTrial", run: TrialRun | Outbox, movies: "MovieFormat") -> None:
    """Log all figures and movies of a trial. Side effects: logs to the run.

    Metrics and weights are logged before, so a picture that cannot be made fails no trial.
    """
    from psvae_tune.results.figures.trial_files import make_files

    with TemporaryDirectory() as folder:
        for name, make in make_files(trial, movies):
            try:
                write_bytes(Path(folder) / name, make())
            except Exception as error:
                logger.warning("%s cannot be made: %s", name, error)
        run.log_folder(Path(folder))


def describe_session(session: Session) -> dict[str, str]:
    """Return the description of a recording that MLflow shows."""
    header = session.header
    profile = {
        "n_frames": header.n_frames,
        "n_clips": header.n_clips,
        "frame_shape": header.frame_shape,
        "labels": header.label_names,
    }
    return {
        "name": Path(header.path).name,
        "digest": session.digest[:16],
        "source_type": "local",
        "source": header.path,
        "profile": json.dumps(profile),
    }


def scaled_weights(config: TrialConfig, data: PreparedData) -> dict[str, float]:
    r"""Return the weight on the labels in a form that compares between recordings.

    .. math:: \alpha\, \sigma^2\, n_{labels} / n_{pixels}
    """
    shape, model = data.shape, config.model
    if model.label_weight is None:
        return {}
    n_pixels = shape.n_channels * shape.height * shape.width
    return {"alpha_normalised": model.label_weight * shape.n_labels / n_pixels}
