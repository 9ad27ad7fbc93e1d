"""Sliced Wasserstein against POT and a closed form."""

import math

import pytest
import torch

from tweedie_inverse.evaluation.calibration import sliced_wasserstein
from tweedie_inverse.numerics.random import normal


@pytest.mark.parametrize("counts", [(200, 200), (200, 130), (1, 7)])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_sliced_wasserstein_is_that_of_pot(counts, power):
    """The same directions, equal and unequal numbers of samples."""
    ot = pytest.importorskip("ot")
    x, y = normal((1,), (counts[0], 5)), 0.5 + 2 * normal((2,), (counts[1], 5))
    directions = normal(("slices", 7), (5, 40))
    directions /= directions.norm(dim=0)
    theirs = ot.sliced.sliced_wasserstein_distance(
        x.numpy(), y.numpy(), projections=directions.numpy(), p=power
    )
    found = sliced_wasserstein(x, y, slices=40, power=power, seed=7)
    assert found == pytest.approx(float(theirs), rel=1e-9)


def test_sliced_wasserstein_of_a_shift():
    """A shift by v moves every direction by its projection: ``E (v d)^2 = |v|^2 / n``."""
    x, shift = normal((1,), (50, 2, 2)), torch.tensor([[3.0, 0.0], [0.0, 4.0]]).double()
    found = sliced_wasserstein(x, x + shift, slices=20_000, power=2.0)
    assert found == pytest.approx(5 / math.sqrt(4), rel=0.02)
    assert sliced_wasserstein(x, x.flip(0)) < 1e-15


@pytest.mark.parametrize(
    ("x", "y", "options"),
    [
        (torch.ones(3, 2), torch.ones(3, 4), {}),
        (torch.ones(0, 2), torch.ones(3, 2), {}),
        (torch.ones(3, 2), torch.ones(3, 2), {"power": 0.5}),
        (torch.ones(3, 2), torch.ones(3, 2), {"slices": 0}),
    ],
)
def test_wrong_input_is_told(x, y, options):
    with pytest.raises(ValueError, match="sliced_wasserstein"):
        sliced_wasserstein(x, y, **options)
