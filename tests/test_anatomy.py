"""The bound beside denoisers of CT-like slices: the mean given the anatomy."""

import pytest
import torch

from tweedie_inverse.benchmarks.studies.texture_oracle import mean_given_anatomy
from tweedie_inverse.datasets.slices import CTSlices, texture_std
from tweedie_inverse.numerics.random import normal

SIZE, SEEDS = 16, range(40)


@pytest.mark.parametrize("sigma", [0.003, 0.03])
def test_the_error_is_that_of_the_best_linear_filter(sigma):
    """``trace(C (C + sigma^2)^-1) sigma^2``, C the covariance of the texture, assembled."""
    scene = CTSlices(SIZE)
    images = scene.images(SEEDS).double()
    correlation = torch.fft.ifft2(scene.texture_power().double()).real
    steps = (torch.arange(SIZE)[:, None] - torch.arange(SIZE)) % SIZE
    matrix = correlation[steps[:, None, :, None], steps[None, :, None, :]]
    matrix = matrix.reshape(SIZE**2, SIZE**2)
    std = (texture_std(scene.anatomy(SEEDS)) / 2000).flatten(1).double()
    values = torch.linalg.eigvalsh(std[:, :, None] * matrix * std[:, None, :]).clamp(min=0)
    expected = (values * sigma**2 / (values + sigma**2)).mean()
    noisy = images + sigma * normal((1,), images.shape)
    found = (mean_given_anatomy(noisy, sigma, SEEDS) - images).square().mean()
    # The share that clipping takes, and 40 images: a few per cent.
    assert float(found / expected) == pytest.approx(1, rel=0.05)
