"""The linear-Gaussian kernel: exact in mean and covariance, directly and by iteration."""

from dataclasses import replace

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import agreement, gaussian_posterior, prior_covariance, random_field
from tests.registry import OPERATORS as REGISTERED
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional import linear_gaussian
from tweedie_inverse.conditional.linear_gaussian import conditional_draw
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance, isotropic
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Cosines

SIZE, COUNT = 8, 4000
OPERATORS = {
    "mask": ops.Mask(ops.random_mask((1, SIZE, SIZE), 0.3)),
    "blur": ops.Blur(ops.gaussian_kernel(1.0), (1, SIZE, SIZE)),
    "bicubic": ops.Downsampling((1, SIZE, SIZE), 2),
    "tomography": ops.Tomography((1, SIZE, SIZE), angles=5),
}


def only(solver, monkeypatch):
    """Rule the other ways out."""
    monkeypatch.setattr(Problem, "is_diagonal", lambda self, basis: False)
    monkeypatch.setattr(linear_gaussian, "DIRECT_LIMIT", 10_000 if solver == "direct" else 0)


def draw(operator, std, dtype=torch.float64):
    prior = random_field(SIZE)
    noise = ops.GaussianNoise(std)
    operator.noise = noise
    y = operator.measure(prior.draw(1, seed=1), seed=2)
    problem = Problem(y.expand(COUNT, *y.shape[1:]).to(dtype), operator, noise)
    result = conditional_draw(
        prior.mean.to(dtype).expand(COUNT, *prior.shape),
        prior.covariance,
        problem,
        normal((3,), (COUNT, *prior.shape)).to(dtype),
        normal((4,), (COUNT, *operator.range_shape)).to(dtype),
    )
    return result, gaussian_posterior(prior, operator, y, std)


@pytest.mark.parametrize("std", [1.0, 0.01])
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("solver", ["direct", "iterative"])
def test_draws_have_the_posterior_mean_and_covariance(name, std, solver, monkeypatch):
    only(solver, monkeypatch)
    result, exact = draw(OPERATORS[name], std)
    assert agreement(result.x, exact).worst_z < 5
    assert (result.iterations > 0) == (solver == "iterative")
    assert result.error <= linear_gaussian._EXACT


@pytest.mark.parametrize("name", OPERATORS)
def test_both_solvers_give_the_same_draws(name, monkeypatch):
    only("direct", monkeypatch)
    direct, exact = draw(OPERATORS[name], 0.1)
    only("iterative", monkeypatch)
    iterated, _ = draw(OPERATORS[name], 0.1)
    spread = float(exact.covariance.trace() / exact.covariance.shape[0]) ** 0.5
    difference = float((direct.x - iterated.x).square().mean().sqrt())
    assert difference < 3 * linear_gaussian._EXACT * max(spread, 1)


def test_single_precision_is_good_enough(monkeypatch):
    monkeypatch.setattr(linear_gaussian, "DIRECT_LIMIT", 0)
    single, exact = draw(OPERATORS["mask"], 0.01, torch.float32)
    assert single.x.dtype == torch.float32
    assert agreement(single.x, exact).worst_z < 5


def test_noise_of_a_different_size_on_every_pixel():
    prior, std = random_field(SIZE), torch.linspace(0.05, 1, SIZE).double()
    operator = ops.Mask(torch.ones(SIZE, SIZE))
    y = prior.draw(1, seed=1)
    problem = Problem(y.expand(COUNT, *y.shape[1:]), operator, ops.GaussianNoise(std))
    result = conditional_draw(
        prior.mean.expand(COUNT, *prior.shape),
        prior.covariance,
        problem,
        normal((3,), (COUNT, *prior.shape)),
        normal((4,), (COUNT, *prior.shape)),
    )
    scale = std.expand(SIZE, SIZE).flatten()
    whitened = ops.MatrixOperator(torch.diag(1 / scale))
    exact = gaussian_posterior(prior, whitened, y.flatten() / scale, 1.0)
    assert agreement(result.x, exact).worst_z < 5


@pytest.mark.parametrize("name", OPERATORS)
def test_a_covariance_for_each_walker_is_met_exactly(name):
    """White noise scaled by another image in every second walker, then made a smooth field."""
    prior, std, operator = random_field(SIZE), 0.1, OPERATORS[name]
    noise = operator.noise = ops.GaussianNoise(std)
    y = operator.measure(prior.draw(1, seed=1), seed=2)
    scales = normal((5,), (2, 1, SIZE, SIZE)).exp()
    covariance = replace(prior.covariance, scale=scales.repeat(COUNT // 2, 1, 1, 1))
    problem = Problem(y.expand(COUNT, *y.shape[1:]), operator, noise)
    result = conditional_draw(
        prior.mean.expand(COUNT, *prior.shape),
        covariance,
        problem,
        normal((3,), (COUNT, *prior.shape)),
        normal((4,), (COUNT, *operator.range_shape)),
    )
    values, vectors = torch.linalg.eigh(prior_covariance(prior))
    root = vectors * values.clamp(min=0).sqrt() @ vectors.mT
    for index, scale in enumerate(scales):
        dense = root * scale.flatten().square() @ root
        scaled = ti.priors.Gaussian(prior.mean, covariance=dense)
        exact = gaussian_posterior(scaled, operator, y, std)
        assert agreement(result.x[index::2], exact).worst_z < 5


def test_unequal_places_and_unequal_frequencies_together_take_few_iterations():
    """Variances over six decades, of places within a tenth of each other.

    A preconditioner that takes the scale at its mean needs over a hundred: it misses that unequal
    places mix the few frequencies of a huge variance into all the others.
    """
    shape = (1, 32, 32)
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    variance = 1e4 / (1 + rows**2 + columns**2).double() ** 2
    scale = 1 + 0.05 * (normal((1,), (2, *shape)).clamp(-2, 2))
    operator = ops.Mask(torch.ones(32, 32))
    problem = Problem(normal((2,), (2, *operator.range_shape)), operator, ops.GaussianNoise(0.02))
    drawn = conditional_draw(
        torch.zeros(2, *shape).double(),
        Covariance(Cosines(), variance, scale),
        problem,
        normal((3,), (2, *shape)),
        normal((4,), problem.y.shape),
    )
    assert 0 < drawn.iterations <= 15


SPECTRAL = {
    name: make
    for name, make in REGISTERED.items()
    if isinstance(make(), ops.LinearOperator) and make().spectrum is not None
}


@pytest.mark.parametrize("name", SPECTRAL)
def test_mode_by_mode_draws_equal_assembled_ones(name, monkeypatch):
    """Isotropic V is diagonal in every basis: an operator with a spectrum needs no solver."""
    operator, count = SPECTRAL[name](), 3
    noise = ops.GaussianNoise(0.3)
    problem = Problem(normal((1,), (count, *operator.range_shape)), operator, noise)
    mean = normal((2,), (count, *operator.domain_shape))
    white = normal((3,), mean.shape), normal((4,), problem.y.shape)
    modes = conditional_draw(mean, isotropic(4.0), problem, *white)
    assert modes.iterations == 0
    only("direct", monkeypatch)
    assembled = conditional_draw(mean, isotropic(4.0), problem, *white)
    torch.testing.assert_close(modes.x, assembled.x, rtol=1e-8, atol=1e-8)


def test_a_shared_basis_needs_no_solver_either(monkeypatch):
    blur, exact = draw(OPERATORS["blur"], 0.1)
    only("direct", monkeypatch)
    assembled, _ = draw(OPERATORS["blur"], 0.1)
    assert agreement(blur.x, exact).worst_z < 5
    torch.testing.assert_close(blur.x, assembled.x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("solver", ["direct", "iterative"])
def test_correlated_noise(solver, monkeypatch):
    """Noise with a spectrum of its own, against the dense formula."""
    only(solver, monkeypatch)
    prior, operator = random_field(SIZE), OPERATORS["blur"]
    f = torch.fft.fftfreq(SIZE, dtype=torch.float64)
    power = 0.04 + 0.5 * torch.exp(-20 * (f[:, None] ** 2 + f**2))
    noise = ops.GaussianNoise.stationary(power)
    y = operator.forward(prior.draw(1, seed=1))
    problem = Problem(y.expand(COUNT, *y.shape[1:]), operator, noise)
    result = conditional_draw(
        prior.mean.expand(COUNT, *prior.shape),
        prior.covariance,
        problem,
        normal((3,), (COUNT, *prior.shape)),
        normal((4,), (COUNT, *prior.shape)),
    )
    units = torch.eye(SIZE**2).double().reshape(-1, 1, SIZE, SIZE)
    whiten = ops.MatrixOperator(noise.whiten(units).flatten(1).mT)
    whitened = ops.MatrixOperator(whiten.matrix @ ops.dense_matrix(operator))
    exact = gaussian_posterior(prior, whitened, whiten.forward(y.flatten(1))[0], 1.0)
    assert agreement(result.x, exact).worst_z < 5


def test_the_matrix_of_few_measurements_is_assembled_once():
    """A draw then applies the operator once for each walker, whatever its covariance."""
    operator, count, noise = OPERATORS["tomography"], 3, ops.GaussianNoise(0.1)
    prior = random_field(SIZE)
    problem = Problem(normal((1,), (count, *operator.range_shape)), operator, noise)
    white = normal((3,), (count, *prior.shape)), normal((4,), problem.y.shape)
    mean = prior.mean.expand(count, *prior.shape)
    conditional_draw(mean, prior.covariance, problem, *white)
    assert problem.operator_calls == count + problem.y[0].numel()
    conditional_draw(mean, prior.covariance.map(lambda v: 2 * v), problem, *white)
    assert problem.operator_calls == 2 * count + problem.y[0].numel()
