"""Convolutions in another number format: what changes, and what must not."""

import pytest
import torch

from psvae_tune.models.batch import DataShape
from psvae_tune.models.layers.blocks import train_convolutions_in
from psvae_tune.models.registry import build_model
from tests.support.architectures import ARCHITECTURES
from tests.support.small_models import VARIANTS, make_batch, make_config

CASES = {
    **{f"ps-vae, {name}": ("ps-vae", layers, {}) for name, layers in ARCHITECTURES.items()},
    **{
        name: (str(variant["model_class"]), None, variant)
        for name, variant in VARIANTS.items()
        if "model_type" not in variant
    },
    "session layers": ("ps-vae", None, {"fit_sess_io_layers": True}),
}
SHAPE = DataShape(n_channels=1, height=64, width=72, n_labels=4, n_sessions=2)


def build(case: str):
    name, layers, settings = CASES[case]
    return build_model(
        make_config(architecture=layers, **{"model_class": name, **settings}), SHAPE
    )


def step(model, rng_seed=0):
    rng = torch.Generator().manual_seed(rng_seed)
    terms = model.terms(make_batch(SHAPE), 1.0, rng)
    terms.loss.backward()
    return terms


@pytest.mark.parametrize("case", CASES)
def test_a_step_in_bfloat16_is_nearly_that_in_float32(case):
    exact, reduced = build(case).train(), build(case).train()
    train_convolutions_in(torch.bfloat16, reduced)
    wanted, found = step(exact), step(reduced)
    assert float(found.loss.detach()) == pytest.approx(float(wanted.loss.detach()), rel=0.02)
    assert not torch.equal(found.prediction.mean, wanted.prediction.mean)
    # Of the whole gradient: where a single one is nearly zero, rounding is all there is of it.
    directions = [
        torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])
        for model in (exact, reduced)
    ]
    assert torch.cosine_similarity(*directions, dim=0) > 0.99


@pytest.mark.parametrize("case", ["ps-vae", "msps-vae", "ps-vae, batch norm"])
def test_weights_posterior_and_terms_stay_in_float32(case):
    model = build(case).train()
    train_convolutions_in(torch.bfloat16, model)
    terms = step(model)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    prediction = terms.prediction
    tensors = [prediction.frames, prediction.mean, prediction.logvar, *terms.values().values()]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


def test_what_is_scored_and_kept_is_computed_in_float32():
    exact, reduced = build("ps-vae").eval(), build("ps-vae").eval()
    train_convolutions_in(torch.bfloat16, reduced)
    frames = make_batch(SHAPE).frames
    wanted, found = exact.predict(frames), reduced.predict(frames)
    assert torch.equal(wanted.frames, found.frames)
    assert torch.equal(wanted.mean, found.mean)
