"""Curves with simultaneous bands: coverage of intervals, of balls about random points, and ranks.

A band holds the whole curve of a right sampler with the stated probability, not each of its points.
Those of coverage come from the permutations of `null`, so that they know how pixels depend on each
other; those of ranks from simulated uniform ranks (Sailynoja, Burkner and Vehtari 2022).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.evaluation.calibrate.ranks import summed
from tweedie_inverse.numerics.random import generator

BAND = 0.95
_SIMULATIONS = 1000


class Curve(NamedTuple):
    """A curve and its band.

    Attributes:
        levels: ``(points,)``, what should be reached.
        found: ``(points,)``.
        low, high: ``(points,)``, ends of the simultaneous band.
    """

    levels: Tensor
    found: Tensor
    low: Tensor
    high: Tensor

    @property
    def inside(self) -> bool:
        """Whether the whole curve is in its band."""
        return bool(((self.found >= self.low) & (self.found <= self.high)).all())


def coverage_curve(ranks: Tensor, choices: Tensor) -> Curve:
    """Share of truths in the central interval between the k-th lowest and k-th highest sample.

    Args:
        ranks: ``(truths, S + 1, statistics)``, of all that could be the truth, the truth first;
            the statistics are averaged.
        choices: ``(permutations, truths)``, of the null.
    """
    size = ranks.shape[1]
    depth = torch.minimum(ranks, size - 1 - ranks)
    cuts = torch.arange(1, (size - 1) // 2 + 1)
    inside = torch.stack([(depth >= cut).double().mean(2) for cut in cuts.tolist()], dim=2)
    return _with_band(1 - 2 * cuts.double() / size, inside, choices)


def expected_coverage(ranks: Tensor, choices: Tensor) -> Curve:
    """Share of truths in the ball about a random point that holds a share of the samples (TARP)."""
    size = ranks.shape[1]
    cuts = torch.arange(1, size)
    inside = torch.stack([(ranks < cut).double().mean(2) for cut in cuts.tolist()], dim=2)
    return _with_band(cuts.double() / size, inside, choices)


def _with_band(levels: Tensor, inside: Tensor, choices: Tensor) -> Curve:
    """From ``inside (truths, m, points)``, each draw as the truth; number 0 is."""
    curves = summed(inside, choices) / len(inside)
    std = curves.std(0).clamp(min=1e-9)
    reach = ((curves - levels).abs() / std).amax(1).quantile(BAND) * std
    order = levels.argsort()
    columns = (levels, inside[:, 0].mean(0), levels - reach, levels + reach)
    return Curve(*(column[order] for column in columns))


def rank_band(truths: int, size: int, seed: int) -> Curve:
    """Band of the difference between the distribution function of ranks and the uniform one.

    `found` is zero; it is for one statistic of independent truths.
    """
    random = generator(("calibrate band", seed))
    draws = torch.from_numpy(random.integers(size, size=(_SIMULATIONS, truths)))
    levels = torch.arange(1, size).double() / size
    simulated = torch.stack([rank_curve(one, size) for one in draws])
    std = (levels * (1 - levels) / truths).sqrt()
    reach = (simulated.abs() / std).amax(1).quantile(BAND) * std
    return Curve(levels, torch.zeros_like(levels), -reach, reach)


def rank_curve(ranks: Tensor, size: int) -> Tensor:
    """Share of ranks below 1, 2, ... less what is expected, ``(size - 1,)``."""
    counts = torch.bincount(ranks, minlength=size).double().cumsum(0)[:-1]
    return counts / len(ranks) - torch.arange(1, size).double() / size
