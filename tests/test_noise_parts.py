"""Noise made of parts: those of a stack are independent, and rounding adds to the variance."""

import math

import pytest
import torch

from tweedie_inverse import operators as ops
from tweedie_inverse.numerics.random import normal

SIDE, COUNT = 16, 200
EQUAL_PARTS = {
    "counts": ops.PoissonNoise(0.25),
    "counts-with-read-out": ops.PoissonGaussianNoise(0.25, 0.4),
    "digitized": ops.DigitizedNoise(0.3, step=0.5),
    "correlated": ops.GaussianNoise.stationary(torch.full((SIDE, SIDE), 0.04)),
    "white": ops.GaussianNoise(0.3),
}


@pytest.mark.parametrize("name", EQUAL_PARTS)
def test_equal_parts_of_a_stack_have_independent_noise(name):
    """Catches parts that share a random stream: their correlation would be 1."""
    part = ops.Mask(torch.ones(SIDE, SIDE), noise=EQUAL_PARTS[name])
    both = ops.stack(part, part, part)
    x = 1 + 0.1 * normal((1,), (COUNT, 1, SIDE, SIDE))
    clean = both.forward(x)
    residuals = [r.flatten() for r in both.split(both.noise.sample(clean, seed=3) - clean)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        correlation = float(
            torch.corrcoef(torch.stack([residuals[first], residuals[second]]))[0, 1]
        )
        assert abs(correlation) * math.sqrt(residuals[0].numel()) < 5


@pytest.mark.parametrize(("std", "step"), [(0.3, 0.5), (0.2, 1.0), (0.3, 0.0)])
def test_the_variance_of_digitized_noise_holds_that_of_rounding(std, step):
    """Over values spread evenly between two steps it is ``std^2 + step^2 / 12`` exactly.

    Without the second term the first two cases would be off by more than fifty standard errors.
    """
    noise, places = ops.DigitizedNoise(std, step=step), 200_000
    ax = 3 * step * torch.arange(places).double()[None] / places
    squares = (noise.sample(ax, seed=2) - ax).square().flatten()
    excess = squares - noise.variance(ax).flatten()
    assert abs(float(excess.mean() / (excess.std() / places**0.5))) < 5
    standardized = noise.standardize(noise.sample(ax, seed=5), ax).square().flatten() - 1
    assert abs(float(standardized.mean() / (standardized.std() / places**0.5))) < 5
