"""Weights and resampling of populations."""

import pytest
import torch

from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.resampling import effective_size, normalize, systematic


def test_systematic_resampling_is_fair():
    weights = normal((1,), (2, 50)).double().exp()
    weights = weights / weights.sum(1, keepdim=True)
    total = torch.zeros_like(weights)
    for index in range(400):
        chosen = systematic(weights, torch.full((2,), (index + 0.5) / 400))
        counts = torch.stack([torch.bincount(row, minlength=50) for row in chosen])
        assert float((counts - 50 * weights).abs().max()) < 1
        total += counts
    torch.testing.assert_close(total / 400, 50 * weights, rtol=0, atol=5e-3)


def test_weights_far_apart_do_not_overflow():
    raw = torch.tensor([[-1e5, -1e5 - 1.0, -2e5]]).double()
    weighted = normalize(raw)
    assert float(weighted.log_weights.exp().sum()) == pytest.approx(1)
    assert 1 < float(effective_size(weighted.log_weights)) < 2
