"""The kernel Stein test: exact where the score is, and silent where its gate is not passed."""

import math

import pytest
import torch

import tweedie_inverse as ti
from tests.seeds import salted
from tests.test_calibrate import OPERATOR, SHAPE, WHITE, calibrated, exact, spoilt
from tweedie_inverse.evaluation.calibrate import record, stein_gate
from tweedie_inverse.evaluation.calibrate.stein import Frame, stein_p_value, stein_pairs
from tweedie_inverse.numerics.random import normal


def test_the_stein_kernel_is_the_stein_operator_twice():
    """Stein's operator in both arguments of the inverse multiquadric, by automatic derivatives."""
    z, weights = normal((1,), (4, 3)), torch.tensor([1.0, 0.5, 2.0]).double()
    scores = normal((2,), (4, 3))

    def kernel(a, b):
        return (len(a) + (a - b).square().sum()) ** -0.5

    found = stein_pairs(z, scores, weights)
    for i in range(2):
        for j in range(3):
            first, second = torch.autograd.functional.jacobian(kernel, (z[i], z[j]))
            mixed = torch.autograd.functional.hessian(kernel, (z[i], z[j]))[0][1].diagonal()
            each = scores[i] * scores[j] * kernel(z[i], z[j]) + scores[i] * second
            each = each + scores[j] * first + mixed
            torch.testing.assert_close(found[i, j], (weights.square() * each).sum())


def draws(repeat, count=40):
    """Draws of different Gaussians, one of each, with their scores in standard coordinates."""
    z = normal(("stein draws", salted(repeat)), (count, 4))
    means = normal(("stein means", salted(repeat)), (count, 4))  # known only roughly
    return z + 0.2 * means, -z


def test_right_draws_fail_at_the_level_and_biased_ones_nearly_always():
    repeats, level, found = 150, 0.1, []
    for k in range(repeats):
        z, scores = draws(k)
        weights = 1 / scores.square().mean(0).sqrt()
        right = stein_p_value(z, scores, weights, salted(k))
        moved = stein_p_value(z + 0.6, scores - 0.6, weights, salted(k))
        found.append((right <= level, moved <= level))
    false, seen = (sum(each) for each in zip(*found, strict=True))
    assert abs(false - level * repeats) < 4 * math.sqrt(repeats * level * (1 - level))
    assert seen > 0.95 * repeats


def test_coordinates_leave_out_directions_without_spread():
    line = normal(("line", salted(0)), (30, 5, 1)) * torch.ones(3).double()
    frame = Frame.of(line)
    assert frame.axes.shape == (3, 1)
    assert abs(float(frame.axes[:, 0].abs().sum()) - 3**0.5) < 1e-9
    assert abs(math.log(float(frame.scale) / 3**0.5)) < 5 * 0.5**0.5 / 120**0.5


def test_it_is_heard_on_exact_draws_and_sees_a_bias_in_samples():
    """One right score in ten does not pass the gate, four in a row once in 10,000 times."""
    for k in range(4):
        right = calibrated(seed=salted(k)).stein
        if right.p_value is not None:
            break
    assert right.p_value > 0.0005
    assert right.exact >= 0.1
    assert right.resolved in (0.1, 0.15, 0.2)
    assert "with the exact score" in right.words
    assert right.words.endswith("it is blind to a missing mode, whatever the score")
    biased = calibrated(spoilt(bias=0.6), seed=salted(k)).stein
    assert biased.p_value <= 0.001
    assert biased.resolved is not None


class Off(ti.priors.Gaussian):
    """A score that is off by nearly its own standard deviation."""

    def log_prob(self, x, sigma=0.0):
        return super().log_prob(x - 2.0, sigma)


def test_it_is_silent_where_the_gate_is_not_passed(monkeypatch):
    wrong = ti.calibrate(
        OPERATOR, Off(torch.zeros(SHAPE), torch.eye(16)),
        count=20, num_samples=5, steps=2, seed=salted(0), power=False,
    )  # fmt: skip
    monkeypatch.setattr(stein_gate, "BIASES", (0.0,))  # which nothing can see
    weak = [calibrated(seed=salted(k), count=20).stein for k in range(3)]
    assert "score is not accurate enough: the truths" in wrong.stein.reason
    assert any("with 20 truths it does not see a bias" in one.reason for one in weak)
    for one in (wrong.stein, *weak):
        assert one.p_value is None
        assert "in any case it is blind to a missing mode" in one.words
    assert wrong.stein.words in wrong.not_tested
    assert wrong.stein.words not in str(wrong).partition("not tested:")[0]


def test_large_images_are_not_kept_for_it(monkeypatch):
    monkeypatch.setattr(record, "KEPT", 15)
    found = calibrated(count=20, num_samples=5)
    assert "too many numbers to be kept" in found.stein.reason


def test_a_network_is_asked_at_its_smallest_level():
    levels = []

    class Network(ti.priors.Prior):
        shape, sigma_min, sigma_max = SHAPE, 0.01, 50.0

        def denoise(self, x, sigma):
            levels.append(float(torch.as_tensor(sigma).max()))
            return WHITE.denoise(x, sigma)

        def denoising_error(self, sigma):
            return WHITE.denoising_error(sigma)

    images = WHITE.draw(40, seed=salted(0))
    found = ti.calibrate(
        OPERATOR,
        Network(),
        images=images,
        sampler=exact,
        num_samples=9,
        seed=salted(0),
        power=False,
    )
    assert found.stein.score == "the denoiser's score at sigma 0.01"
    assert levels[-2:] == pytest.approx([0.01, 0.01])
    assert found.stein.exact > 0.0005
