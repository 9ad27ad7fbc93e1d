"""Posterior means, draws and densities in coefficients: all solvers agree with dense matrices."""

import pytest
import torch

import tweedie_inverse as ti
from tests.particle_problems import FIELD, OPERATORS, arrived, measured
from tests.posteriors import prior_covariance, random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional import linear_gaussian
from tweedie_inverse.conditional.determinant import Determinant
from tweedie_inverse.conditional.linear_gaussian import (
    DiagonalMeasurement,
    FactoredMeasurement,
    IterativeMeasurement,
)
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.walks import Particle


@pytest.mark.parametrize("name", OPERATORS)
def test_every_solver_agrees_with_dense_matrices(name):
    """Means, draws and densities of all kinds of `Measurement`, in a basis, with any variances."""
    operator = OPERATORS[name]
    y = measured(operator)
    count = 3
    problem = Problem(y.expand(count, *y.shape), operator, operator.noise)
    basis = FIELD.covariance.basis if name == "coloured-noise" else problem.basis
    c, v = normal((1,), (count, 1, 8, 8)), normal((2,), (1, 8, 8)).abs()
    kinds = [FactoredMeasurement(problem, basis), IterativeMeasurement(problem, basis)]
    if problem.is_diagonal(basis):
        kinds.append(DiagonalMeasurement(problem, basis))
    else:
        assert name == "coloured-noise"
    matrix = ops.dense_matrix(operator)
    units = torch.eye(64).double().reshape(64, 1, 8, 8)
    images = basis.inverse(units).reshape(64, 64).mT  # columns: basis vectors
    noise = operator.noise.colour(torch.eye(len(matrix)).double().reshape(-1, *y.shape))
    noise = noise.flatten(1).mT @ noise.flatten(1)
    system = matrix @ images @ v.flatten().diag() @ images.mT @ matrix.mT + noise
    keep = torch.ones(len(matrix), dtype=torch.bool)
    if operator.observed is not None:
        keep = operator.observed.expand(y.shape).flatten()
    law = torch.distributions.MultivariateNormal(
        (c.flatten(1) @ images.mT @ matrix.mT)[:, keep], system[keep][:, keep]
    )
    exact = law.log_prob(y.flatten()[keep])
    gain = torch.linalg.solve(system, matrix @ images @ v.flatten().diag()).mT
    residual = y.flatten() - c.flatten(1) @ images.mT @ matrix.mT
    mean = c + (residual @ gain.mT).reshape(c.shape)
    covariance = Covariance(basis, v)
    for kind in kinds:
        white = torch.zeros(count, *kind.shape).double()
        data_white = torch.zeros(count, *kind.noise_shape).double()
        centre = kind.posterior_mean(c, covariance).value
        torch.testing.assert_close(centre, mean, rtol=1e-4, atol=5e-3)
        drawn = kind.draw(c, covariance, white, data_white).value
        torch.testing.assert_close(drawn, centre, rtol=1e-6, atol=1e-6)
        marginal = kind.log_marginal(c, covariance).value
        torch.testing.assert_close(marginal.diff(), exact.diff(), rtol=1e-6, atol=1e-3)
        close = {"rtol": 1e-6, "atol": 1e-3} if isinstance(kind, IterativeMeasurement) else {}
        torch.testing.assert_close(marginal + kind.log_scale(covariance), exact, **close)
        if not close:
            torch.testing.assert_close(centre, mean)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_the_determinant_is_that_of_the_matrix(shape):
    """It is factored on the side of the data or of the image, whichever is less work."""
    matrix, variance = normal((1,), shape), normal((2,), shape[1:]).abs()
    expected = torch.logdet(torch.eye(shape[0]).double() + (matrix * variance) @ matrix.mT)
    assert Determinant(matrix).log(variance) == pytest.approx(float(expected), rel=1e-12)


def test_conjugate_gradients_give_the_same_population(monkeypatch):
    """The evidence too, with a determinant of its own."""
    operator = OPERATORS["coloured-noise"]
    y, walk = measured(operator), Particle(correctors=1, threshold=0)
    options = {"num_samples": 30, "steps": 4}
    direct = arrived(y, operator, FIELD, walk, **options)
    monkeypatch.setattr(linear_gaussian, "DIRECT_LIMIT", 0)
    iterative = arrived(y, operator, FIELD, walk, **options)
    torch.testing.assert_close(iterative.walkers, direct.walkers, rtol=0, atol=1e-2)
    torch.testing.assert_close(iterative.weights, direct.weights, rtol=0.05, atol=1e-5)
    assert float(direct.weights.max() / direct.weights.min()) > 2
    assert float(iterative.log_evidence - direct.log_evidence) == pytest.approx(0, abs=1e-2)


def test_evidence_of_more_measurements_than_are_factored_for_draws():
    """A Gaussian prior and 600 measurements: the textbook's evidence, to rounding."""
    prior, matrix = random_field(8), normal((3,), (600, 64)) / 8
    flat = ti.priors.Gaussian(prior.mean.flatten(), covariance=prior_covariance(prior))
    operator = ops.from_scipy(matrix.numpy(), noise=ops.GaussianNoise(0.2))
    y = operator.measure(flat.draw(1, seed=3)[0], seed=5)
    found = ti.solve(y, operator, flat, method=Particle(path="wiener"), num_samples=5, steps=3)
    system = matrix @ prior_covariance(prior) @ matrix.mT + 0.04 * torch.eye(600).double()
    law = torch.distributions.MultivariateNormal(matrix @ flat.mean.double(), system)
    assert float(found.log_evidence) == pytest.approx(float(law.log_prob(y)), abs=1e-3)
