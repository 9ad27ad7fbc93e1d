"""Where a denoiser errs: how large its error is at every pixel, read off the denoised image.

Errors sit at edges, and a denoised image shows where its edges are.  The contrast of a place, the
local variance of the denoised image, therefore tells how large the whitened error is there, the
error divided by the square root of its average spectrum; a table for each noise level says how.
The error itself is modelled as white noise of that size, filtered back to the average spectrum.

If equally contrasted places still have variances v that differ, their average is E v, and the
average over the error's energy ``E v^2 / E v = E e^4 / (3 E e^2)``: that of the places where errors
are, which the likelihood needs to correct them.  The ratio of the two is the geometric mean of that
of the whitened error, in which fine frequencies have most to say, and that of the error itself, in
which coarse ones have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_BINS = 24
# The window of the contrast, standard deviation in pixels and half width.
_WINDOW, _REACH = 1.0, 3
_TINY = 1e-20


@dataclass(frozen=True)
class LocalError:
    """Tables of one row a noise level.

    Attributes:
        contrast: ``(levels, bins)``, not decreasing, of `contrast_of`.
        variance: ``(levels, bins)``, of the whitened error at places of that contrast, weighted by
            the error's energy; 1 where contrast tells nothing and the error is Gaussian.
    """

    contrast: Tensor
    variance: Tensor

    @classmethod
    def same_everywhere(cls, factor: Tensor) -> "LocalError":
        """Without regard to contrast: `factor` ``(levels,)`` times the average."""
        return cls(torch.zeros_like(factor)[:, None], factor.clamp(min=1)[:, None])

    def log_variance(self, level: int, contrast: Tensor) -> Tensor:
        """Of the whitened error where the denoised image has that contrast, like `contrast`."""
        places, values = self.contrast[level].to(contrast), self.variance[level].log().to(contrast)
        return interpolate(contrast, places, values)


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


def by_contrast(contrast: Tensor, error: Tensor, white: Tensor) -> tuple[Tensor, Tensor]:
    """A row of each table of `LocalError`, of equally many places a bin.

    Args:
        contrast: ``(count, 1, height, width)``.
        error, white: the error, and the whitened error, ``(count, channels, height, width)``.
    """
    places = contrast.flatten()
    bins = places.argsort().tensor_split(min(_BINS, len(places)))
    average, energy = _moments(white, bins)
    coarse_average, coarse_energy = _moments(error, bins)
    ratio = (energy / average * coarse_energy / coarse_average).sqrt()
    return torch.stack([places[part].mean() for part in bins]), average * ratio


def _moments(error: Tensor, bins: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean square of the places in each bin, and that weighted by energy, ``(bins,)``."""
    squares, fourths = error.square().mean(1).flatten(), error.pow(4).mean(1).flatten()
    average = torch.stack([squares[part].mean() for part in bins]).clamp(min=_TINY)
    energy = torch.stack([fourths[part].mean() for part in bins]) / (3 * average)
    return average, torch.maximum(average, energy)


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
