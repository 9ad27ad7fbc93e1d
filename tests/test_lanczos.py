"""Log determinants by random probes against dense ones: exact where they must be, else honest."""

import math
import warnings

import pytest
import torch

import tweedie_inverse as ti
from tests.particle_problems import FIELD, OPERATORS, gaussian_log_evidence, measured
from tests.posteriors import prior_covariance, random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional import determinant, linear_gaussian
from tweedie_inverse.conditional.linear_gaussian import IterativeMeasurement
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics import lanczos
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.lanczos import log_trace, other_probes, signs
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Cosines

SEEDS = range(1, 17)


def spread_matrix(size, condition, seed=1):
    """A dense symmetric matrix with eigenvalues from 1 to `condition`."""
    vectors = torch.linalg.qr(normal((seed,), (size, size))).Q
    values = torch.logspace(0, math.log10(condition), size, dtype=torch.float64)
    return (vectors * values) @ vectors.mT, float(values.log().sum())


def estimates(matrix):
    """One estimate for each seed, each with its error."""
    found = []
    for seed in SEEDS:
        with other_probes(seed):
            found.append(log_trace(lambda v: v @ matrix, signs(matrix[0]), 1.0))
    return found


@pytest.mark.parametrize("condition", [1.5, 100.0, 1e5])
def test_the_error_of_an_estimate_is_the_one_it_tells(condition):
    """z-scores of many probe sets: their mean is 0, and their mean square 1.

    Catches a factor in the error, and a rule that stops before it has converged.
    """
    matrix, exact = spread_matrix(50, condition)
    z = torch.tensor([(float(one.value) - exact) / one.error for one in estimates(matrix)])
    assert abs(float(z.mean())) * math.sqrt(len(z)) < 5
    assert 0.35 < float(z.square().mean()) < 2.2


def test_what_is_diagonal_has_no_error():
    """Signs leave no scatter there, and a rule with a node for each value is exact."""
    values = torch.tensor([1.0, 3.0, 8.0, 20.0, 500.0]).double()
    found = log_trace(lambda v: v * values, signs(values), 1.0)
    assert float(found.value) == pytest.approx(float(values.log().sum()), rel=1e-10)
    assert found.error < 1e-6
    one = log_trace(lambda v: 1.0 * v, signs(torch.zeros(2, 9, 9)), 1.0)
    assert float(one.value) == pytest.approx(0, abs=1e-4)
    four = log_trace(lambda v: 4.0 * v, signs(torch.zeros(2, 9, 9)), 1.0)  # breaks down at once
    assert float(four.value) == pytest.approx(162 * math.log(4), rel=1e-6)


@pytest.mark.parametrize("condition", [1e2, 1e5, 1e9])
def test_rules_that_converge_slowly_say_how_far_they_are(condition):
    """Without scatter all that is left is the distance of the rules, which hold the value."""
    values = torch.logspace(0, math.log10(condition), 150, dtype=torch.float64)
    found = log_trace(lambda v: v * values, signs(values), 1.0)
    assert abs(float(found.value) - float(values.log().sum())) < found.error
    assert found.error < {1e2: 0.1, 1e5: 3.0, 1e9: 200.0}[condition]


def test_entries_that_are_left_out_do_not_count():
    matrix, exact = spread_matrix(30, 20.0)
    wide = torch.block_diag(matrix, 7 * torch.eye(10).double())
    seen = torch.cat([torch.ones(30), torch.zeros(10)]).double()
    with_them = log_trace(lambda v: v @ wide, signs(seen) * seen, 0.5)
    assert abs(float(with_them.value) - exact) < 5 * with_them.error


def test_probes_have_a_seed_and_no_memory():
    matrix, _ = spread_matrix(40, 50.0)
    first, again = (log_trace(lambda v: v @ matrix, signs(matrix[0]), 1.0) for _ in range(2))
    assert torch.equal(first.value, again.value)
    with other_probes(3):
        other = log_trace(lambda v: v @ matrix, signs(matrix[0]), 1.0)
    assert not torch.equal(first.value, other.value)
    assert torch.equal(log_trace(lambda v: v @ matrix, signs(matrix[0]), 1.0).value, first.value)
    single = matrix.float()
    rough = log_trace(lambda v: v @ single, signs(single[0]), 1.0)
    assert float(rough.value) == pytest.approx(float(first.value), abs=0.02)


def cosine_variances(side):
    k = torch.arange(side, dtype=torch.float64)
    return 0.5 / (1 + 0.3 * (k[:, None] ** 2 + k**2)) ** 1.5


INSTRUMENTS = {
    "tomography": ops.Tomography((1, 12, 12), 9, noise=ops.GaussianNoise(0.3)),
    "mask": ops.Mask(ops.random_mask((1, 12, 12), 0.5, seed=1), noise=ops.GaussianNoise(0.1)),
    "coloured-noise": ops.Blur(
        ops.gaussian_kernel(0.9),
        (1, 12, 12),
        padding="zero",
        noise=ops.GaussianNoise(torch.linspace(0.1, 0.4, 144).reshape(12, 12)),
    ),
}


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_the_scale_of_a_measurement_against_the_dense_one(name, monkeypatch):
    operator = INSTRUMENTS[name]
    problem = Problem(
        operator.measure(torch.zeros(1, 12, 12).double())[None], operator, operator.noise
    )
    covariance = Covariance(Cosines(), cosine_variances(12))
    exact = float(IterativeMeasurement(problem, Cosines()).log_scale(covariance))
    monkeypatch.setattr(determinant, "_MULTIPLICATIONS", 0)
    found = []
    for seed in SEEDS:
        with other_probes(seed):
            found.append(float(IterativeMeasurement(problem, Cosines()).log_scale(covariance)))
    errors = torch.tensor(found) - exact
    assert (
        float(errors.std()) < 1.0
    )  # nats; without the diagonal taken out it is several times that
    assert abs(float(errors.mean())) < 5 * float(errors.std()) / math.sqrt(len(errors))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_data_with_little_noise(dtype, monkeypatch):
    """Eigenvalues from 1 to a million: a rule judged by its last steps was off by 10."""
    operator = ops.Mask(ops.random_mask((1, 12, 12), 0.3, seed=1), noise=ops.GaussianNoise(0.001))
    covariance = Covariance(Cosines(), cosine_variances(12))
    problem = Problem(torch.zeros(1, 1, 12, 12, dtype=dtype), operator, operator.noise)
    exact = float(IterativeMeasurement(problem, Cosines()).log_scale(covariance))
    monkeypatch.setattr(determinant, "_MULTIPLICATIONS", 0)
    found = float(IterativeMeasurement(problem, Cosines()).log_scale(covariance))
    assert found == pytest.approx(exact, abs=6)


def test_a_rule_that_does_not_settle_is_said_once(monkeypatch):
    monkeypatch.setattr(determinant, "_MULTIPLICATIONS", 0)
    monkeypatch.setattr(lanczos, "_MOST_STEPS", 2)
    operator = INSTRUMENTS["mask"]
    problem = Problem(torch.zeros(1, 1, 12, 12).double(), operator, operator.noise)
    measurement = IterativeMeasurement(problem, Cosines())
    with pytest.warns(RuntimeWarning, match="nats only, because 2 steps .* too few"):
        measurement.log_scale(Covariance(Cosines(), cosine_variances(12)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measurement.log_scale(Covariance(Cosines(), cosine_variances(12)))


def test_evidence_of_a_walk_beyond_dense_factors(monkeypatch):
    """A Gaussian field: the textbook's evidence, within the scatter of other probes."""
    monkeypatch.setattr(linear_gaussian, "DIRECT_LIMIT", 0)
    monkeypatch.setattr(determinant, "_MULTIPLICATIONS", 0)
    operator = OPERATORS["inpainting"]
    y, found = measured(operator), []
    for seed in SEEDS[:6]:
        with other_probes(seed):
            one = ti.solve(y, operator, FIELD, method="particle", num_samples=2, steps=2)
        found.append(float(one.log_evidence))
    errors = torch.tensor(found) - gaussian_log_evidence(operator, y)
    assert 0 < float(errors.std()) < 2
    assert abs(float(errors.mean())) < 5 * float(errors.std()) / math.sqrt(len(errors))


def test_evidence_of_a_scan_with_many_measurements(monkeypatch):
    """736 measurements: finite, and neighbouring noise levels differ as in the textbook.

    The probes are the same for both, so that their error drops out of the difference.
    """
    monkeypatch.setattr(determinant, "_MULTIPLICATIONS", 0)
    prior, found, exact = random_field(16), [], []
    scan = ops.Tomography((1, 16, 16), 32, noise=ops.GaussianNoise(0.2))
    y, matrix = scan.measure(prior.draw(1, seed=3)[0], seed=5), ops.dense_matrix(scan)
    assert y.numel() > linear_gaussian.DIRECT_LIMIT
    for std in (0.2, 0.21):
        system = matrix @ prior_covariance(prior) @ matrix.mT
        system += std**2 * torch.eye(len(matrix)).double()
        law = torch.distributions.MultivariateNormal(torch.zeros(len(matrix)).double(), system)
        exact.append(float(law.log_prob(y.flatten())))
        one = ti.solve(y, scan, prior, method="particle", num_samples=2, steps=2, noise=std)
        found.append(float(one.log_evidence))
    assert found[0] == pytest.approx(exact[0], abs=10)
    assert found[1] - found[0] == pytest.approx(exact[1] - exact[0], abs=0.5)
