"""Scores of posteriors on known laws, and intervals of few samples and of few effective ones."""

import math

import pytest
import scipy.stats
import torch

from tests.test_posterior import posterior
from tweedie_inverse.evaluation.calibration import coverage, crps
from tweedie_inverse.numerics.random import normal


def test_crps_is_the_double_sum_over_pairs():
    samples, truth = normal((1,), (6, 1, 3, 4)), normal((2,), (1, 3, 4))
    pairs = (samples[:, None] - samples).abs().sum((0, 1)) / (6 * 5)
    expected = ((samples - truth).abs().mean(0) - pairs / 2).mean()
    torch.testing.assert_close(crps(posterior(samples), truth), expected)


def test_crps_of_a_gaussian_is_the_closed_form():
    """``E CRPS(N(0, 1), x) = 1 / sqrt(pi)`` for x from it (Gneiting and Raftery 2007)."""
    samples, truth = normal((1,), (2000, 20, 1, 1, 1)), normal((2,), (2000, 1, 1, 1))
    score = crps(posterior(samples), truth)
    error = float(score.std()) / len(score) ** 0.5
    assert abs(float(score.mean()) - 1 / math.sqrt(math.pi)) < 5 * error


def test_few_effective_samples_have_students_interval_of_their_number():
    """40 samples of a population that are worth 3.3, and a batch that mixes both kinds."""
    samples, number = normal((1,), (2, 40, 1, 2, 2)), 1 / 0.3
    both = posterior(samples, torch.tensor([40.0, number]).double())
    lower, upper = both.interval(0.9)
    factor = float(scipy.stats.t.ppf(0.95, number - 1)) * (1 + 1 / number) ** 0.5
    torch.testing.assert_close((lower[1] + upper[1]) / 2, samples[1].mean(0))
    torch.testing.assert_close((upper[1] - lower[1]) / 2, factor * samples[1].std(0))
    for end, expected in zip((lower, upper), posterior(samples[0]).interval(0.9), strict=True):
        torch.testing.assert_close(end[0], expected)


def test_nineteen_samples_span_the_interval_of_90_percent():
    """A rank of 1, which floating-point numbers make 0.9999999999999998."""
    samples = normal((1,), (19, 1, 2, 2))
    lower, upper = posterior(samples).interval(0.9)
    torch.testing.assert_close(lower, samples.min(0).values)
    torch.testing.assert_close(upper, samples.max(0).values)


def test_one_sample_covers_nothing():
    with pytest.raises(ValueError, match="two or more samples"):
        coverage(posterior(normal((1,), (1, 1, 2, 2))), torch.zeros(1, 2, 2))
