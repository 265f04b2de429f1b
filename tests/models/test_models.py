"""What holds for every model, whatever its objective."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from psvae_tune.errors import DataError
from psvae_tune.models.batch import Batch
from psvae_tune.models.losses import (
    decompose_kl,
    gaussian_nll,
    kl_to_std_normal,
    mean_squared_error,
)
from psvae_tune.models.model import Model
from psvae_tune.models.registry import build_model
from tests.support.small_models import SHAPE, VARIANTS, make_batch, make_config

ROWS = {
    "ae": {"frame_mse": 1},
    "ae linear": {"frame_mse": 1},
    "cond-ae": {"frame_mse": 1},
    "cond-ae conditional encoder": {"frame_mse": 1},
    "cond-ae-msp": {"frame_mse": 1, "label_mse": 0.1, "projection": 0.1},
    "vae": {"frames_nll": 1, "kl": 0.5},
    "cond-vae": {"frames_nll": 1, "kl": 0.5},
    "cond-vae conditional encoder": {"frames_nll": 1, "kl": 0.5},
    "beta-tcvae": {"frames_nll": 1, "icmi": 0.5, "tc": 1.5, "dwkl": 0.5},
    "ps-vae": {
        "frames_nll": 1,
        "labels_nll": 10,
        "supervised_kl": 1,
        "icmi": 0.5,
        "tc": 1.0,
        "dwkl": 0.5,
    },
}
ROWS["msps-vae"] = {**ROWS["ps-vae"], "triplet": 5}


def make_rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(variant: str) -> Model:
    return build_model(make_config(**VARIANTS[variant]), SHAPE)


def test_rows_of_the_objective(variant: str, model: Model) -> None:
    terms = model.terms(make_batch(), 0.5, make_rng())
    assert {name: term.weight for name, term in terms.terms.items()} == ROWS[variant]
    loss = sum(weight * terms.values()[name] for name, weight in ROWS[variant].items())
    torch.testing.assert_close(terms.loss.detach(), loss)


def test_the_decoder_variance_is_that_of_the_frames_alone(variant: str, model: Model) -> None:
    """A prediction that is scored twice differs by the errors of the valid pixels only."""
    if not model.is_variational:
        assert not hasattr(model.config, "decoder_variance")
        return
    mask = (torch.rand(make_batch().frames.shape, generator=make_rng()) > 0.3).float()
    batch = replace(make_batch(), frame_mask=mask)
    other = build_model(make_config(**VARIANTS[variant], decoder_variance=0.25), SHAPE)
    first, second = (each.terms(batch, 1.0, make_rng()).values() for each in (model, other))
    predicted = other.terms(batch, 1.0, make_rng()).prediction.frames
    log_density = torch.distributions.Normal(predicted, 0.5).log_prob(batch.frames)
    n_pixels = batch.frames[0].numel()
    expected = -n_pixels * log_density[mask > 0].mean()
    torch.testing.assert_close(second.pop("frames_nll"), expected.detach())
    del first["frames_nll"]
    torch.testing.assert_close(first, second)


def test_gradients_reach_every_parameter_and_never_the_rotation(model: Model) -> None:
    model.terms(make_batch(), 1.0, make_rng()).loss.backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert not without
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any("rotation" in name for name, _ in model.named_parameters())
    assert not any(buffer.requires_grad for buffer in model.buffers())


def test_every_session_layer_learns() -> None:
    model = build_model(make_config("msps-vae", fit_sess_io_layers=True), SHAPE)
    model.terms(make_batch(), 1.0, make_rng()).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_seed_decides_weights_and_rotation(variant: str) -> None:
    def build(seed: int) -> dict[str, torch.Tensor]:
        config = make_config(**VARIANTS[variant], rng_seed_model=seed)
        return build_model(config, SHAPE).state_dict()

    first, again, other = build(0), build(0), build(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name in first if name.endswith(("weight", "rotation"))]
    assert drawn
    for name in drawn:
        # The readout of the labels begins at the identity, whatever the seed.
        assert torch.equal(first[name], other[name]) == name.startswith("readout")


def test_global_random_state_is_left_alone(variant: str) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    model = build_model(make_config(**VARIANTS[variant]), SHAPE)
    model.terms(make_batch(), 1.0, make_rng())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002


def test_same_generator_same_numbers(model: Model) -> None:
    batch = make_batch()
    first, again, other = (model.terms(batch, 1.0, make_rng(s)).loss for s in (1, 1, 2))
    assert first == again
    assert (first != other) == model.is_variational


def test_prediction_never_samples(model: Model) -> None:
    batch = make_batch()
    given = batch.frames, batch.labels, batch.labels_sc, batch.session_index
    first, again = model.predict(*given), model.predict(*given)
    assert torch.equal(first.frames, again.frames)
    unsampled = model.terms(batch, 1.0, None).prediction
    torch.testing.assert_close(first.frames, unsampled.frames.detach())
    torch.testing.assert_close(first.mean, unsampled.mean.detach())
    assert (first.logvar is not None) == model.is_variational
    assert (first.labels is not None) == ("labels_hat" in model.config.capabilities)


def test_arrays_are_predicted_like_tensors(model: Model) -> None:
    batch = make_batch()
    given = batch.frames, batch.labels, batch.labels_sc, batch.session_index
    arrays = [np.asarray(value, dtype=np.float64) for value in given]  # type: ignore[arg-type]
    torch.testing.assert_close(model.predict(*arrays).frames, model.predict(*given).frames)


def test_decoder_and_decomposition_use_the_same_draw() -> None:
    model = build_model(make_config("beta-tcvae"), SHAPE)
    batch = make_batch()
    terms, q = model.terms(batch, 1.0, make_rng()), model.encode(batch.frames)
    assert q.logvar is not None
    z = q.sample(make_rng())
    kl = decompose_kl(z, q.mean, q.logvar)
    torch.testing.assert_close(terms.terms["tc"].value, kl.tc)
    nll = gaussian_nll(batch.frames, model.decode(z))
    torch.testing.assert_close(terms.terms["frames_nll"].value, nll)


def test_terms_of_the_ps_vae_are_of_their_blocks() -> None:
    model = build_model(make_config("msps-vae"), SHAPE)
    batch = make_batch()
    values = model.terms(batch, 1.0, None).values()
    q = model.encode(batch.frames)
    assert q.logvar is not None
    assert batch.labels is not None
    kl = kl_to_std_normal(q.mean[:, :4], q.logvar[:, :4])
    torch.testing.assert_close(values["supervised_kl"], kl.detach())
    decomposed = decompose_kl(q.mean[:, 6:], q.mean[:, 6:], q.logvar[:, 6:])
    torch.testing.assert_close(values["dwkl"], decomposed.dwkl.detach())
    nll = gaussian_nll(batch.labels, q.mean[:, :4])
    torch.testing.assert_close(values["labels_nll"], nll.detach())


def test_background_latents_take_the_triplet_loss_alone() -> None:
    model = build_model(make_config("msps-vae", **{"ps_vae.alpha": 0.0}), SHAPE)
    terms = model.terms(make_batch(), 1.0, make_rng()).terms
    mean = model.terms(make_batch(), 1.0, make_rng()).prediction.mean
    assert terms["triplet"].value > 0
    batch = make_batch()
    q = model.encode(batch.frames)
    leaf = q.mean.detach().requires_grad_()
    prediction = replace(model.terms(batch, 1.0, None).prediction, mean=leaf)
    model.objective(batch, prediction, leaf, make_rng())["triplet"].value.backward()
    assert leaf.grad is not None
    assert leaf.grad[:, 4:6].any()
    assert not leaf.grad[:, :4].any()
    assert not leaf.grad[:, 6:].any()
    assert mean.shape == (10, 8)


def test_batch_of_one_session_has_no_triplet_loss() -> None:
    model = build_model(make_config("msps-vae"), SHAPE)
    batch = replace(make_batch(), session_index=torch.zeros(10, dtype=torch.int64))
    assert model.terms(batch, 1.0, make_rng()).values()["triplet"] == 0


def test_masked_entries_change_nothing(model: Model) -> None:
    batch = make_batch()
    assert batch.labels is not None
    frame_mask = (torch.rand(batch.frames.shape, generator=make_rng()) > 0.3).float()
    label_mask = (torch.rand(batch.labels.shape, generator=make_rng()) > 0.3).float()

    def score(target: Batch) -> torch.Tensor:
        # The model sees the same frames; only what it is compared with differs.
        said = model.terms(batch, 1.0, None).prediction
        rows = model.objective(target, said, said.mean, make_rng())
        return torch.stack([term.value for term in rows.values()])

    masked = replace(batch, frame_mask=frame_mask, label_mask=label_mask)
    spoilt = replace(
        masked,
        frames=torch.where(frame_mask > 0, batch.frames, 7.0),
        labels=torch.where(label_mask > 0, batch.labels, torch.nan),
    )
    torch.testing.assert_close(score(masked), score(spoilt))
    assert not torch.allclose(score(masked), score(batch))


def test_models_can_be_copied(model: Model) -> None:
    twin = copy.deepcopy(model)
    batch = make_batch()
    assert twin.terms(batch, 1.0, None).loss == model.terms(batch, 1.0, None).loss


def test_conditional_models_need_what_they_are_conditioned_on(variant: str, model: Model) -> None:
    batch = make_batch()
    if model.is_conditional:
        with pytest.raises(DataError, match="labels"):
            model.predict(batch.frames, labels_sc=batch.labels_sc)
        other = torch.zeros_like(batch.labels)  # type: ignore[arg-type]
        assert not torch.equal(
            model.predict(batch.frames, batch.labels, batch.labels_sc).frames,
            model.predict(batch.frames, other, batch.labels_sc).frames,
        )
    if model.config.conditional_encoder:
        with pytest.raises(DataError, match="labels_sc"):
            model.predict(batch.frames, batch.labels)


def test_linear_autoencoder_approaches_principal_components() -> None:
    shape = replace(SHAPE, height=3, width=4)
    model = build_model(make_config("ae", model_type="linear", n_ae_latents=3), shape)
    frames = make_batch(shape, n_frames=60).frames
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = model.terms(Batch(frames), 1.0, None).loss
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    centred = frames.flatten(1) - frames.flatten(1).mean(dim=0)
    left = torch.linalg.svdvals(centred)[3:].square().sum() / frames.numel()
    found = mean_squared_error(frames, model.predict(frames).frames)
    torch.testing.assert_close(found, left, rtol=0.01, atol=0)


def test_no_unsupervised_latents_are_allowed() -> None:
    model = build_model(make_config("ps-vae", n_ae_latents=4), SHAPE)
    values = model.terms(make_batch(), 1.0, make_rng()).values()
    assert values["tc"] == values["icmi"] == values["dwkl"] == 0
