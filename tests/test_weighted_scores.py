"""Scores of weighted posteriors: the weights count, and equal ones change no bit."""

import math

import pytest
import scipy.stats
import torch

from tests.test_posterior import posterior
from tweedie_inverse.evaluation.calibration import coverage, crps, prediction_interval
from tweedie_inverse.numerics.random import normal


def importance_weighted(batch, count):
    """Draws of N(0, 2^2) with the weights that make them samples of N(0, 1), and truths of that."""
    samples = 2 * normal((1,), (batch, count, 1))
    weights = torch.softmax((-(samples**2) / 2 + samples**2 / 8)[..., 0], dim=1)
    return posterior_of(samples, weights), normal((2,), (batch, 1))


def posterior_of(samples, weights):
    found = posterior(samples[0])  # `posterior` takes images; the fields it fills are these
    return type(found)(samples, weights, found.diagnostics, found.stats)


def test_crps_is_the_double_sum_over_pairs():
    samples, truth = normal((1,), (2, 6, 1, 3, 4)), normal((2,), (2, 1, 3, 4))
    weights = normal((3,), (2, 6)).softmax(1)
    expected = []
    for x, w, t in zip(samples, weights, truth, strict=True):
        accuracy = torch.einsum("i,i...->...", w, (x - t).abs())
        pairs = torch.einsum("i,j,ij...->...", w, w, (x[:, None] - x).abs())
        expected.append((accuracy - pairs / (1 - w @ w) / 2).mean())
    torch.testing.assert_close(crps(posterior(samples, weights), truth), torch.stack(expected))
    alone = torch.tensor([0.0, 1.0, 0.0]).double()
    single = crps(posterior(samples[0, :3], alone), truth[0])
    torch.testing.assert_close(single, (samples[0, 1] - truth[0]).abs().mean())


def test_equal_weights_score_as_no_weights_bit_for_bit():
    """The sorted form for equal weights, written out."""
    samples, truth = normal((1,), (7, 1, 3, 4)).float(), normal((2,), (1, 3, 4)).float()
    rank = torch.arange(7, dtype=torch.float32)
    spread = ((2 * rank - 6).reshape(-1, 1, 1, 1) * samples.sort(0).values).sum(0) / (7 * 6)
    expected = ((samples - truth).abs().mean(0) - spread).flatten().mean()
    assert torch.equal(crps(posterior(samples), truth), expected)


def test_weighted_crps_of_a_gaussian_is_the_closed_form():
    """``E CRPS(N(0, 1), x) = 1 / sqrt(pi)`` for x from it (Gneiting and Raftery 2007)."""
    score = crps(*importance_weighted(2000, 400))
    error = float(score.std()) / len(score) ** 0.5
    assert abs(float(score.mean()) - 1 / math.sqrt(math.pi)) < 5 * error


def test_weighted_samples_cover_as_promised():
    batch, level = 4000, 0.8
    found = float(coverage(*importance_weighted(batch, 400), level).mean())
    assert abs(found - level) < 5 * (level * (1 - level) / batch) ** 0.5


def test_few_weighted_samples_have_students_interval_of_their_effective_number():
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1]).double()
    few = posterior(normal((1,), (4, 1, 2, 2)), weights)
    lower, upper = prediction_interval(few, 0.9)
    number = 1 / 0.3
    factor = float(scipy.stats.t.ppf(0.95, number - 1)) * (1 + 1 / number) ** 0.5
    torch.testing.assert_close((lower + upper) / 2, few.mean)
    torch.testing.assert_close((upper - lower) / 2, factor * few.std)


def test_nineteen_samples_span_the_interval_of_90_percent():
    """A rank of 1, which floating-point numbers make 0.9999999999999998."""
    samples = normal((1,), (19, 1, 2, 2))
    lower, upper = prediction_interval(posterior(samples), 0.9)
    torch.testing.assert_close(lower, samples.min(0).values)
    torch.testing.assert_close(upper, samples.max(0).values)


def test_each_measurement_has_the_interval_that_its_own_weights_allow():
    samples = normal((1,), (2, 40, 1, 2, 2))
    few = torch.zeros(40).double()
    few[:3] = 1 / 3
    weights = torch.stack([torch.full((40,), 1 / 40).double(), few])
    both = prediction_interval(posterior(samples, weights))
    for index in range(2):
        alone = prediction_interval(posterior(samples[index], weights[index]))
        for end, expected in zip(both, alone, strict=True):
            torch.testing.assert_close(end[index], expected)


def test_one_sample_has_no_interval():
    with pytest.raises(ValueError, match="two or more samples"):
        prediction_interval(posterior(normal((1,), (1, 1, 2, 2))))
