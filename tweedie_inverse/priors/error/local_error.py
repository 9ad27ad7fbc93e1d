"""Where a denoiser errs: how large its error is at every pixel, read off the denoised image.

Denoisers err at edges, and a denoised image shows where its edges are.  The *contrast* of a place
is the local variance of the denoised image there.  For every noise level a table gives the variance
of the error at places of a given contrast, relative to the average: it is the variance of the
*whitened* error, which is the error divided by the square root of its average spectrum.  The error
is then modelled as white noise of that variance at each place, filtered back to the average
spectrum.

Places of equal contrast still have different variances v.  The table does not hold their mean
``E v`` but their mean weighted by the energy of the error, ``E v^2 / E v``.  It is larger, and it
is the variance of the places where the errors are: with less, the model would forbid the likelihood
to correct them.  Where errors are Gaussian at each place, ``E e^2 = E v`` and ``E e^4 = 3 E v^2``,
so that it can be measured as ``E e^4 / (3 E e^2)``.

How much larger it is, is measured twice: on the whitened error, to which fine frequencies
contribute most, and on the error itself, to which coarse ones do.  The table uses the geometric
mean of the two ratios.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.numerics.residence import derived, resident

_BINS = 24
# The Gaussian window of the contrast: its standard deviation and half width in pixels.
_WINDOW, _REACH = 1.0, 3
_TINY = 1e-20


@dataclass(frozen=True)
class LocalError:
    """Tables of one row a noise level.

    Attributes:
        contrast: ``(levels, bins)``, not decreasing, as `contrast_of` measures it.
        variance: ``(levels, bins)``, the variance of the whitened error at places of that contrast,
            weighted by the error's energy; it is 1 where the contrast says nothing about the error
            and the error is Gaussian.
    """

    contrast: Tensor
    variance: Tensor

    @classmethod
    def same_everywhere(cls, factor: Tensor) -> "LocalError":
        """Tables that ignore the contrast: `factor` ``(levels,)`` times the average variance."""
        return cls(torch.zeros_like(factor)[:, None], factor.clamp(min=1)[:, None])

    def log_variance(self, level: int, contrast: Tensor) -> Tensor:
        """Logarithm of the variance of the whitened error at places of `contrast`, like it."""
        places = resident(self.contrast, contrast)[level]
        values = resident(derived(self.variance, _logs), contrast)[level]
        return interpolate(contrast, places, values)


def _logs(table: Tensor) -> Tensor:
    return torch.stack([row.log() for row in table])


def contrast_of(denoised: Tensor) -> Tensor:
    """Logarithm of the local variance of images ``(batch, channels, height, width)``.

    Returns ``(batch, 1, height, width)``: mean over the channels, in a Gaussian window of 1 pixel.
    """
    power = _smooth(denoised.square())
    rounding = torch.finfo(denoised.dtype).eps * power
    variance = torch.maximum(power - _smooth(denoised).square(), rounding)
    return variance.mean(1, keepdim=True).clamp(min=_TINY).log()


def interpolate(at: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Linear between `places` ``(bins,)``, constant beyond them."""
    if len(places) == 1:
        return values.expand_as(at)
    right = torch.bucketize(at, places).clamp(1, len(places) - 1)
    step = (places[right] - places[right - 1]).clamp(min=_TINY)
    fraction = ((at - places[right - 1]) / step).clamp(0, 1)
    return torch.lerp(values[right - 1], values[right], fraction)


def row_of(corrected: Tensor, error: Tensor, white: Tensor) -> tuple[Tensor, Tensor]:
    """What images ``(count, channels, height, width)`` say for a row of each table, ``(bins,)``.

    Other shapes have no tables by place: one bin, of variance 1.

    Args:
        corrected: the answers of the corrected denoiser.
        error, white: its error, and the whitened error.
    """
    if corrected.ndim != 4:
        return error.new_zeros(1), error.new_ones(1)
    return by_contrast(contrast_of(corrected), error, white)


def by_contrast(contrast: Tensor, error: Tensor, white: Tensor) -> tuple[Tensor, Tensor]:
    """A row of each table of `LocalError`: contrast and variance ``(bins,)``.

    Every bin has equally many places.

    Args:
        contrast: ``(count, 1, height, width)``.
        error, white: the error, and the whitened error, ``(count, channels, height, width)``.
    """
    places = contrast.flatten()
    bins = places.argsort().tensor_split(min(_BINS, len(places)))
    plain, weighted = _variances(white, bins)
    coarse_plain, coarse_weighted = _variances(error, bins)
    ratio = (weighted / plain * coarse_weighted / coarse_plain).sqrt()
    return torch.stack([places[part].mean() for part in bins]), plain * ratio


def _variances(error: Tensor, bins: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean variance of the places in each bin, and the mean weighted by energy, ``(bins,)``."""
    squares, fourths = error.square().mean(1).flatten(), error.pow(4).mean(1).flatten()
    plain = torch.stack([squares[part].mean() for part in bins]).clamp(min=_TINY)
    weighted = torch.stack([fourths[part].mean() for part in bins]) / (3 * plain)
    return plain, torch.maximum(plain, weighted)


def _smooth(x: Tensor) -> Tensor:
    """Weighted averages in the window, borders repeated."""
    t = torch.arange(-_REACH, _REACH + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-0.5 * (t / _WINDOW) ** 2)
    weights = weights / weights.sum()
    channels = x.shape[1]
    padded = F.pad(x, (_REACH,) * 4, mode="replicate")
    for shape in ((1, 1, 1, -1), (1, 1, -1, 1)):
        kernel = weights.reshape(shape).expand(channels, *[-1] * 3)
        padded = F.conv2d(padded, kernel, groups=channels)
    return padded
