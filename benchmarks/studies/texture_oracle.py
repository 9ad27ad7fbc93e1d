"""What no denoiser of CT-like slices can surpass: one that is given all but the texture.

Given the anatomy, a slice is a Gaussian field of a known spectrum times a known deviation, so that
the mean given the noisy image is a linear filter, solved for by conjugate gradients.  A real
denoiser has to find the anatomy too; how much that must cost is not known.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tweedie_inverse.datasets.slices import CTSlices, texture_std
from tweedie_inverse.numerics.krylov import conjugate_gradient


def mean_given_anatomy(noisy: Tensor, sigma: float, seeds: Sequence[int]) -> Tensor:
    """The mean of the slices of `seeds` given `noisy` ``(batch, 1, size, size)`` and their anatomy.

    Clipping at the ends of the range is left out, as is that each texture's variance is exact.
    """
    slices = CTSlices(noisy.shape[-1])
    hounsfield = slices.anatomy(seeds)[:, None]
    mean = ((hounsfield + 1000) / 2000).to(noisy)
    std = (texture_std(hounsfield) / 2000).to(noisy)
    power = slices.texture_power().to(noisy)

    def covariance(z: Tensor) -> Tensor:
        return std * torch.fft.ifft2(power * torch.fft.fft2(std * z)).real

    found = conjugate_gradient(
        lambda z: covariance(z) + sigma**2 * z, noisy - mean, tolerance=1e-5, max_iterations=500
    )
    return mean + covariance(found.solution)
