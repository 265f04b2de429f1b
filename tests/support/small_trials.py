"""Models that have learnt nothing, as their figures need them."""

import torch

from psvae_tune.config.trial import parse_trial_config
from psvae_tune.models.model import Model
from psvae_tune.models.registry import build_model
from psvae_tune.training.batches import PreparedData, prepare_data

SMALL = {
    "ae_encoding_n_channels": [4, 6],
    "ae_encoding_kernel_size": [5, 5],
    "ae_encoding_stride_size": [2, 5],
}
CPU = torch.device("cpu")


def build(session, model_class: str, n_latents: int, **settings) -> tuple[Model, PreparedData]:
    """Return a model that has learnt nothing, and its data."""
    raw = {"model_class": model_class, "n_ae_latents": n_latents, "ae_arch_json": SMALL}
    config = parse_trial_config({"model": raw | settings}, "test")
    data = prepare_data([session], config)
    return build_model(config.model, data.shape).eval(), data
