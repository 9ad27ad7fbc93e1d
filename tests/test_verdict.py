"""The answer judges itself: chi-square and its range, the verdict, its causes, and the warning."""

import dataclasses
import re
import warnings

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional.problem import residual_chi_square
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.solving.expectation import expected_range

SHAPE = (1, 16, 16)
FIELD = random_field(16)
FULL = ops.Mask(torch.ones(SHAPE), noise=ops.GaussianNoise(0.2))
BLUR = ops.Blur(ops.gaussian_kernel(1.5), SHAPE, noise=ops.GaussianNoise(0.2))
X = FIELD.draw(4, seed=1)


def solved(y, operator, prior=FIELD, **options):
    """The posterior, and the texts of the warnings."""
    settings = {"num_samples": 4, "steps": 10, **options}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = ti.solve(y, operator, prior, **settings)
    return found, [str(w.message) for w in caught if w.category is ti.PosteriorWarning]


@pytest.mark.parametrize(
    "noise",
    [
        ops.GaussianNoise(0.3),
        ops.PoissonNoise(1.0),
        ops.PoissonNoise(20.0),  # a twentieth of a count on average
        ops.DigitizedNoise(0.3, high=1.0),  # most entries saturate
    ],
    ids=repr,
)
def test_the_range_holds_the_chi_square_of_the_truth(noise):
    """Standard normal scores within the range, whatever the noise: 400 measurements, 999 in 1000.

    A range of ``1 +- sqrt(2 / n)`` would be wrong for rare counts and for saturated values.
    """
    ax = torch.full((400, 1, 12, 12), 1.0).double() + 0.2 * normal((1,), (400, 1, 12, 12)).abs()
    identity = ops.Mask(torch.ones(1, 12, 12), noise=noise)
    found = residual_chi_square(ax, noise.sample(ax, seed=3), identity, noise)
    low, high = expected_range(noise, identity, ax[:4])
    outside = int(((found < low) | (found > high)).sum())
    assert outside <= 5  # 0.4 are expected
    # The range is no wider than it need be: 0.999 of a normal law is 6.6 standard deviations.
    assert 0.5 < (high - low) / (6.6 * float(found.std())) < 2


def test_a_posterior_that_fits_says_so_in_silence():
    for operator in (FULL, BLUR):
        found, told = solved(operator.measure(X, seed=2), operator)
        assert found.diagnostics.verdict.startswith("consistent with the noise")
        assert found.diagnostics.is_consistent
        assert told == []
    assert found.diagnostics.expected.shape == (4, 2)
    assert found.diagnostics.chi_square.shape == (4,)
    assert found.diagnostics.solver_error == 0
    assert found.diagnostics.acceptance is None
    assert found.diagnostics.outside is None


def ranged(low, high):
    """The field, with a word on where its images lie."""
    prior = random_field(16)
    prior.value_range = (low, high)
    return prior


class Blind(torch.nn.Module):
    """A network that knows no noise beyond its range: it answers with five times its input."""

    def forward(self, x, label):
        return 5 * x


BLIND = ti.priors.NetworkPrior(Blind(), "x0", shape=SHAPE, sigma_min=0.01, sigma_max=10.0)
BLIND.value_range = (-3.0, 3.0)
SLOPE = ops.LinearOperator.from_function(
    lambda x: x - x.roll(1, -1), SHAPE, noise=ops.GaussianNoise(0.2)
)
Y = BLUR.measure(X[0], seed=2)


@pytest.mark.parametrize(
    ("call", "verdict"),
    [
        ({"y": 255 * Y}, "does not fit the measurement: .* is y in the units of the prior, whose"),
        (
            {"y": 255 * Y, "prior": ranged(-3.0, 3.0)},
            r"is y in the prior's value range \[-3, 3\]\?",
        ),
        ({"y": 255 * Y[None].expand(2, *SHAPE)}, "2 of 2 measurements: does not fit"),
        ({"noise": 0.05}, "does not fit .* is the noise level right"),
        ({"noise": 1.0}, "fits better than the noise allows: .* It looks too large"),
        (
            {"y": SLOPE.measure(X[0], seed=2) + 1, "operator": SLOPE},
            "the one that measured y.* No image at all fits it",
        ),
        ({"prior": BLIND, "y": Y.float()}, "does not fit .* know noise from 0.01 to 10"),
        ({"y": Y - 5, "prior": ranged(-3.0, 3.0)}, "outside the prior's value range: "),
    ],
)
def test_what_is_wrong_is_named_first(call, verdict):
    found, (text,) = solved(**{"y": Y, "operator": BLUR, **call})
    assert re.search(verdict, found.diagnostics.verdict), found.diagnostics.report
    assert not found.diagnostics.is_consistent
    assert found.diagnostics.verdict in text
    assert "\n" not in found.diagnostics.verdict


def test_a_walk_with_troubles_is_not_trusted():
    """A population of one effective walker, and moves that are always refused."""
    walk = ti.walks.Particle(path="flat", threshold=1.0)
    _, (text,) = solved(Y, BLUR, method=walk, num_samples=3, steps=3)
    assert "degenerate: at the worst step 1." in text
    found, _ = solved(Y, BLUR)
    for trouble, expected in (
        ({"acceptance": torch.full((4,), 1e-3)}, "not moving: .* 0.1% of the time"),
        ({"solver_error": 0.1}, "not exact: .* 1.0e-01 posterior standard deviations short"),
    ):
        diagnostics = dataclasses.replace(found.diagnostics, **trouble)
        assert re.match(expected, diagnostics.verdict)
        assert not diagnostics.is_consistent


def test_the_worst_measurement_speaks_for_the_batch():
    y = torch.stack([Y, 20 * Y, Y])
    found, _ = solved(y, BLUR)
    assert found.diagnostics.fits.tolist() == [True, False, True]
    assert found.diagnostics.worst == 1
    assert found.diagnostics.verdict.startswith("1 of 3 measurements: does not fit")
    assert "of measurement 1" in found.diagnostics.verdict
    assert found[0].diagnostics.is_consistent
    assert not found[1].diagnostics.is_consistent


def test_values_outside_the_range_are_counted():
    """The margin is 5 % of the width: -3.3 to 3.3 here."""
    found, _ = solved(Y, BLUR, ranged(-0.5, 0.5))
    expected = (found.samples.abs() > 0.55).double().mean((1, 2, 3))
    torch.testing.assert_close(found.diagnostics.outside, expected)


def test_no_network_is_evaluated_for_the_verdict():
    for y in (Y, 255 * Y):
        found, _ = solved(y, BLUR, ti.priors.counting.CountedPrior(FIELD))
        assert found.stats.denoiser_calls == 10


def test_an_image_with_a_phase_is_asked_for_where_a_real_one_is_taken():
    mask = ops.random_mask((1, 16, 16), 0.6, seed=1)[0]
    scan, noise = ops.FourierSampling(mask, real=True), ops.GaussianNoise(0.05)
    turned = torch.polar(X[0, 0].abs() + 1, torch.linspace(0, 2, 16).double().expand(16, 16))
    y = ops.FourierSampling(mask).forward(torch.stack([turned.real, turned.imag])[None])
    _, told = solved(y, scan, noise=noise)
    assert "has the image a phase?" in told[0].split("Other causes")[0] + told[0].split("\n")[2]
    assert "are your images like those of the prior?" in told[0]


@pytest.mark.parametrize(("steps", "asked"), [(10, True), (80, False)])
def test_only_a_short_walk_is_asked_for_its_length(steps, asked):
    y = BLUR.measure(X, seed=2)
    _, told = solved(y, BLUR, noise=ops.GaussianNoise(0.13), steps=steps)
    assert ("More of them fit closer" in told[0]) == asked
