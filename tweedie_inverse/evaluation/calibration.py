"""Whether samples spread as much as they err (coverage, CRPS), and their distance from exact ones.

Coverage of a central interval says whether its width is right; CRPS (Gneiting and Raftery 2007) is
a proper score, lowest for the true posterior.  Where exact samples exist, the sliced Wasserstein
distance (Bonneel et al. 2015) compares whole distributions.
"""

from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import number
from tweedie_inverse.boundary.arrays import advice_on_shape, real_tensor
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.solving.posterior import Posterior

# 19 samples have ranks for 90 %, whichever way 20 * (1 - 0.9) / 2 is rounded.
_ROUNDING = 1e-6


def coverage(posterior: Posterior, truth: Tensor, level: float = 0.9) -> Tensor:
    """Share of pixels inside `prediction_interval`, ``(batch,)``; `level` if calibrated.

    Args:
        truth: ``(batch, *shape)``, or without batch like the posterior.
    """
    truth = _like("coverage", posterior, truth)
    lower, upper = prediction_interval(posterior, level)
    inside = ((truth >= lower) & (truth <= upper)).to(truth)
    return inside.flatten(posterior.weights.ndim - 1).mean(-1)


def prediction_interval(posterior: Posterior, level: float = 0.9) -> tuple[Tensor, Tensor]:
    """Lower and upper end of a central interval of every pixel, ``(batch, *shape)`` each.

    The interval is a prediction interval for one more draw, so that a calibrated posterior
    covers `level` on average whatever the number of samples: between order statistics of rank
    ``(n + 1) (1 - level) / 2`` where there are enough samples for that, else mean and standard
    deviation with Student's quantile (exact for Gaussian posteriors).  Where weights differ, n is
    the effective sample size ``1 / sum(weights^2)`` of each measurement, and quantiles, mean and
    standard deviation are the weighted ones.

    Raises:
        ValueError: a single sample, which has no spread, or a level outside (0, 1).
    """
    need = "a share between 0 and 1, such as 0.9"
    level = number("prediction_interval", "level", level, above=0, high=1 - 1e-9, need=need)
    if posterior.weights.shape[-1] < 2:
        raise ValueError("prediction_interval: needs two or more samples a measurement, got 1")
    count = _effective_count(posterior.weights)
    rank = (count + 1) * (1 - level) / 2
    enough = rank >= 1 - _ROUNDING
    place = ((rank - 0.5) / count).clamp(0, 0.5)  # where Posterior.quantile puts that statistic
    if bool(enough.all()):
        return posterior.quantile(place), posterior.quantile(1 - place)
    from scipy.stats import t

    quantile = torch.as_tensor(t.ppf((1 + level) / 2, (count - 1).numpy()))
    factor = quantile * (1 + 1 / count).sqrt()
    mean, reach = posterior.mean, _column(factor, posterior) * posterior.std
    if not bool(enough.any()):
        return mean - reach, mean + reach
    by_rank = _column(enough, posterior).bool()
    return (
        torch.where(by_rank, posterior.quantile(place), mean - reach),
        torch.where(by_rank, posterior.quantile(1 - place), mean + reach),
    )


def _effective_count(weights: Tensor) -> Tensor:
    """``1 / sum(weights^2)`` of each measurement, ``(batch,)`` or a scalar, float64 on the CPU.

    It is the number of samples, without rounding, where the weights are equal.
    """
    weights = weights.cpu().double()
    size = 1 / weights.square().sum(-1)
    equal = (weights == weights[..., :1]).all(-1)
    return torch.where(equal, float(weights.shape[-1]), size)


def _like(caller: str, posterior: Posterior, truth: Any) -> Tensor:
    """The truth as a tensor like the posterior's mean: one image would broadcast to a batch."""
    found, axis = real_tensor(caller, "truth", truth), posterior.weights.ndim - 1
    shape = (*posterior.samples.shape[:axis], *posterior.samples.shape[axis + 1 :])
    if found.shape != shape:
        raise ValueError(
            f"{caller}(truth=): needs the shape of the posterior's mean, {tuple(shape)}, got "
            f"{tuple(found.shape)}{advice_on_shape(found.shape, shape[axis:])}"
        )
    return found.to(posterior.samples)


def _column(numbers: Tensor, posterior: Posterior) -> Tensor:
    """A number of each measurement, to be broadcast over its pixels."""
    pixels = posterior.samples.ndim - posterior.weights.ndim
    return numbers.to(posterior.samples).reshape(*numbers.shape, *[1] * pixels)


def crps(posterior: Posterior, truth: Tensor) -> Tensor:
    """Continuous ranked probability score averaged over pixels, ``(batch,)``, in data units.

    ``E|x - truth| - E|x - x'| / 2``, with x and x' independent draws.  The second term is the fair
    estimate, which does not punish small ensembles: with weights w it is ``sum_ij w_i w_j |x_i -
    x_j| / (1 - sum_i w_i^2)``.
    """
    truth = _like("crps", posterior, truth)
    axis = posterior.weights.ndim - 1
    samples = posterior.samples.movedim(axis, 0)
    ordered, order = samples.sort(dim=0)
    count, weights = len(samples), posterior.weights
    if bool((weights == weights[..., :1]).all()):  # the same with less rounding
        accuracy = (samples - truth).abs().mean(0)
        rank = torch.arange(count, dtype=samples.dtype, device=samples.device)
        factor = (2 * rank - count + 1).reshape(-1, *[1] * (samples.ndim - 1))
        spread = (factor * ordered).sum(0) / (count * max(count - 1, 1))
    else:
        column = _column(weights, posterior).movedim(axis, 0)
        accuracy = (column * (samples - truth).abs()).sum(0)
        share = column.expand_as(samples).gather(0, order)
        after = share.cumsum(0)
        # sum_{i<j} w_i w_j (x_j - x_i): weight below minus weight above, at each sample.
        pairs = (share * (2 * after - share - 1) * ordered).sum(0)
        lost = (1 - column.square().sum(0)).clamp(min=torch.finfo(samples.dtype).tiny)
        spread = pairs / lost
    return (accuracy - spread).flatten(axis).mean(-1)


def sliced_wasserstein(
    x: Tensor, y: Tensor, *, slices: int = 100, power: float = 1.0, seed: int = 0
) -> float:
    """``(mean over directions of W_p^p)^(1/p)`` of the projected samples, in data units.

    Args:
        x, y: ``(count, *shape)``, samples of equal weight; the counts may differ.
        slices: number of random directions, uniform on the sphere.
        power: p >= 1; 1 is the convention of the Gaussian-mixture benchmarks.
        seed: of the directions.
    """
    x, y = real_tensor("sliced_wasserstein", "x", x), real_tensor("sliced_wasserstein", "y", y)
    power = number("sliced_wasserstein", "power", power)
    if x.shape[1:] != y.shape[1:] or not len(x) or not len(y):
        raise ValueError(
            f"sliced_wasserstein: needs samples (count, *shape) of one shape, got "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    if power < 1 or slices < 1:
        raise ValueError(
            f"sliced_wasserstein(power={power}, slices={slices}): both must be at least 1"
        )
    x, y = x.flatten(1).double(), y.flatten(1).double()
    directions = normal(("slices", seed), (x.shape[1], slices)).to(x)
    directions = directions / directions.norm(dim=0)
    a, b = ((z @ directions).sort(dim=0).values for z in (x, y))
    # Both quantile functions are constant between the multiples of 1/n and 1/m: exact integral.
    n, m = len(x), len(y)
    edges = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    widths = torch.diff(edges, prepend=edges.new_zeros(1)).to(x) / (n * m)
    distance = (a[(edges - 1) // m] - b[(edges - 1) // n]).abs() ** power
    return float((widths @ distance).mean() ** (1 / power))
