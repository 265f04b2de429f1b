"""Every model is fitted to real recordings with the command of a user, from its own file."""

import math
from pathlib import Path

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner

from psvae_tune.cli.commands import main
from psvae_tune.config.metric_catalog import METRICS
from psvae_tune.config.model import MODEL_CONFIGS
from psvae_tune.data.session_file import read_session
from psvae_tune.results.fitted_model import FittedModel
from tests.support.tiny_study import command, finish

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

LAYERS = (
    "{ae_encoding_n_channels: [8, 16], ae_encoding_kernel_size: [5, 5], "
    "ae_encoding_stride_size: [4, 4]}"
)
ONE_TRIAL = "{space: {rng_seed_model: {grid_search: [0]}}, objectives: {val/frame_mse: min}}"
ANNEALING = {
    "vae": "vae.beta_anneal_epochs",
    "cond-vae": "vae.beta_anneal_epochs",
    "beta-tcvae": "beta_tcvae.beta_anneal_epochs",
    "ps-vae": "ps_vae.anneal_epochs",
    "msps-vae": "ps_vae.anneal_epochs",
}
CASES = [(name, False) for name in MODEL_CONFIGS] + [("cond-ae", True), ("cond-vae", True)]
ON_RAY = "msps-vae"
"""The model whose workers need all that a recording may hold: labels, and several sessions. The
others are trained in this process, since a study spends most of its time on starting Ray and a
worker."""


@pytest.mark.parametrize(("name", "is_encoder_conditional"), CASES)
def test_a_short_fit(root: Path, shared: Path, tmp_path: Path, name, is_encoder_conditional):
    recordings = [shared / "data/mirror_mouse/mirror_mouse_64.h5"]
    if MODEL_CONFIGS[name].needs_sessions:
        recordings = [shared / f"data/flies13/flies13_track{track}_96.h5" for track in range(2)]
    settings = ["training.max_n_epochs=3", f"model.ae_arch_json={LAYERS}", f"search={ONE_TRIAL}"]
    if name in ANNEALING:
        settings.append(f"model.{ANNEALING[name]}=1")
    if is_encoder_conditional:
        settings.append("model.conditional_encoder=true")
    file = {"ps-vae": "ps_vae_published"}.get(name, name.replace("-", "_"))
    arguments = ["run", str(root / "search_spaces" / f"{file}.yaml")]
    arguments += [part for path in recordings for part in ("--data", str(path))]
    arguments += [part for setting in settings for part in ("--set", setting)]
    arguments += ["--output", str(tmp_path), "--name", "short"]
    if name == ON_RAY:
        finish(command(tmp_path, *arguments))
    else:
        result = CliRunner().invoke(main, [*arguments, "--inline"], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name(file.replace("_", "-"))
    (run,) = client.search_runs([experiment.experiment_id], "tags.`psvae_tune.kind` = 'trial'")
    assert run.info.status == "FINISHED"
    found = run.data.metrics
    assert all(math.isfinite(value) for value in found.values())
    n_sessions = len(recordings)
    offered = MODEL_CONFIGS[name].capabilities | {"recorded_labels"}
    offered |= {"sessions"} if n_sessions > 1 else set()
    for metric, needs in ((key, METRICS[key].requires) for key in METRICS):
        if needs <= offered:
            assert f"test/{metric}" in found, metric
    assert ("test/frame_mse/session_1" in found) == (n_sessions > 1)
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert history[-1].value < history[0].value

    session = read_session(recordings[-1], needs_labels=True)
    path = client.download_artifacts(run.info.run_id, "model.pt", str(tmp_path))
    fitted = FittedModel.load(path)
    latents = fitted.transform(session, n_sessions - 1)
    assert np.isfinite(latents).all()
    assert latents.shape == (session.header.n_frames, len(fitted.latent_names))
    if "labels_hat" in MODEL_CONFIGS[name].capabilities:
        labels = fitted.predict_labels(session, n_sessions - 1)
        assert labels.shape == session.labels.shape
        assert np.isfinite(labels).all()
