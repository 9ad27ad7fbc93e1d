"""Where the numbers of an operator begin: near the most probable ones, and kinds told apart."""

import math

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional.first_guess import (
    first_guess,
    followed_numbers,
    geometric_numbers,
)
from tweedie_inverse.conditional.instrument import Instrument
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.datasets.seeds import HELD_OUT_SEED
from tweedie_inverse.datasets.slices import CTSlices
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.streams import Streams
from tweedie_inverse.solving.parameters import _is_told
from tweedie_inverse.walks.pilot import begun, kernel_levels, levels

SHAPE = (1, 8, 8)
FIELD = random_field(8)
NOISE = ops.GaussianNoise(0.2)


def scan(offset):
    return ops.Tomography(SHAPE, 7, 17, detector_offset=offset)


def blurred_scan(offset, width):
    return ops.compose(scan(offset), ops.Blur(ops.gaussian_kernel(width, 7), SHAPE))


CASES = {
    "offset": (ops.parametric(scan, offset=(-2.0, 2.0)), {"offset": 0.7}),
    "both": (
        ops.parametric(blurred_scan, offset=(-2.0, 2.0), width=(0.5, 2.0)),
        {"offset": 0.7, "width": 1.2},
    ),
    "width": (
        ops.parametric(
            lambda width: ops.Blur(ops.gaussian_kernel(width, 7), SHAPE), width=(0.5, 2)
        ),
        {"width": 1.2},
    ),
}


def problem_of(name, count=2, noise=NOISE):
    operator, truth = CASES[name]
    clean = operator.at(**truth).forward(FIELD.draw(count, seed=1).double())
    return Problem(noise.sample(clean, seed=2), operator, noise), list(truth.values())


@pytest.mark.parametrize("name", ["offset", "width"])
def test_the_guess_is_near_and_says_how_near(name):
    problem, truth = problem_of(name)
    geometric = [place for place, each in enumerate(CASES[name][1]) if each == "offset"]
    found = first_guess(problem, *FIELD.moments(), Instrument(problem).start(), geometric)
    assert found.u.shape == (2, len(truth))
    z = (found.u - torch.tensor(truth).double()) / found.deviation
    assert float(z.abs().max()) < 6
    if geometric:
        assert float(found.deviation.max()) < 0.5
    assert problem.operator_calls > 0


def test_offsets_are_geometric_and_widths_are_not():
    for name, expected in {"offset": {0}, "width": set(), "both": {0}}.items():
        problem, _ = problem_of(name, 1)
        start = Instrument(problem).start()
        assert geometric_numbers(problem, *FIELD.moments(), start) == expected


class Almost(ti.priors.GaussianMixture):
    """A mixture whose moments are those of a field."""

    def moments(self):
        return FIELD.moments()


def almost():
    return Almost(FIELD.draw(3, seed=4).double(), torch.ones(3) / 3, 0.3)


def test_geometric_numbers_need_no_pilot():
    walk, prior = ti.walks.UnknownInstrument(), almost()
    problem, _ = problem_of("offset", 1)
    planned = walk.plan(problem, prior, 30).walk
    assert (planned.pilot, planned.geometric) == (0, ("offset",))
    problem, _ = problem_of("both", 1)
    planned = walk.plan(problem, prior, 30).walk
    assert (planned.pilot, planned.geometric) == (10, ("offset",))
    given = ti.walks.UnknownInstrument(geometric=())
    assert given.plan(problem, prior, 30).walk.geometric == ()
    with pytest.raises(ValueError, match="'tilt' is no unknown of parametric"):
        ti.walks.UnknownInstrument(geometric=("tilt",)).plan(problem, prior, 30)


def test_walkers_begin_as_far_apart_as_the_guess_is_wrong():
    one, _ = problem_of("width", 1, ops.GaussianNoise(0.01))
    problem = Problem(one.y.expand(400, *one.y.shape[1:]), one.operator, one.noise)
    instrument, streams = Instrument(problem), Streams([("walk", 0, i) for i in range(400)])
    steps = torch.ones(400, 1).double()
    guess = first_guess(one, *FIELD.moments(), Instrument(one).start())
    for prior, spread in ((FIELD, 1.0), (almost(), 5.0)):
        u, sizes = begun(problem, instrument, prior, steps, streams.at(1), ())
        expected = spread * float(guess.deviation)
        assert abs(float(u.std()) / expected - 1) < 5 / math.sqrt(800)
        assert float(sizes.min()) == pytest.approx(2 * float(guess.deviation))
    untold, _ = problem_of("width", 1)
    instrument = Instrument(untold)
    u, _ = begun(untold, instrument, FIELD, steps[:1], Streams([("walk", 0, 1)]).at(1), ())
    assert bool(((u > instrument.unknowns.low) & (u < instrument.unknowns.high)).all())


def test_levels_of_a_pilot():
    prior = almost()
    found = levels(8, 20.0, prior)
    assert len(found) == 8
    units = [level.sigma / prior.unit for level in found[1:]]
    assert units[:2] == [3.0, 1.0]
    assert units[2] == pytest.approx(0.4)
    assert units[-1] == pytest.approx(max(0.15, prior.sigma_min / prior.unit))
    assert found[-1].sigma_next == 0
    problem = Problem(torch.zeros(1, *SHAPE), CASES["width"][0].at(width=1.0), NOISE)
    walk = ti.walks.Decoupled(error="measured", secants=False)
    assert len(kernel_levels(5, 20.0, prior, problem, walk)[0]) == 5


class TestNumbersThatTheImageCanFollow:
    """Whoever turns a scan can turn the image; an offset of the detector fits no other image."""

    SIDE = 16

    def scan(self, **numbers):
        return ops.Tomography((1, self.SIDE, self.SIDE), 8, noise=ops.GaussianNoise(0.2), **numbers)

    def asked(self, name):
        operator = ops.parametric(lambda **numbers: self.scan(**numbers), **{name: (-3.0, 3.0)})
        field = random_field(self.SIDE)
        y = operator.at(**{name: 1.0}).measure(field.draw(1, seed=4)[0], seed=5)
        problem = Problem(y[None], operator, operator.noise)
        start = Instrument(problem).start()
        return followed_numbers(problem, *field.moments(), start, [0])

    def test_an_angle_is_one(self):
        assert self.asked("angle_offset") == {0}

    def test_an_offset_is_none(self):
        assert self.asked("detector_offset") == set()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::tweedie_inverse.PosteriorWarning")
def test_an_angle_that_the_image_can_follow_is_not_told():
    """The prior's moments are sure of a wrong one; phantoms are as likely at any tilt."""
    shape = (1, 64, 64)
    operator = ops.parametric(
        lambda angle: ops.Tomography(shape, 20, angle_offset=angle), angle=(-4.0, 4.0)
    )
    x = CTSlices(64).images([HELD_OUT_SEED + 1])
    y = ops.GaussianNoise(0.5).sample(operator.at(angle=1.3).forward(x), seed=1)
    found = ti.solve(
        y[0], operator, ti.load_prior("phantom-64"), noise=0.5, num_samples=6, steps=10
    )
    angle = found.parameters["angle"]
    assert "the image can follow angle" in found.stats.reason
    assert not bool(angle.is_told)
    low, high = (float(end) for end in angle.interval())
    assert low < 1.3 < high
    assert float(found.diagnostics.chi_square) < 1.3


@pytest.mark.parametrize("count", [2, 4, 6, 20])
def test_samples_of_the_prior_itself_are_rarely_said_to_be_told(count):
    spread = normal((7,), (4000, count)).double().std(1)
    told = _is_told(spread, torch.ones(4000).double(), count).double().mean()
    assert float(told) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 4000)
    assert bool(_is_told(spread * 0.01, torch.ones(4000).double(), 6).all())
