"""All models by name, and the function that builds one."""

from collections.abc import Iterator

import torch

from psvae_tune.config.model import ModelConfig, VariationalConfig
from psvae_tune.errors import ConfigError
from psvae_tune.models.ae import AE, CondAE
from psvae_tune.models.batch import DataShape
from psvae_tune.models.latents import Partition
from psvae_tune.models.layers.networks import NETS
from psvae_tune.models.model import Model
from psvae_tune.models.msp import CondAEMSP
from psvae_tune.models.ps_vae import PSVAE, MultisessionPSVAE
from psvae_tune.models.vae import VAE, BetaTCVAE, CondVAE

MODELS: dict[str, type[Model]] = {
    "ae": AE,
    "cond-ae": CondAE,
    "cond-ae-msp": CondAEMSP,
    "vae": VAE,
    "cond-vae": CondVAE,
    "beta-tcvae": BetaTCVAE,
    "ps-vae": PSVAE,
    "msps-vae": MultisessionPSVAE,
}


def build_model(config: ModelConfig, shape: DataShape) -> Model:
    """Build a model, its weights and its rotation drawn from ``rng_seed_model`` alone.

    Parameters
    ----------
    config
        Settings of the model.
    shape
        Sizes of the data that the model is built for.

    Raises
    ------
    ConfigError
        If the settings and the data do not fit together.
    """
    if problems := list(_misfits(config, shape)):
        raise ConfigError("model", problems)
    # Networks draw their weights from the global generator, whose state is restored afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.rng_seed_model)
        return MODELS[config.model_class](config, shape)


def _misfits(config: ModelConfig, shape: DataShape) -> Iterator[str]:
    name = config.model_class
    if config.needs_labels and not shape.n_labels:
        yield f"`{name}` needs labels, got recordings without"
    partition = Partition.of(config, shape.n_labels)
    if partition.n_unsupervised < 0:
        blocks = f"{partition.n_supervised} labels"
        if partition.n_background:
            blocks += f" and n_background {partition.n_background}"
        yield f"n_ae_latents must be at least that of {blocks}, got {config.n_ae_latents}"
    if config.conditional_encoder and shape.n_labels % 2:
        yield (
            "conditional_encoder needs an x and a y of every point, "
            f"got an odd number of labels ({shape.n_labels})"
        )
    if config.needs_sessions and shape.n_sessions < 2:
        yield f"`{name}` needs at least 2 sessions, got {shape.n_sessions}"
    elif config.n_sessions_in_batch > shape.n_sessions:
        yield (
            f"n_sessions_per_batch must be at most the {shape.n_sessions} sessions there are, "
            f"got {config.n_sessions_in_batch}"
        )
    if isinstance(config, VariationalConfig) and config.decoder_variance == "auto":
        yield "decoder_variance must be a number when a model is built, got 'auto'"
    if config.fit_sess_io_layers and not NETS[config.model_type].has_session_layers:
        yield f"fit_sess_io_layers needs convolutions, got model_type `{config.model_type}`"
