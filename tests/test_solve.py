"""The verb: shapes, steps, costs, and operators of every kind."""

import math

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import agreement, gaussian_posterior
from tests.registry import WALKS
from tests.solve_problems import FIELD, MASK, NonLinear, UserOperator, Y
from tweedie_inverse import operators as ops


@pytest.mark.parametrize("walk", WALKS)
def test_shapes_counts_and_dtype(walk):
    for dtype in (torch.float32, torch.float64):
        posterior = ti.solve(
            Y[:2].to(dtype), MASK, FIELD, method=WALKS[walk](), num_samples=3, steps=4
        )
        assert posterior.samples.shape == (2, 3, 1, 8, 8)
        assert posterior.samples.dtype == dtype
        assert posterior.mean.shape == posterior.std.shape == (2, 1, 8, 8)
        assert posterior.quantile(0.05).shape == (2, 1, 8, 8)
        assert posterior.diagnostics.residual_chi_square.shape == (2, 3)
        assert posterior.stats.denoiser_calls == 4
        # A population sees a mask mode by mode, and applies no operator at all.
        assert posterior.stats.operator_calls >= (0 if WALKS[walk]().is_population else 4)
        assert posterior.stats.steps == 4


def test_one_measurement_without_batch_axis():
    single = ti.solve(Y[0], MASK, FIELD, num_samples=3, steps=3)
    batch = ti.solve(Y[:1], MASK, FIELD, num_samples=3, steps=3)
    assert single.samples.shape == (3, 1, 8, 8)
    assert single.mean.shape == (1, 8, 8)
    assert torch.equal(single.samples, batch.samples[0])


def test_iterate_is_the_loop_of_solve():
    steps = list(ti.iterate(Y[:2], MASK, FIELD, num_samples=2, steps=6))
    assert [step.level.index for step in steps] == list(range(6))
    assert steps[-1].level.sigma_next == 0
    assert steps[0].info.denoised.shape == (4, 1, 8, 8)
    samples = ti.solve(Y[:2], MASK, FIELD, num_samples=2, steps=6).samples
    torch.testing.assert_close(steps[-1].x.reshape(samples.shape), samples)


def test_callback_sees_every_step_of_every_chunk():
    seen = []
    ti.solve(
        Y[:3], MASK, FIELD, num_samples=2, steps=3, batch_size=4, callback=lambda s: seen.append(s)
    )
    assert [(step.walkers, step.level.index) for step in seen] == [
        *(((0, 4), index) for index in range(3)),
        *(((4, 6), index) for index in range(3)),
    ]
    assert seen[0].total == 6


def test_auto_says_what_it_chose():
    linear = ti.solve(Y[0], MASK, FIELD, num_samples=1, steps=1)
    assert linear.stats.method == "decoupled"
    assert "linear operator" in linear.stats.reason
    network = ti.priors.NetworkPrior(Shrink(), "x0", shape=(1, 8, 8))
    guessed = ti.solve(Y[0].float(), MASK, network, num_samples=1, steps=1)
    assert "not measured" in guessed.stats.reason


class Shrink(torch.nn.Module):
    """A stand-in network."""

    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, label):
        return self.factor * x / (1 + label.reshape(-1, 1, 1, 1) ** 2)


def test_noise_of_the_call_overrides_the_operator():
    bare = ops.Mask(MASK.mask)
    given = ti.solve(Y[0], bare, FIELD, noise=0.1, num_samples=2, steps=3).samples
    model = ti.solve(Y[0], bare, FIELD, noise=ops.GaussianNoise(0.1), num_samples=2, steps=3)
    own = ti.solve(Y[0], MASK, FIELD, num_samples=2, steps=3).samples
    assert torch.equal(given, own)
    assert torch.equal(model.samples, own)


def test_unobserved_entries_of_y_do_not_matter():
    junk = torch.where(MASK.mask, Y[0], torch.full_like(Y[0], math.nan))
    clean = ti.solve(Y[0], MASK, FIELD, num_samples=2, steps=3)
    dirty = ti.solve(junk, MASK, FIELD, num_samples=2, steps=3)
    assert torch.equal(clean.samples, dirty.samples)
    assert torch.equal(clean.diagnostics.residual_chi_square, dirty.diagnostics.residual_chi_square)


def test_a_users_own_operator_goes_through_solve_exactly():
    operator = UserOperator()
    y = operator.measure(FIELD.draw(1, seed=1)[0], seed=2)
    posterior = ti.solve(y, operator, FIELD, num_samples=2000, steps=10)
    assert agreement(posterior.samples, gaussian_posterior(FIELD, operator, y, 0.05)).worst_z < 5


@pytest.mark.parametrize("walk", WALKS)
def test_one_operator_an_image_equals_one_solve_an_image(walk):
    noise = ops.GaussianNoise(0.1)
    masks = [ops.Mask(ops.random_mask((1, 8, 8), 0.4, seed=i), noise=noise) for i in range(3)]
    operator = ops.per_image(masks)
    y = operator.measure(FIELD.draw(3, seed=1), seed=2)
    options = {"method": WALKS[walk](), "num_samples": 2, "steps": 4}
    together = ti.solve(y, operator, FIELD, **options)
    assert together.samples.shape == (3, 2, 1, 8, 8)
    first = ti.solve(y[:1], masks[0], FIELD, **options)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(together.samples[:1], first.samples, **close)
    chi_square = together.diagnostics.residual_chi_square
    torch.testing.assert_close(chi_square[:1], first.diagnostics.residual_chi_square, **close)
    chunked = ti.solve(y, operator, FIELD, batch_size=1, **options)
    torch.testing.assert_close(chunked.samples, together.samples, **close)
    # The other images have operators of their own: their data are fitted too.
    last = [step.x for step in ti.iterate(y, operator, FIELD, **options)][-1]
    torch.testing.assert_close(last, together.samples[2], **close)


def test_a_nonlinear_operator_walks_with_langevin():
    """y = x^2 with positive x: the samples must reproduce the data within the noise."""
    prior = ti.priors.Gaussian(torch.full((1, 8, 8), 2.0).double(), torch.eye(64) * 0.2**2)
    operator = NonLinear()
    y = operator.measure(prior.draw(1, seed=1)[0], seed=2)
    walk = ti.walks.Langevin(norm=6.0, sigma_max=2.0, initial_std=0.2)
    posterior = ti.solve(y, operator, prior, method=walk, num_samples=20, steps=1500)
    assert posterior.stats.method == "langevin"
    assert float(posterior.diagnostics.residual_chi_square.mean()) == pytest.approx(1, abs=0.35)


def test_langevin_with_a_given_curvature_walks_with_counting_noise():
    prior = ti.priors.Gaussian(torch.full((1, 8, 8), 2.0).double(), torch.eye(64) * 0.2**2)
    operator = ops.Mask(torch.ones(8, 8), noise=ops.PoissonNoise(0.1))
    y = operator.measure(prior.draw(1, seed=1)[0], seed=2)
    walk = ti.walks.Langevin(lipschitz=20.0, sigma_max=2.0, initial_std=0.2)
    posterior = ti.solve(y, operator, prior, method=walk, num_samples=20, steps=1000)
    exact = ti.solve(y, operator, prior, num_samples=20, steps=10)
    assert exact.stats.method == "decoupled"
    spread = float(exact.std.mean())
    assert float((posterior.mean - exact.mean).abs().mean()) < spread
    assert float(posterior.std.mean()) == pytest.approx(spread, rel=0.15)


def test_posterior_of_a_mixture_by_the_decoupled_walk_is_close():
    """A skewed target: two overlapping components of unequal weight, seen with noise."""
    means = torch.tensor([[0.0], [2.0]]).double()
    prior = ti.priors.GaussianMixture(means, torch.tensor([0.8, 0.2]).double(), 0.6)
    operator = ops.MatrixOperator(torch.ones(1, 1), noise=ops.GaussianNoise(1.0))
    y = torch.tensor([1.0]).double()
    grid = torch.linspace(-6, 8, 20001).double()
    density = torch.zeros_like(grid)
    for weight, mean in ((0.8, 0.0), (0.2, 2.0)):
        density += weight * torch.exp(-0.5 * ((grid - mean) / 0.6) ** 2)
    density *= torch.exp(-0.5 * (1.0 - grid) ** 2)
    density /= density.sum()
    mean = float((density * grid).sum())
    std = float((density * (grid - mean) ** 2).sum()) ** 0.5
    samples = ti.solve(y, operator, prior, method="decoupled", num_samples=4000, steps=200).samples
    # Approximate for a mixture: the tolerance is the method's error, not the sampling error.
    assert abs(float(samples.mean()) - mean) < 0.1 * std
    assert float(samples.std()) == pytest.approx(std, rel=0.1)
