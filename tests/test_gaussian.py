"""The linear-Gaussian kernel: exact in mean and covariance, directly and by iteration."""

import pytest
import torch

import operators as ops
from operators.random import normal
from tests.posteriors import agreement, gaussian_posterior, random_field
from tweedie_inverse import gaussian
from tweedie_inverse.gaussian import conditional_draw
from tweedie_inverse.problem import Problem

SIZE, COUNT = 8, 4000
OPERATORS = {
    "mask": ops.Mask(ops.random_mask((1, SIZE, SIZE), 0.3)),
    "blur": ops.Blur(ops.gaussian_kernel(1.0), (1, SIZE, SIZE)),
    "bicubic": ops.Downsampling((1, SIZE, SIZE), 2),
    "tomography": ops.Tomography((1, SIZE, SIZE), angles=5),
}


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
@pytest.mark.parametrize("limit", [10_000, 0], ids=["direct", "iterative"])
def test_draws_have_the_posterior_mean_and_covariance(name, std, limit, monkeypatch):
    monkeypatch.setattr(gaussian, "DIRECT_LIMIT", limit)
    result, exact = draw(OPERATORS[name], std)
    assert agreement(result.x, exact).worst_z < 5
    assert (result.iterations > 0) == (limit == 0)
    assert result.error <= gaussian.TOLERANCE


@pytest.mark.parametrize("name", OPERATORS)
def test_both_solvers_give_the_same_draws(name, monkeypatch):
    direct, exact = draw(OPERATORS[name], 0.1)
    monkeypatch.setattr(gaussian, "DIRECT_LIMIT", 0)
    iterated, _ = draw(OPERATORS[name], 0.1)
    spread = float(exact.covariance.trace() / exact.covariance.shape[0]) ** 0.5
    difference = float((direct.x - iterated.x).square().mean().sqrt())
    assert difference < 3 * gaussian.TOLERANCE * max(spread, 1)


def test_single_precision_is_good_enough(monkeypatch):
    monkeypatch.setattr(gaussian, "DIRECT_LIMIT", 0)
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


@pytest.mark.parametrize(("name", "most"), [("blur", 6), ("mask", 12)])
def test_isotropic_draws_take_few_iterations(name, most, monkeypatch):
    """Diagonal in the operator's own basis, or two clusters: hundreds would mean a wrong basis."""
    from tweedie_inverse.covariance import isotropic

    monkeypatch.setattr(gaussian, "DIRECT_LIMIT", 0)
    operator, shape = OPERATORS[name], (2, 1, SIZE, SIZE)
    problem = Problem(normal((1,), shape), operator, ops.GaussianNoise(0.01))
    zero = torch.zeros(shape).double()
    draw = conditional_draw(zero, isotropic(4.0), problem, normal((2,), shape), normal((3,), shape))
    assert draw.iterations <= most
