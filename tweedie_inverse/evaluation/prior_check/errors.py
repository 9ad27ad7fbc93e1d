"""Errors of a denoiser on noisy images, beside those of doing nothing and of a linear denoiser."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import normal
from tweedie_inverse.numerics.spectral import Cosines
from tweedie_inverse.priors import Prior

_BINS = 16
_TOGETHER = 16  # images that are denoised together
_FEW = 4  # images, of which a linear denoiser is made without leaving half of them out


class CheckedLevel(NamedTuple):
    """One noise level; errors are mean squares in squared data units, the offset in data units.

    Attributes:
        sigma: the noise level.
        noisy: what the error is without a denoiser, ``sigma^2``.
        denoised, linear: of the prior and of a linear denoiser.
        offset: mean of the prior's error.
    """

    sigma: float
    noisy: float
    denoised: float
    linear: float
    offset: float


class LevelErrors(NamedTuple):
    """What was seen at one noise level, an entry for each image, ``(count,)``, float64.

    Attributes:
        sigma: the noise level.
        noisy, denoised, linear: mean squared errors of the noisy image, the prior and a linear
            denoiser.
        offset: mean error of the prior.
    """

    sigma: float
    noisy: Tensor
    denoised: Tensor
    linear: Tensor
    offset: Tensor

    @property
    def averages(self) -> CheckedLevel:
        means = (float(e.mean()) for e in (self.denoised, self.linear, self.offset))
        return CheckedLevel(self.sigma, self.sigma**2, *means)


def measure(
    prior: Prior, images: Tensor, sigmas: Sequence[float], seed: int, use: str = "check prior"
) -> list[LevelErrors]:
    """Errors on images ``(count, *shape)`` at each noise level, with noise of its own for each use.

    The linear denoiser of an image is made of other images, so that an exact denoiser is at least
    as good on average, however few and small the images are.
    """
    linear, errors = _linear(images), []
    for i, sigma in enumerate(sigmas):
        noise = prior.coloured(normal((use, seed, i), images.shape).to(images))
        noisy = images + sigma * noise
        parts = [prior.denoise(part, sigma).to(images) for part in noisy.split(_TOGETHER)]
        denoised = torch.cat(parts)
        images_at = (noisy, denoised, linear(noisy, sigma))
        squares = [(x - images).double().square().flatten(1).mean(1) for x in images_at]
        offset = (denoised - images).double().flatten(1).mean(1)
        errors.append(LevelErrors(sigma, squares[0], squares[1], squares[2], offset))
    return errors


Linear = Callable[[Tensor, float], Tensor]


def _linear(images: Tensor) -> Linear:
    """A Wiener filter for each half of the images, of the spectrum of the other half."""
    if len(images) < _FEW:
        return _wiener(images)
    halves = [_wiener(images[1::2]), _wiener(images[::2])]

    def denoise(x: Tensor, sigma: float) -> Tensor:
        result = torch.empty_like(x)
        for start, filtered in enumerate(halves):
            result[start::2] = filtered(x[start::2], sigma)
        return result

    return denoise


def _wiener(images: Tensor) -> Linear:
    """The Wiener filter of the images' power spectrum, averaged over directions."""
    if images.ndim != 4:
        mean, variance = images.mean(0), images.var(0, correction=min(1, len(images) - 1)).mean()
        return lambda x, sigma: mean + variance / (variance + sigma**2) * (x - mean)
    height, width = images.shape[-2:]
    mean = images.mean(dim=(0, 2, 3), keepdim=True)
    basis = Cosines(None)
    power = basis.transform((images - mean).double()).square().mean(dim=(0, 1)).flatten()
    rows, columns = (
        torch.arange(size, dtype=torch.float64, device=images.device) / size
        for size in (height, width)
    )
    radius = (rows[:, None] ** 2 + columns**2).sqrt()
    largest = radius.max().clamp(min=1e-9)  # of a single pixel it is 0
    bins = (radius / largest * (_BINS - 1)).ceil().long().flatten()
    count = power.new_zeros(_BINS).index_add_(0, bins, torch.ones_like(power))
    total = power.new_zeros(_BINS).index_add_(0, bins, power)
    spectrum = (total / count.clamp(min=1))[bins].reshape(height, width)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        shrink = (spectrum / (spectrum + sigma**2)).to(x)
        return mean + basis.inverse(shrink * basis.transform(x - mean))

    return denoise


def within(prior: Prior, sigmas: Sequence[float]) -> list[float]:
    """Levels inside the trained range, each once."""
    inside = [min(max(sigma, prior.sigma_min), prior.sigma_max) for sigma in sigmas]
    return sorted(set(inside))
