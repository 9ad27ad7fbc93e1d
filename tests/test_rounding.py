"""Differences of a network's answers are taken only where they are more than its rounding."""

import copy
import math

import pytest
import torch
from torch import nn

import tweedie_inverse as ti
from tests.posteriors import random_field
from tweedie_inverse import operators as ops
from tweedie_inverse.benchmarks.acceptance.equality import all_digits
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.priors import execution
from tweedie_inverse.priors.counting import CountedPrior
from tweedie_inverse.priors.error.from_network import can_probe, directional, reach
from tweedie_inverse.priors.execution import roundoff_of
from tweedie_inverse.priors.wrapped import UnderAutocast

SIDE = 16
FIELD = random_field(SIDE)


class Exact(nn.Module):
    """The denoiser of the field, rounded by a last convolution under autocast."""

    def __init__(self):
        super().__init__()
        self.last = nn.Parameter(torch.ones(1, 1, 1, 1), requires_grad=False)

    def forward(self, x, sigma):
        exact = FIELD.denoise(x.double(), sigma.double()).float()
        return nn.functional.conv2d(exact, self.last)


def prior_of(error=None):
    return ti.priors.NetworkPrior(
        Exact(), "x0", shape=FIELD.shape, sigma_min=0.01, sigma_max=20.0, error=error,
        centre=float(torch.as_tensor(FIELD.centre).mean()),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_rounding_is_that_of_the_answers(kind):
    plain = prior_of()
    x = FIELD.draw(4, seed=1).float() + 0.1 * normal((1,), (4, *FIELD.shape)).float()
    half = plain.faster(autocast=kind)
    found = (half.denoise(x, 0.1) - plain.denoise(x, 0.1)).square().mean().sqrt()
    size = float(plain.denoise(x, 0.1).square().mean().sqrt())
    assert 0.5 < float(found) / (half.rounding * size) < 2
    assert CountedPrior(half).rounding == half.rounding > 100 * plain.rounding > 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert UnderAutocast(plain, torch.device("cpu")).rounding >= half.rounding
    assert half.uncorrected().rounding == half.rounding


def test_a_gpu_rounds_float32_to_ten_bits_unless_it_is_told_not_to(monkeypatch):
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(execution, "_has_tf32", lambda: True)
    coarse = roundoff_of(torch.float32, cuda)
    assert coarse == roundoff_of(torch.float16, cpu) > roundoff_of(torch.float32, cpu)
    monkeypatch.setattr(execution, "_has_tf32", lambda: False)
    assert roundoff_of(torch.float32, cuda) == roundoff_of(torch.float32, cpu)
    monkeypatch.undo()
    with all_digits():
        assert not execution._has_tf32()
    assert execution._has_tf32()


def test_the_step_is_as_long_as_rounding_asks_for():
    numbers = 3 * 64 * 64
    assert reach(0.1, numbers, 2.0**-25) == 0.1  # float32: of length sigma, as ever
    long = reach(0.1, numbers, 5e-4)
    assert long == pytest.approx(10 * 5e-4 * math.sqrt(numbers))
    assert 0.1 < long < 0.3 * 0.1 * math.sqrt(numbers)
    assert reach(0.01, numbers, 5e-4) is None
    assert reach(0.1, 4, 0.0) == 0.1
    assert can_probe(0.1, 5e-4)
    assert not can_probe(0.01, 5e-4)


def test_a_product_with_the_jacobian_is_right_by_the_longer_step():
    x, sigma = FIELD.draw(20, seed=2).float(), 0.1
    direction = FIELD.draw(20, seed=3).float() - FIELD.centre.float()
    half, found = prior_of().faster(autocast="bf16"), []
    exact = sigma**2 * (FIELD.denoise(x + direction, sigma) - FIELD.denoise(x, sigma))
    for step in (None, reach(sigma, SIDE**2, half.rounding)):
        told = directional(half.denoise, x, half.denoise(x, sigma), sigma, direction, step)
        found.append(float((told - exact).norm() / exact.norm()))
    # Over eight sets of random numbers 0.17 to 0.22, and 0.069 to 0.085.
    assert found[1] < 0.12 < 0.14 < found[0]


class Blind(ti.priors.NetworkPrior):
    """Does not know how its network is rounded."""

    rounding = 0.0


def test_rounding_is_not_taken_for_a_network_that_is_no_denoiser():
    """Differences that are rounding look like a Jacobian that is far from a denoiser's."""
    error = ti.measure_denoising_error(prior_of(), FIELD.draw(32, seed=9).float(), levels=4)
    operator = ops.Mask(ops.random_mask(FIELD.shape, 0.3, seed=1), noise=ops.GaussianNoise(0.05))
    y = operator.measure(FIELD.draw(4, seed=4), seed=0).float()
    half = prior_of(error).faster(autocast="bf16")
    blind = copy.copy(half)
    blind.__class__ = Blind
    found, doubted = (
        ti.solve(y, operator, prior, num_samples=40, steps=16, seed=1) for prior in (half, blind)
    )
    assert "left out" not in found.stats.reason
    assert "left out" in doubted.stats.reason
