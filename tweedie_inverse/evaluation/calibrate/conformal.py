"""Intervals that cover what they say, whatever is wrong with the prior or the walk.

The error of the mean in standard deviations of the samples, ``|truth - mean| / std``, is a score
whose quantile over the truths of a calibration, corrected for their number, scales the intervals
of a new measurement (split conformal prediction: Papadopoulos et al. 2002; Lei et al. 2018).
Pixels of one image depend on each other, so that each image counts as one draw of many scores
(Lee, Barber and Willett 2023).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import instance, number
from tweedie_inverse.boundary.contracts import called
from tweedie_inverse.evaluation.calibrate.quantities import Statistic
from tweedie_inverse.solving.posterior import Posterior

# Scores are counted up to these; the next higher one is taken, half a percent apart.
GRID = torch.logspace(-2, 2, 1843, dtype=torch.float64)


def scores_below(truth: Tensor, samples: Tensor) -> Tensor:
    """Share of the values whose score is at most each of `GRID`, ``(len(GRID),)``."""
    score = scores_of(truth, samples).flatten().sort().values
    return torch.searchsorted(score, GRID, side="right").double() / len(score)


def scores_of(truth: Tensor, samples: Tensor) -> Tensor:
    """``|truth - mean| / std`` of every value; 0 where all agree, infinite where only samples do.

    Args:
        truth: ``(...)``.
        samples: ``(S, ...)``.
    """
    error, std = (truth - samples.mean(0)).abs(), samples.std(0)
    return torch.where(error > 0, error / std, torch.zeros_like(error))


@dataclass(frozen=True, eq=False)
class Recalibrated:
    """A posterior whose intervals are scaled by what a calibration has seen.

    An interval of level 0.9 covers, on average over measurements of images like the calibration's
    truths, at least 0.9 of the pixels, or the functional in 0.9 of them.  No promise is made for
    each image, nor for each pixel.

    Attributes:
        posterior: as it was.
        below: ``(grid,)``, share of the pixels of all truths with scores up to `GRID`.
        scores: ``(truths, statistics)``, of each statistic of the calibration.
        names: of the statistics, with their columns.
        count: truths.
    """

    posterior: Posterior
    below: Tensor
    scores: Tensor
    names: Mapping[str, slice]
    count: int

    def __repr__(self) -> str:
        return (
            f"Recalibrated({self.posterior!r}, intervals at 0.9 are mean +- {self.factor(0.9):.3g} "
            f"std, by conformal prediction from {self.count} truths)"
        )

    def factor(self, level: float = 0.9) -> float:
        """Half the width of the pixels' intervals, in standard deviations of the samples.

        Raises:
            ValueError: too few truths for this level.
        """
        needed = self._needed(level)
        place = int(torch.searchsorted(self.below, needed - 1e-12))
        if place == len(GRID):
            raise ValueError(
                f"Recalibrated.factor({level}): some truths are more than {float(GRID[-1]):.0f} "
                "standard deviations away from the samples; no scaling of them is of use"
            )
        return float(GRID[place])

    def interval(
        self, level: float = 0.9, of: Mapping[str, Statistic] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Lower and upper ends, ``(batch, *shape)``.

        Args:
            level: between 0 and 1.
            of: a functional under the name that it had in `calibrate(statistics=)`, such as
                ``{"dose": dose}``; then the ends are ``(batch, numbers)``.

        Raises:
            ValueError: too few truths for this level, or a functional that was not calibrated.
        """
        axis = self.posterior.diagnostics.residual_chi_square.ndim - 1
        if of is None:
            mean, reach = self.posterior.mean, self.factor(level) * self.posterior.std
            return mean - reach, mean + reach
        instance("Recalibrated.interval", "of", of, Mapping, need="a function by its name")
        ((name, function),) = of.items()
        factors = self._factors(name, level)
        samples = self.posterior.samples
        values = _values(name, function, samples.flatten(0, axis)).reshape(
            *samples.shape[: axis + 1], -1
        )
        mean, reach = values.mean(axis), factors.to(values) * values.std(axis)
        return mean - reach, mean + reach

    def _factors(self, name: str, level: float) -> Tensor:
        """Of each number of a functional."""
        if name not in self.names:
            raise ValueError(
                f"Recalibrated.interval(of=): {name!r} was not calibrated; known are "
                f"{', '.join(self.names) or 'none'}; give it to calibrate(statistics=)"
            )
        rank = math.ceil(self._needed(level) * self.count - 1e-9)
        return self.scores[:, self.names[name]].sort(dim=0).values[rank - 1]

    def _needed(self, level: float) -> float:
        """The share of the truths that must be covered; the new image would be one more."""
        level = number("Recalibrated", "level", level, above=0, high=1 - 1e-9)
        needed = level * (self.count + 1) / self.count
        if needed > 1:
            raise ValueError(
                f"Recalibrated(level={level:g}): {self.count} truths are too few; it takes "
                f"{math.ceil(level / (1 - level))} or more"
            )
        return needed


def _values(name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return called(f"the statistic {name!r}", function, x).reshape(len(x), -1)
