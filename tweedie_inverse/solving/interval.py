"""Quantiles and central intervals of samples."""

import torch
from torch import Tensor

from tweedie_inverse.solving.blocks import over_pixels

# 19 samples have ranks for 90 %, whichever way 20 * (1 - 0.9) / 2 is rounded.
_ROUNDING = 1e-6


def quantile_along(samples: Tensor, axis: int, levels: Tensor) -> Tensor:
    """Quantiles along an axis, linear between sample k of n at ``(k - 1/2) / n``.

    Args:
        levels: in [0, 1], a number or one for each of the axes before `axis`.
    """

    def found(part: Tensor) -> Tensor:
        return _between(part.sort(dim=axis).values.movedim(axis, -1), levels)

    return over_pixels(found, samples, axis)


def quantiles_along(samples: Tensor, axis: int, levels: Tensor, is_list: bool) -> Tensor:
    """`quantile_along`; of a list all levels for all measurements, along a first axis."""
    if not is_list:
        return quantile_along(samples, axis, levels)

    def found(part: Tensor) -> Tensor:
        values = part.sort(dim=axis).values.movedim(axis, -1)
        return torch.stack([_between(values, level) for level in levels])

    return over_pixels(found, samples, axis)


def _between(values: Tensor, levels: Tensor) -> Tensor:
    """Quantiles along the last axis, in increasing order there."""
    count = values.shape[-1]
    place = (levels.cpu().double() * count - 0.5).clamp(0, count - 1)
    left = place.floor().long().clamp(max=max(count - 2, 0))
    right = (left + 1).clamp(max=count - 1)

    def column(numbers: Tensor) -> Tensor:
        shape = (*numbers.shape, *[1] * (values.ndim - numbers.ndim))
        return numbers.reshape(shape).to(values.device).expand(*values.shape[:-1], 1)

    low, high = values.gather(-1, column(left)), values.gather(-1, column(right))
    return torch.lerp(low, high, column((place - left).to(values.dtype)))[..., 0]


def central_interval(
    samples: Tensor, axis: int, level: float, effective: Tensor
) -> tuple[Tensor, Tensor]:
    """A prediction interval for one more draw, as `Posterior.interval` describes it.

    Args:
        samples: ``(batch, count, ...)`` with `axis` 1, or ``(count, ...)`` with `axis` 0.
        effective: ``(batch,)`` or a scalar, the number of independent samples that they are worth.
    """
    mean = samples.mean(axis)
    if samples.shape[axis] == 1:
        return torch.full_like(mean, torch.nan), torch.full_like(mean, torch.nan)
    count = effective.cpu().double()
    rank = (count + 1) * (1 - level) / 2
    enough = rank >= 1 - _ROUNDING
    place = ((rank - 0.5) / count).clamp(0, 0.5)  # where `quantile_along` puts that statistic

    def by_rank() -> tuple[Tensor, Tensor]:
        return quantile_along(samples, axis, place), quantile_along(samples, axis, 1 - place)

    if bool(enough.all()):
        return by_rank()
    from scipy.stats import t

    def column(numbers: Tensor) -> Tensor:
        columns = numbers.reshape((*numbers.shape, *[1] * (mean.ndim - numbers.ndim)))
        return columns.to(mean.device, torch.bool if numbers.dtype == torch.bool else mean.dtype)

    freedom = (count - 1).clamp(min=1e-3).numpy()
    quantile = torch.as_tensor(t.ppf((1 + level) / 2, freedom))
    reach = column(quantile * (1 + 1 / count).sqrt()) * samples.std(axis)
    if not bool(enough.any()):
        return mean - reach, mean + reach
    lower, upper = by_rank()
    return (
        torch.where(column(enough), lower, mean - reach),
        torch.where(column(enough), upper, mean + reach),
    )
