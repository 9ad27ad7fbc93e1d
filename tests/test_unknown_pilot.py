"""What a walk takes of its pilot, and the V that numbers of an operator are moved with."""

import pytest
import torch

import tweedie_inverse as ti
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import isotropic
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.solving.parameter import Parameter
from tweedie_inverse.walks.level_moves import of_average_size

SHAPE = (1, 64, 64)
NOISE = ops.GaussianNoise(0.05)


def blur(width):
    return ops.Blur(ops.gaussian_kernel(width, 15), SHAPE)


UNKNOWN = ops.parametric(blur, width=(0.5, 4.0))


@pytest.fixture(scope="module")
def prior():
    return ti.load_prior("phantom-64")


def test_the_error_by_place_has_the_average_s_size_in_each_image(prior):
    denoised = prior.denoise(0.3 + 0.2 * normal(("x",), (3, *SHAPE)).float(), 0.2)
    given = prior.conditional_covariance(0.2, denoised)
    found = of_average_size(given)
    sizes = found.scale.square().flatten(1).mean(1)
    assert torch.allclose(sizes, torch.ones(3), atol=1e-5)
    assert float(given.scale.square().mean()) > 1.5  # the table itself is larger
    ratio = (found.scale / given.scale).flatten(1)
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-5)
    plain = isotropic(0.3)
    assert of_average_size(plain) is plain


def test_after_a_pilot_the_walk_goes_on_with_its_image(prior):
    y = NOISE.sample(blur(1.5).forward(torch.full((1, *SHAPE), 0.3)), seed=1)
    problem, walk = Problem(y, UNKNOWN, NOISE), ti.walks.UnknownInstrument(pilot=5)
    planned = walk.plan(problem, prior, 24)
    first = float(planned.sigmas[0])
    assert first == pytest.approx(walk.goes_on * prior.unit)
    assert planned.walk.walk.sigma_max is None
    streams = Streams([("walk", 0, 0)])
    state = planned.walk.start(problem, prior, first, streams.at(0))
    noise = (state.x - 0.3) / first
    assert float(noise.std()) == pytest.approx(1.0, abs=5 / (2 * noise.numel()) ** 0.5)


def test_the_highest_level_of_a_walk_stays_where_it_is_lower_or_there_is_no_pilot(prior):
    problem = Problem(torch.zeros(1, *SHAPE), UNKNOWN, NOISE)
    alone = ti.walks.UnknownInstrument(pilot=0).plan(problem, prior, 24)
    assert float(alone.sigmas[0]) == pytest.approx(prior.sigma_max)
    lower = ti.walks.UnknownInstrument(ti.walks.Decoupled(sigma_max=1.5)).plan(problem, prior, 24)
    assert float(lower.sigmas[0]) == pytest.approx(1.5)
    assert lower.walk.walk.sigma_max == 1.5
    exact = ti.priors.Gaussian(torch.zeros(SHAPE), power_spectrum=torch.ones(64, 64))
    assert float(ti.walks.UnknownInstrument().plan(problem, exact, 24).sigmas[0]) == pytest.approx(
        exact.sigma_max
    )


def test_a_kernel_has_its_pilot(prior):
    """With a network the pilot is there by default; it moves the kernel at all of its levels."""
    noise = ops.GaussianNoise(0.05)
    y = ops.Blur(ops.gaussian_kernel(1.0, 3), SHAPE, noise=noise).measure(
        prior.denoise(normal(("x",), (1, *SHAPE)).float(), 1.0), seed=1
    )
    found = ti.solve(
        y, ops.BlindBlur(SHAPE, 3, noise=noise), prior, num_samples=1, steps=20, noise=0.05
    )
    assert "a pilot of 5 evaluations" in found.stats.reason
    assert found.stats.denoiser_calls <= 20
    assert found.parameters["kernel"].samples.shape == (1, 1, 3, 3)


@pytest.mark.parametrize("name", ["held", "goes_on"])
def test_units_may_be_infinite_and_not_zero(name):
    assert getattr(ti.walks.UnknownInstrument(**{name: float("inf")}), name) == float("inf")
    with pytest.raises(ValueError, match=f"{name}=0.*infinity"):
        ti.walks.UnknownInstrument(**{name: 0.0})


def test_an_interval_of_six_samples_covers_what_it_says():
    """Six draws from min to max would cover 0.71 of a Gaussian; Student's quantile covers 0.9."""
    count, size = 20_000, 6
    drawn = normal(("interval",), (count, size + 1)).double()
    told = torch.ones(count, dtype=torch.bool)
    ends = torch.tensor([[-50.0, 50.0]]).double().expand(count, 2)
    trace = drawn[:, :size, None]
    low, high = Parameter("width", drawn[:, :size], ends, trace, drawn[:, 0], told).interval(0.9)
    inside = float(((low <= drawn[:, size]) & (drawn[:, size] <= high)).double().mean())
    assert abs(inside - 0.9) * (count / 0.09) ** 0.5 < 5
