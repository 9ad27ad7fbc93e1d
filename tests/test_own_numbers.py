"""Every measurement, part and population has its own numbers: none takes its neighbour's."""

import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.resampling import systematic

SHAPE = (1, 8, 8)


def correlation_z(a, b):
    """z-score of the correlation of two tensors of independent entries."""
    a, b = (x.flatten() - x.mean() for x in (a, b))
    return float((a @ b) / (a.norm() * b.norm()) * len(a) ** 0.5)


def test_stacked_parts_have_noise_of_their_own():
    """One seed for all parts would give two equal instruments equal noise, Gaussian or not."""
    flat = torch.full(SHAPE, 20.0).double()
    for noise in (ops.PoissonNoise(1.0), ops.GaussianNoise(0.3)):
        part = ops.Mask(torch.ones(SHAPE), noise=noise)
        both = ops.stack(part, part)
        y = torch.stack([both.measure(flat, seed=seed) for seed in range(20)])
        first, second = y.split(64, dim=1)
        assert abs(correlation_z(first, second)) < 5
        assert abs(correlation_z(y[:-1, :64], y[1:, 64:])) < 5  # nor that of the next seed


def test_measurements_have_noise_of_their_own():
    """Batches, seeds and images with one noise stream would be copies of each other."""
    operator = ops.Mask(torch.ones(SHAPE), noise=ops.GaussianNoise(1.0))
    y = operator.measure(torch.zeros(40, *SHAPE).double(), seed=1)
    assert abs(correlation_z(y[:-1], y[1:])) < 5
    assert abs(correlation_z(y, operator.measure(torch.zeros(40, *SHAPE).double(), seed=2))) < 5


def test_each_population_has_its_own_number():
    """Systematic resampling by hand: places (grid + uniform) / count among summed weights."""
    weights = torch.tensor([[0.1, 0.2, 0.7], [0.7, 0.2, 0.1]]).double()
    uniform = torch.tensor([0.1, 0.9]).double()
    # Places 0.025, 0.275, 0.525, 0.775 and 0.225, 0.475, 0.725, 0.975.
    expected = torch.tensor([[0, 1, 2, 2], [0, 0, 1, 2]])
    assert torch.equal(systematic(weights, uniform, 4), expected)


def test_residuals_are_those_of_the_measurements_own_data():
    """chi^2 of every sample by hand; against y[0] the second would be far off."""
    field = random_field(8)
    operator = ops.Mask(ops.random_mask(SHAPE, 0.5), noise=ops.GaussianNoise(0.2))
    y = operator.measure(field.draw(3, seed=1), seed=2)
    found = ti.solve(y, operator, field, num_samples=4, steps=6)
    observed = operator.observed.expand(SHAPE)
    residual = (found.samples - y[:, None])[:, :, observed] / 0.2
    expected = residual.square().mean(-1)
    torch.testing.assert_close(found.diagnostics.residual_chi_square, expected, rtol=1e-6, atol=0)
    assert expected.max() < 4 * expected.min()


def test_every_measurement_meets_its_own_data():
    """Closed form of N(0, I) prior and white noise: mean y / (1 + s^2); swapped rows fail."""
    std, count = 0.5, 400
    operator = ops.MatrixOperator(torch.eye(4).double(), noise=ops.GaussianNoise(std))
    prior = ti.priors.Gaussian(torch.zeros(4).double(), covariance=torch.eye(4).double())
    y = torch.tensor([[1.0, 2.0, 3.0, 4.0], [-4.0, 3.0, -2.0, 1.0]]).double()
    variance = std**2 / (1 + std**2)
    for method in ("decoupled", "particle"):
        found = ti.solve(y, operator, prior, method=method, num_samples=count, steps=12)
        z = (found.mean - y / (1 + std**2)) / (variance / count) ** 0.5
        assert float(z.abs().max()) < 5
        ratio = found.std**2 / variance - 1
        assert float(ratio.abs().max()) < 5 * (2 / count) ** 0.5
