"""What `solve` refuses before the first evaluation, and what it says when a walk goes wrong."""

import math
import re

import pytest
import torch

import tweedie_inverse as ti
from tests.posteriors import random_field
from tests.solve_problems import FIELD, MASK, NonLinear, UserOperator, Y
from tweedie_inverse import operators as ops
from tweedie_inverse.conditional import linear_gaussian


class Forbidden(ti.priors.Prior):
    """A prior that must not be called: input errors come first."""

    shape, sigma_min, sigma_max = (1, 8, 8), 0.01, 10.0

    def denoise(self, x, sigma):
        raise AssertionError("the network was called")

    def denoising_error(self, sigma):
        raise AssertionError("the denoising error was asked for")


class WrongAdjoint(UserOperator):
    def adjoint(self, y):
        return 1.2 * super().adjoint(y)


class Offset(UserOperator):
    def forward(self, x):
        return super().forward(x) + 1


class WrongShape(UserOperator):
    def forward(self, x):
        return x


class Detached(NonLinear):
    def forward(self, x):
        return x.detach().square()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"y": Y[:, :, :7]}, r"y must be one of them or \(batch, 1, 8, 8\), got \(5, 1, 7, 8\)"),
        ({"y": "y.npy"}, "needs a tensor or an array of numbers, got str"),
        ({"y": Y.long()}, "needs float32 or float64, got torch.int64"),
        ({"y": Y.half()}, r"use .float\(\)"),
        ({"y": torch.where(Y != 0, math.inf, Y)}, "NaN or infinite entries"),
        ({"operator": ops.Mask(MASK.mask)}, "the noise level is unknown"),
        ({"operator": ops.Mask(MASK.mask), "noise": -1.0}, "positive, finite"),
        ({"noise": "loud"}, "a number or a noise model"),
        ({"operator": torch.eye(3)}, "must derive from ops.Operator"),
        ({"prior": torch.nn.Identity()}, "wrap a network in ti.priors.NetworkPrior"),
        ({"prior": random_field(16)}, r"prior for images of shape \(1, 16, 16\)"),
        ({"operator": WrongAdjoint(), "y": torch.zeros(1, 8, 7)}, r"off by 2.0e-01, relative"),
        ({"operator": Offset(), "y": torch.zeros(1, 8, 7)}, "is declared linear, but"),
        (
            {"operator": WrongShape(), "y": torch.zeros(1, 8, 7)},
            r"must return shape \(2, 1, 8, 7\)",
        ),
        ({"operator": NonLinear(), "method": "langevin"}, r"Langevin\(norm="),
        ({"noise": ops.PoissonNoise(), "method": "langevin"}, "counts cannot be negative"),
        ({"noise": ops.PoissonNoise(), "y": Y.abs(), "method": "langevin"}, r"Langevin\(lipschitz"),
        ({"noise": ops.GaussianNoise.stationary(torch.ones(8, 8))}, "correlated across them"),
        ({"operator": Detached()}, "not differentiable by torch"),
        ({"operator": ops.per_image([MASK, MASK])}, "for each of 2 images, but y has 5"),
        ({"method": "magic"}, "choose 'auto'"),
        ({"num_samples": 0}, "at least one sample"),
        ({"steps": 0}, "at least one network evaluation"),
        ({"batch_size": 0}, "positive number of walkers"),
    ],
)
def test_bad_input_is_refused_before_the_first_evaluation(call, message):
    arguments = {"y": Y, "operator": MASK, "prior": Forbidden(), **call}
    with pytest.raises((ValueError, TypeError), match=message):
        ti.solve(**arguments)


def test_iterate_checks_when_called_not_when_drained():
    with pytest.raises(ValueError, match="NaN"):
        ti.iterate(Y * math.nan, MASK, Forbidden())


def test_an_unknown_noise_level_is_estimated_in_the_message():
    big = random_field(32)
    y = ops.Blur(ops.gaussian_kernel(1.0), (1, 32, 32), noise=ops.GaussianNoise(0.1)).measure(
        big.draw(1, seed=1)
    )
    with pytest.raises(ValueError, match=r"y suggests noise=0\.1?\d+") as caught:
        ti.solve(y, ops.Blur(ops.gaussian_kernel(1.0), (1, 32, 32)), big)
    found = float(re.search(r"noise=(\d\.\d+)", str(caught.value))[1])
    # The standard error of one image of this size is 5 %; a factor sqrt(2) is 41 %.
    assert abs(found / 0.1 - 1) < 5 * 0.05


class Late(Forbidden):
    """NaN in the third step of the second chunk of four steps, after two calls before the walk."""

    calls = 0

    def denoise(self, x, sigma):
        self.calls += 1
        return 0 * x if self.calls <= 2 + 6 else x * math.nan

    def denoising_error(self, sigma):
        return FIELD.denoising_error(sigma)


def test_a_walk_that_diverges_says_where_and_keeps_what_was_finished():
    with pytest.raises(ti.WalkDivergedError, match=r"step 3 of 4.*prior returned NaN") as caught:
        ti.solve(Y[:2], MASK, Late(), num_samples=2, steps=4, batch_size=2)
    assert caught.value.posterior.samples.shape == (1, 2, 1, 8, 8)
    assert bool(caught.value.posterior.samples.isfinite().all())


def test_an_unfinished_linear_solve_is_told(monkeypatch):
    monkeypatch.setattr(linear_gaussian, "DIRECT_LIMIT", 0)
    monkeypatch.setattr(linear_gaussian, "MAX_ITERATIONS", 1)
    with pytest.warns(RuntimeWarning, match="posterior standard deviations short"):
        ti.solve(Y[0], MASK, FIELD, num_samples=1, steps=2)


def test_user_callback_errors_pass_through():
    def stop(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ti.solve(Y[0], MASK, FIELD, steps=2, callback=stop)
