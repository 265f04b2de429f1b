"""The models of a study are built once before anything is trained."""

from collections.abc import Sequence

from psvae_tune.config.study import Study
from psvae_tune.data.session import Session
from psvae_tune.models.registry import build_model
from psvae_tune.training.batches import prepare_data


def check_buildable(study: Study, sessions: Sequence[Session]) -> None:
    """Build the models that a study fits, so that what cannot be built is found before training.

    Raises
    ------
    ConfigError, DataError
        If the recordings cannot be prepared, or a model cannot be built for them.
    """
    shape = prepare_data(sessions, study.base).shape
    counts = {study.base.model.n_ae_latents}
    for stage in study.stages:
        if "n_ae_latents" in stage.space:
            counts |= set(stage.space["n_ae_latents"].extremes)
    for n_latents in counts:
        build_model(study.base.with_params({"n_ae_latents": n_latents}).model, shape)
