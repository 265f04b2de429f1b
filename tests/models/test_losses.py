import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from psvae_tune.models.losses import (
    LOG_2PI,
    decompose_kl,
    gaussian_nll,
    kl_to_std_normal,
    mean_squared_error,
    projection_error,
    triplet_loss,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def make_posterior(n_frames: int, n_latents: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    mean, logvar, noise = normal(3, n_frames, n_latents, seed=seed)
    return mean + (0.5 * logvar).exp() * noise, mean, logvar


def log_density(z: float, mean: float, logvar: float) -> float:
    return -0.5 * ((z - mean) ** 2 / math.exp(logvar) + logvar + math.log(2 * math.pi))


def decompose_by_loops(z: Tensor, mean: Tensor, logvar: Tensor) -> tuple[float, float, float]:
    n_frames, n_latents = z.shape
    icmi = tc = dwkl = 0.0
    for f in range(n_frames):
        joint = 0.0
        marginals = [0.0] * n_latents
        for g in range(n_frames):
            log_q = [
                log_density(float(z[f, d]), float(mean[g, d]), float(logvar[g, d]))
                for d in range(n_latents)
            ]
            joint += math.exp(sum(log_q)) / n_frames
            marginals = [m + math.exp(q) / n_frames for m, q in zip(marginals, log_q, strict=True)]
            if g == f:
                conditional = sum(log_q)
        product = sum(math.log(m) for m in marginals)
        prior = sum(log_density(float(z[f, d]), 0.0, 0.0) for d in range(n_latents))
        icmi += (conditional - math.log(joint)) / n_frames
        tc += (math.log(joint) - product) / n_frames
        dwkl += (product - prior) / n_frames
    return icmi, tc, dwkl


@pytest.mark.parametrize("n_latents", [1, 2, 3])
def test_decomposition_is_that_of_nested_loops(n_latents: int) -> None:
    posterior = make_posterior(6, n_latents)
    expected = decompose_by_loops(*posterior)
    torch.testing.assert_close(
        torch.stack(decompose_kl(*posterior)), torch.tensor(expected, dtype=torch.float64)
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 9), st.integers(0, 5), st.integers(0, 1000), st.floats(0.01, 20))
def test_decomposition_adds_up(n_frames: int, n_latents: int, seed: int, scale: float) -> None:
    z, mean, logvar = (scale * values for values in make_posterior(n_frames, n_latents, seed))
    log_q = Normal(mean, (0.5 * logvar).exp()).log_prob(z).sum(dim=1)
    log_p = Normal(0.0, 1.0).log_prob(z).sum(dim=1)
    torch.testing.assert_close(sum(decompose_kl(z, mean, logvar)), (log_q - log_p).mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_frames", [7, 200])
def test_total_correlation_of_one_latent_is_exactly_zero(
    n_frames: int, dtype: torch.dtype
) -> None:
    z, mean, logvar = (values.to(dtype) for values in make_posterior(n_frames, 1))
    assert decompose_kl(z, mean, logvar).tc == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_latents", [2, 6, 17])
def test_collapsed_posterior_has_neither_correlation_nor_information(
    n_latents: int, dtype: torch.dtype
) -> None:
    mean, logvar = (row.expand(200, -1).to(dtype) for row in normal(2, 1, n_latents))
    z = mean + normal(200, n_latents, seed=1).to(dtype)
    kl = decompose_kl(z, mean, logvar)
    assert kl.tc == 0
    assert kl.icmi == 0


def test_decomposition_of_no_latents_is_zero() -> None:
    assert torch.stack(decompose_kl(*make_posterior(5, 0))).tolist() == [0, 0, 0]


def test_order_of_frames_and_latents_is_irrelevant() -> None:
    posterior = make_posterior(8, 4)
    frames = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    expected = torch.stack(decompose_kl(*posterior))
    for shuffled in (
        [values[frames] for values in posterior],
        [values[:, [2, 0, 3, 1]] for values in posterior],
    ):
        torch.testing.assert_close(torch.stack(decompose_kl(*shuffled)), expected)


def test_values_compare_across_numbers_of_frames() -> None:
    # Independent latents: TC is 0 whatever n is, where log n dropped would show as -(D-1) log n.
    for n_frames in (100, 400):
        z, mean, logvar = make_posterior(n_frames, 3)
        assert abs(decompose_kl(z, mean, logvar + 2).tc) < 0.3


def test_decomposition_has_the_gradient_of_the_sum() -> None:
    posterior = [values.requires_grad_() for values in make_posterior(5, 3)]
    assert torch.autograd.gradcheck(lambda *p: torch.stack(decompose_kl(*p)), posterior)


def test_kl_is_that_of_torch() -> None:
    _, mean, logvar = make_posterior(9, 4)
    expected = kl_divergence(Normal(mean, (0.5 * logvar).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_std_normal(mean, logvar), expected.sum(dim=1).mean())
    assert kl_to_std_normal(torch.zeros(3, 2), torch.zeros(3, 2)) == 0


@pytest.mark.parametrize("variance", [1.0, 0.04, 9.0])
def test_gaussian_nll_is_that_of_torch(variance: float) -> None:
    target, prediction = normal(2, 5, 1, 3, 4)
    log_density = Normal(prediction, math.sqrt(variance)).log_prob(target)
    expected = -log_density.sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(gaussian_nll(target, prediction, variance=variance), expected)


def test_unit_variance_is_the_published_likelihood() -> None:
    target, prediction = normal(2, 5, 1, 3, 4)
    torch.testing.assert_close(
        gaussian_nll(target, prediction),
        0.5 * 12 * (mean_squared_error(target, prediction) + LOG_2PI),
    )


@pytest.mark.parametrize("term", [mean_squared_error, gaussian_nll])
def test_full_mask_changes_nothing(term: object) -> None:
    target, prediction = normal(2, 6, 5)
    assert callable(term)
    torch.testing.assert_close(
        term(target, prediction, torch.ones_like(target)), term(target, prediction)
    )


@pytest.mark.parametrize("term", [mean_squared_error, gaussian_nll])
@pytest.mark.parametrize("hidden", [1e30, math.nan, math.inf])
def test_masked_entries_reach_neither_loss_nor_gradient(term: object, hidden: float) -> None:
    assert callable(term)
    target, prediction = normal(2, 6, 5)
    mask = (normal(6, 5, seed=1) > 0).double()
    results = []
    for value in (0.0, hidden):
        guess = prediction.clone().requires_grad_()
        loss = term(torch.where(mask > 0, target, value), guess, mask)
        loss.backward()
        assert guess.grad is not None
        assert (guess.grad[mask == 0] == 0).all()
        results.append((loss.detach(), guess.grad))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("term", [mean_squared_error, gaussian_nll])
def test_masked_fraction_does_not_rescale(term: object) -> None:
    # Every entry has the same error, so hiding any of them must not change the loss.
    assert callable(term)
    target = normal(6, 5)
    mask = (normal(6, 5, seed=1) > 0.5).double()
    torch.testing.assert_close(term(target, target + 2, mask), term(target, target + 2))


def test_nothing_valid_has_no_error() -> None:
    target, prediction = normal(2, 6, 5)
    assert mean_squared_error(target, prediction, torch.zeros_like(target)) == 0


def triplets_by_loops(mean: Tensor, sessions: list[int]) -> float:
    """Return the loss averaged over every triplet of every anchor: what draws estimate."""
    per_anchor = []
    for a, session in enumerate(sessions):
        positives = [p for p in range(len(mean)) if sessions[p] == session and p != a]
        negatives = [q for q in range(len(mean)) if sessions[q] != session]
        losses = [
            max(0.0, math.dist(mean[a], mean[p]) - math.dist(mean[a], mean[q]) + 1.0)
            for p, q in itertools.product(positives, negatives)
        ]
        if losses:
            per_anchor.append(sum(losses) / len(losses))
    return sum(per_anchor) / len(per_anchor)


@pytest.mark.parametrize(
    "sessions", [[0, 0, 0, 1, 1], [2, 0, 1, 2, 0, 1], [0, 1, 2, 3, 4, 0, 1, 2, 3], [5, 5, 9]]
)
def test_triplet_loss_estimates_that_of_nested_loops(sessions: list[int]) -> None:
    mean, rng = normal(len(sessions), 2), torch.Generator().manual_seed(0)
    index = torch.tensor(sessions)
    draws = torch.stack([triplet_loss(mean, index, rng) for _ in range(3000)])
    error = draws.std() / math.sqrt(len(draws))
    assert abs(draws.mean() - triplets_by_loops(mean, sessions)) < 4 * error + 1e-12


def test_triplet_loss_of_a_rhombus_is_known() -> None:
    # Sessions on the two diagonals: one possible positive, and every negative 0.5 away.
    corners = torch.tensor([[0.3, 0.0], [-0.3, 0.0], [0.0, 0.4], [0.0, -0.4]])
    sessions = torch.tensor([0, 0, 1, 1])
    loss = triplet_loss(corners, sessions, torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss, torch.tensor(((0.6 - 0.5 + 1) + (0.8 - 0.5 + 1)) / 2))
    wider = triplet_loss(corners, sessions, torch.Generator().manual_seed(0), margin=2.0)
    torch.testing.assert_close(wider, loss + 1)


def test_triplet_loss_vanishes_where_sessions_are_apart() -> None:
    index = torch.tensor([0, 0, 1, 1, 2, 2])
    mean = 10.0 * index[:, None].double() + 0.1 * normal(6, 2)
    assert triplet_loss(mean, index, torch.Generator().manual_seed(0)) == 0


def test_triplet_loss_is_decided_by_its_generator() -> None:
    mean, index = normal(20, 3), torch.arange(20) % 4

    def draw(seed: int) -> Tensor:
        return triplet_loss(mean, index, torch.Generator().manual_seed(seed))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@pytest.mark.parametrize("sessions", [[3, 3, 3], [0, 1, 2], [0]])
def test_batch_without_triplets_has_no_loss_but_a_gradient(sessions: list[int]) -> None:
    mean = normal(len(sessions), 2).requires_grad_()
    loss = triplet_loss(mean, torch.tensor(sessions), torch.Generator().manual_seed(0))
    loss.backward()
    assert loss == 0
    assert mean.grad is not None
    assert (mean.grad == 0).all()


def test_projection_error_is_what_the_subspace_misses() -> None:
    projection = torch.eye(4, dtype=torch.float64)[:2]
    latents = normal(7, 4)
    expected = latents[:, 2:].square().sum() / latents.numel()
    torch.testing.assert_close(projection_error(latents, projection), expected)
    assert projection_error(latents[:, [0, 1, 0, 1]] * projection.sum(0), projection) == 0
