"""A family of instruments that does not hold the truth raises an alarm; one that does, does not."""

import pytest

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import operators as ops

SHAPE, NOISE = (1, 16, 16), ops.GaussianNoise(0.01)
FIELD = random_field(16)
FAMILY = ops.parametric(
    lambda width: ops.Blur(ops.gaussian_kernel(width, 13), SHAPE), width=(0.5, 3.0)
)
MOTION = ops.Blur(ops.motion_kernel(13, length=7.0, angle=30), SHAPE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["motion", "Gaussian"])
def test_motion_is_no_gaussian(name):
    operator = MOTION if name == "motion" else FAMILY.at(width=1.5)
    y = NOISE.sample(operator.forward(FIELD.draw(1, seed=5)), seed=25)[0]
    method = ti.walks.UnknownInstrument(operator_moves=4)
    given = {"noise": NOISE, "num_samples": 8, "steps": 6, "method": method}
    width = ti.solve(y, FAMILY, FIELD, **given).parameters["width"]
    report = ti.check_fit(y, FAMILY.at(width=float(width.mean)), FIELD, count=59, noise=NOISE)
    assert report.passed == (name == "Gaussian")
