"""Latents of which one block is another one."""

import torch
from torch import Tensor

from psvae_tune.errors import ConfigError
from psvae_tune.models.model import Model


def with_labels(model: Model, mean: Tensor, labels: Tensor) -> Tensor:
    """Return latents that read out as other labels and are otherwise the same.

    Parameters
    ----------
    model
        The model of the latents.
    mean
        (frame, latent).
    labels
        (frame, label), standardised.

    Raises
    ------
    ConfigError
        If the model predicts no labels.
    """
    blocks = model.partition.split(model.to_partition(mean))
    supervised = model.latents_for_labels(labels)
    return model.from_partition(
        torch.cat([supervised, blocks.background, blocks.unsupervised], dim=1)
    )


def with_background(model: Model, mean: Tensor, background: Tensor) -> Tensor:
    """Return latents with other background latents.

    Parameters
    ----------
    model
        The model of the latents.
    mean
        (frame, latent).
    background
        (frame, background latent), or (background latent,) for all frames.

    Raises
    ------
    ConfigError
        If the model has no background latents.
    """
    if not model.partition.n_background:
        raise ConfigError("model", f"`{model.config.model_class}` has no background latents")
    blocks = model.partition.split(model.to_partition(mean))
    background = background.expand_as(blocks.background)
    return model.from_partition(
        torch.cat([blocks.supervised, background, blocks.unsupervised], dim=1)
    )
