import math

import pytest
import torch

from psvae_tune.errors import ConfigError
from psvae_tune.models.label_planes import label_planes
from psvae_tune.models.latent_edits import with_labels
from psvae_tune.models.latents import Partition, Posterior, draw_rotation
from psvae_tune.models.registry import build_model
from tests.support.small_models import SHAPE, make_batch, make_config


def test_blocks_lie_supervised_background_unsupervised() -> None:
    partition = Partition(n_supervised=2, n_background=3, n_unsupervised=1)
    blocks = partition.split(torch.arange(6)[None])
    assert [block.tolist() for block in blocks] == [[[0, 1]], [[2, 3, 4]], [[5]]]
    assert partition.n_latents == 6


def test_draws_have_the_variance_of_logvar() -> None:
    logvar = torch.tensor([-2.0, 0.0, math.log(4.0)]).expand(100_000, -1)
    mean = torch.tensor([1.0, 0.0, -3.0]).expand(100_000, -1)
    z = Posterior(mean, logvar, (1, 1)).sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.var(dim=0), logvar[0].exp(), rtol=0.03, atol=0)
    torch.testing.assert_close(z.mean(dim=0), mean[0], rtol=0, atol=0.03)


def test_draws_are_decided_by_their_generator() -> None:
    q = Posterior(torch.zeros(3, 2), torch.zeros(3, 2), (1, 1))
    draws = [q.sample(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert q.sample(None) is q.mean


@pytest.mark.parametrize("n_latents", [1, 2, 12])
def test_rotation_is_orthogonal(n_latents: int) -> None:
    rotation = draw_rotation(n_latents, torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(n_latents))


def test_rotations_have_no_preferred_direction() -> None:
    rng = torch.Generator().manual_seed(0)
    mean = torch.stack([draw_rotation(3, rng) for _ in range(4000)]).mean(dim=0)
    assert mean.abs().max() < 0.05


@pytest.mark.parametrize("model_class", ["ps-vae", "msps-vae", "cond-ae-msp"])
def test_set_labels_are_read_out_again(model_class: str) -> None:
    model = build_model(make_config(model_class), SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator()))
    batch = make_batch()
    assert batch.labels is not None
    mean = model.encode(batch.frames).mean
    changed = with_labels(model, mean, batch.labels)
    labels = model.predict_labels(changed)
    assert labels is not None
    torch.testing.assert_close(labels, batch.labels, atol=1e-4, rtol=1e-4)
    before, after = (model.partition.split(model.to_partition(z)) for z in (mean, changed))
    torch.testing.assert_close(after.unsupervised, before.unsupervised, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.background, before.background)
    torch.testing.assert_close(
        model.from_partition(model.to_partition(mean)), mean, atol=1e-4, rtol=1e-4
    )
    assert model.decode(changed).shape == batch.frames.shape


def test_model_without_label_readout_says_so() -> None:
    model = build_model(make_config("vae"), SHAPE)
    assert model.predict_labels(torch.zeros(1, 8)) is None
    with pytest.raises(ConfigError, match="`vae` has no latents for labels"):
        with_labels(model, torch.zeros(1, 8), torch.zeros(1, 4))


def test_planes_hold_one_pixel_a_point() -> None:
    # All x, then all y; halves round to even, and points outside move to the border.
    labels_sc = torch.tensor([[3.0, -7.0, 1.0, 99.0], [2.5, math.nan, 0.49, 3.5]])
    planes = label_planes(labels_sc, height=5, width=6)
    assert planes.shape == (2, 2, 5, 6)
    assert planes.sum(dim=(2, 3)).tolist() == [[1, 1], [1, 1]]
    assert planes[0, 0, 1, 3] == planes[0, 1, 4, 0] == 1
    assert planes[1, 0, 0, 2] == planes[1, 1, 4, 0] == 1
