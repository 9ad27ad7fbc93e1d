"""Complex images: a known phase, the magnitudes of a prior of real images, and what is left."""

from dataclasses import replace

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import Moments, agreement, prior_covariance, random_field
from tests.test_slices import silent_network
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional.linear_gaussian import conditional_draw
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.random import normal

NOISE = ops.GaussianNoise(0.1)
SIDE = 6
MAP = 2 * normal((3,), (SIDE, SIDE))
COILS = torch.complex(normal((7,), (3, SIDE, SIDE)), normal((8,), (3, SIDE, SIDE)))
SCAN = ops.FourierSampling(ops.cartesian_mask((SIDE, SIDE), 2), coils=COILS, noise=NOISE)


def covariance_of(real, rest, phase):
    """Of both channels, densely: the rotation is a matrix of four diagonal blocks."""
    c, s = phase.cos().flatten().diag(), phase.sin().flatten().diag()
    turn = torch.cat([torch.cat([c, -s], 1), torch.cat([s, c], 1)])
    n = len(real)
    both = torch.zeros(2 * n, 2 * n, dtype=torch.float64)
    both[:n, :n], both[n:, n:] = real, rest
    return turn @ both @ turn.mT


def posterior_of(covariance, operator, y):
    matrix = ops.dense_matrix(operator)
    seen = matrix @ covariance @ matrix.mT + 0.01 * torch.eye(len(matrix)).double()
    gain = torch.linalg.solve(seen, matrix @ covariance).mT
    return Moments(gain @ y.double().flatten(), covariance - gain @ matrix @ covariance)


FIELD = prior_covariance(random_field(SIDE))
MODELS = {
    "number": lambda prior: (ti.priors.Complex(prior, phase=MAP, imaginary=0.2, width=1.0), None),
    "trusted": lambda prior: (ti.priors.Complex(prior, phase=MAP), 0 * FIELD),
    "prior": lambda prior: (
        ti.priors.Complex(
            prior,
            phase=MAP,
            imaginary=ti.priors.Gaussian(
                torch.zeros(1, SIDE, SIDE).double(), covariance=0.1 * FIELD + 0.01 * torch.eye(36)
            ),
        ),
        0.1 * FIELD + 0.01 * torch.eye(36),
    ),
}


def exact_model(name, prior):
    complex_prior, rest = MODELS[name](prior)
    if rest is None:
        rest = prior_covariance(complex_prior._rest)
        assert float(rest.diagonal().mean()) == pytest.approx(0.04)
    return complex_prior, covariance_of(FIELD, rest, MAP)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("name", MODELS)
def test_complex_gaussian_fields_have_the_exact_posterior(name, steps):
    prior, covariance = exact_model(name, random_field(SIDE))
    x = prior.moments()[1].colour(normal((1,), (1, *prior.shape)))
    y = SCAN.measure(x[0], seed=2)
    posterior = ti.solve(y, SCAN, prior, num_samples=1500, steps=steps)
    assert agreement(posterior.samples, posterior_of(covariance, SCAN, y)).worst_z < 5


def test_the_moments_are_those_of_the_model():
    for name in MODELS:
        prior, covariance = exact_model(name, random_field(SIDE))
        units = torch.eye(72, dtype=torch.float64).reshape(72, 2, SIDE, SIDE)
        found = prior.moments()[1].apply(units).reshape(72, 72)
        torch.testing.assert_close(found, covariance, atol=1e-12, rtol=1e-9)
        x = normal((4,), (2, *prior.shape))
        textbook = torch.linalg.solve(covariance + 0.25 * torch.eye(72).double(), covariance)
        torch.testing.assert_close(prior.denoise(x, 0.5).flatten(1), x.flatten(1) @ textbook)


def test_a_network_of_magnitudes_tells_its_error_in_turned_coordinates():
    """Waves of real and imaginary part alone would mix the two variances."""
    prior, covariance = exact_model("number", silent_network(SIDE))
    x = prior.probe_basis.joined(
        random_field(SIDE).draw(1, seed=1), 0.2 * normal((2,), (1, 1, SIDE, SIDE))
    )
    y = SCAN.measure(x[0], seed=2)
    posterior = ti.solve(y, SCAN, prior, num_samples=200, steps=16)
    assert "read from the network" in posterior.stats.reason
    assert agreement(posterior.samples, posterior_of(covariance, SCAN, y)).worst_z < 5


class Sized(ti.priors.Gaussian):
    """A field whose error differs from place to place, as that of a network does."""

    SIZES = 0.5 + normal((9,), (1, 1, SIDE, SIDE)).abs()

    def conditional_covariance(self, sigma, denoised):
        found = super().conditional_covariance(sigma, denoised)
        return replace(found, scale=self.SIZES.expand_as(denoised))


def test_sizes_by_place_are_those_of_the_turned_image():
    """Not of real and imaginary part: a magnitude that is uncertain leaves the phase alone."""
    field = random_field(SIDE)
    spectrum = field.covariance.variance.reshape(SIDE, SIDE)
    sized = Sized(torch.zeros(1, SIDE, SIDE).double(), power_spectrum=spectrum)
    prior = ti.priors.Complex(sized, phase=MAP, imaginary=0.2, width=1.0)
    found = prior.conditional_covariance(1.0, torch.zeros(3, *prior.shape).double())
    units = torch.eye(36, dtype=torch.float64).reshape(36, 1, SIDE, SIDE)
    real = sized.conditional_covariance(1.0, units).apply(units).reshape(36, 36)
    rest = prior._rest.conditional_covariance(1.0, units).apply(units).reshape(36, 36)
    exact = covariance_of(real, rest, MAP)
    both = torch.eye(72, dtype=torch.float64).reshape(72, 2, SIDE, SIDE)
    assert found.scale.shape == (3, 2, SIDE, SIDE)
    one = replace(found, scale=found.scale[:1])
    torch.testing.assert_close(one.apply(both).reshape(72, 72), exact, atol=1e-12, rtol=1e-9)
    drawn = one.colour(normal((2,), (4000, *prior.shape)))
    assert agreement(drawn, Moments(torch.zeros(72).double(), exact)).worst_z < 5
    torch.testing.assert_close(one.factor(one.factor_inverse(drawn)), drawn)


def test_a_draw_with_sizes_by_place_is_exact():
    """The last level alone: N(D, V) of such a V, given y."""
    field = random_field(SIDE)
    spectrum = field.covariance.variance.reshape(SIDE, SIDE)
    sized = Sized(torch.zeros(1, SIDE, SIDE).double(), power_spectrum=spectrum)
    for stacked in (False, True):
        prior = ti.priors.Complex(sized, phase=MAP, imaginary=0.2, width=1.0)
        scan = SCAN
        if stacked:
            prior, scan = ti.priors.Slices(prior, depth=2, correlation=2.0), ops.slicewise(SCAN, 2)
        covariance = prior.conditional_covariance(1.0, torch.zeros(1, *prior.shape).double())
        size = covariance.scale.numel()
        units = torch.eye(size, dtype=torch.float64).reshape(size, *prior.shape)
        dense = covariance.apply(units).reshape(size, size)
        y = scan.measure(covariance.colour(normal((1,), (1, *prior.shape)))[0], seed=2)
        count = 2000
        draw = conditional_draw(
            torch.zeros(count, *prior.shape).double(),
            replace(covariance, scale=covariance.scale.expand(count, *prior.shape)),
            Problem(y.expand(count, *y.shape), scan, NOISE),
            normal((3,), (count, *prior.shape)),
            normal((4,), (count, *scan.range_shape)),
        )
        assert agreement(draw.x, posterior_of(dense, scan, y)).worst_z < 5


def test_the_centre_and_the_phase_turn_together():
    field = random_field(SIDE)
    shifted = ti.priors.Gaussian(torch.full((1, SIDE, SIDE), 3.0), covariance=FIELD)
    turned = ti.priors.Complex(shifted, phase=torch.pi / 2)
    torch.testing.assert_close(turned.centre[1], torch.full((SIDE, SIDE), 3.0).double())
    assert float(turned.centre[0].abs().max()) < 1e-12
    by_angle = ti.priors.Complex(field, phase=MAP)
    by_map = ti.priors.Complex(field, phase=torch.polar(2 + MAP**2, MAP))
    x = normal((5,), (1, 2, SIDE, SIDE))
    torch.testing.assert_close(by_angle.denoise(x, 0.3), by_map.denoise(x, 0.3))


def test_volumes_of_complex_slices():
    slices = ti.priors.Slices(
        ti.priors.Complex(random_field(SIDE), phase=MAP, imaginary=0.1), depth=3, correlation=2.0
    )
    assert slices.shape == (2, 3, SIDE, SIDE)
    stack = ops.slicewise(SCAN, 3)
    x = slices.moments()[1].colour(normal((1,), (1, *slices.shape)))[0]
    posterior = ti.solve(stack.measure(x, seed=1), stack, slices, num_samples=8, steps=3)
    assert posterior.diagnostics.verdict.startswith("consistent")
    solid = ti.priors.Gaussian(
        torch.zeros(1, 3, 4, 5).double(), power_spectrum=torch.ones(3, 4, 5).double()
    )
    assert ti.priors.Complex(solid, phase=0.3).shape == (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ti.priors.Complex(random_field(6), phase=torch.zeros(5, 6)), "needs one number"),
        (lambda: ti.priors.Complex(random_field(6), imaginary=-1.0), "0 or more"),
        (lambda: ti.priors.Complex("network"), "a prior of real images"),
        (
            lambda: ti.priors.Complex(ti.priors.Complex(random_field(6))),
            "a network of two channels is a prior of complex images as it is",
        ),
        (
            lambda: ti.priors.Complex(ti.priors.Slices(random_field(6), depth=2, correlation=1.0)),
            r"make slices of the complex prior",
        ),
        (lambda: ti.priors.Complex(random_field(6), phase=torch.full((6, 6), torch.nan)), "NaN"),
        (lambda: ti.priors.Complex(random_field(6), imaginary=random_field(5)), "prior for images"),
    ],
)
def test_wrong_settings_are_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
