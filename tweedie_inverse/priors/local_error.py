"""Where a denoiser errs: the variance of its error at every pixel, read off the denoised image.

Errors sit at edges, and a denoised image shows where its edges are.  The contrast of a place, the
local variance of the denoised image, therefore tells the variance of the error there; a table for
each noise level says how.  Divided by its local standard deviation the error is close to
stationary, and has a spectrum of its own.

If the error of equally contrasted places still has variances v that differ, its average is E v, and
the average over the error's energy ``E v^2 / E v = E e^4 / (3 E e^2)``: that of the places where
errors are, which the table holds, so that the likelihood can correct them.
"""

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
        variance: ``(levels, bins)``, of the error at places of that contrast, weighted by the
            error's energy, in squared data units.
        spectrum: ``(levels, channels, height, width)``, of the error divided by its local standard
            deviation, in the basis of the whole error; 1 on average.
    """

    contrast: Tensor
    variance: Tensor
    spectrum: Tensor

    @classmethod
    def same_everywhere(cls, variance: Tensor, factor: Tensor) -> "LocalError":
        """Without regard to contrast: `factor` ``(levels,)`` times a whole error's `variance`."""
        mean = variance.mean(dim=(1, 2, 3))
        nowhere = torch.zeros(len(mean), 1, dtype=variance.dtype)
        spectrum = variance / mean.reshape(-1, 1, 1, 1)
        return cls(nowhere, (factor.to(mean).clamp(min=1) * mean)[:, None], spectrum)

    def log_variance(self, level: int, contrast: Tensor) -> Tensor:
        """Of the error where the denoised image has that contrast, like `contrast`."""
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


def by_contrast(contrast: Tensor, error: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean contrast, mean square, and energy-weighted variance of equally many places each.

    Args:
        contrast: ``(count, 1, height, width)``.
        error: ``(count, channels, height, width)``.

    Returns:
        Three times ``(bins,)``.
    """
    ordered = contrast.flatten().argsort()
    squares = error.square().mean(1).flatten()
    fourths = error.pow(4).mean(1).flatten()
    columns = []
    for part in ordered.tensor_split(min(_BINS, len(ordered))):
        mean = squares[part].mean().clamp(min=_TINY)
        weighted = torch.maximum(mean, fourths[part].mean() / (3 * mean))
        columns.append(torch.stack([contrast.flatten()[part].mean(), mean, weighted]))
    place, average, weighted = torch.stack(columns, dim=1)
    return place, average, weighted


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
