"""Truths of the calibration on own samples: draws of the prior, not the sampler's last mean."""

import pytest
import torch

from tests.posteriors import random_field
from tweedie_inverse.benchmarks.studies.measured_against_isotropic import _truths


def test_truths_end_with_a_draw_given_the_last_noisy_image():
    prior, count = random_field(8), 2000
    prior.sigma_min = 0.5
    means = _truths(prior, count, seed=0, denoised=True)
    draws = _truths(prior, count, seed=0, denoised=False)
    added = torch.fft.fft2((draws - means).double(), norm="ortho").abs().square().mean(dim=(0, 1))
    v = prior.covariance.variance
    expected = v * 0.5**2 / (v + 0.5**2)
    assert float(added.mean() / expected.mean()) == pytest.approx(1, rel=0.02)
    assert float(((added - expected) / expected).abs().max()) < 5 * (2 / count) ** 0.5
