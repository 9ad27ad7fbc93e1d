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
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import instance, number
from tweedie_inverse.boundary.contracts import called
from tweedie_inverse.evaluation.calibrate.classes import Classes
from tweedie_inverse.evaluation.calibrate.quantities import Statistic
from tweedie_inverse.solving.posterior import Posterior

# Scores are counted up to these; the next higher one is taken, half a percent apart.
GRID = torch.logspace(-2, 2, 1843, dtype=torch.float64)


def below(scores: Tensor) -> Tensor:
    """Share of the scores that are at most each of `GRID`, ``(len(GRID),)``; NaN of none."""
    found = torch.searchsorted(scores.flatten().sort().values, GRID, side="right").double()
    return found / scores.numel() if scores.numel() else torch.full_like(found, torch.nan)


def scores_of(truth: Tensor, samples: Tensor) -> Tensor:
    """``|truth - mean| / std`` of every value; 0 where all agree, infinite where only samples do.

    Args:
        truth: ``(...)``.
        samples: ``(S, ...)``.
    """
    error, std = (truth - samples.mean(0)).abs(), samples.std(0)
    return torch.where(error > 0, error / std, torch.zeros_like(error))


class Known(NamedTuple):
    """The classes of pixels that a calibration knows.

    Attributes:
        identity: `Classes.identity`.
        below: ``(classes, grid)``, as `Recalibrated.below`, of the pixels of each class.
        counts: ``(classes,)``, in how many truths each class was.
    """

    identity: str
    below: Tensor
    counts: Tensor


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
        classes: of pixels, where they were calibrated.
    """

    posterior: Posterior
    below: Tensor
    scores: Tensor
    names: Mapping[str, slice]
    count: int
    classes: Known | None = None

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
        return _factor(self.below, level, self.count, "truths")

    def interval(
        self,
        level: float = 0.9,
        of: Mapping[str, Statistic] | None = None,
        classes: Any = None,
    ) -> tuple[Tensor, Tensor]:
        """Lower and upper ends, ``(batch, *shape)``.

        Args:
            level: between 0 and 1.
            of: a functional under the name that it had in `calibrate(statistics=)`, such as
                ``{"dose": dose}``; then the ends are ``(batch, numbers)``.
            classes: the labels, or their function, that were given to `calibrate(classes=)`: each
                class of pixels is scaled by itself, and of each at least `level` are covered, on
                average over measurements whose images have pixels of this class.

        Raises:
            ValueError: too few truths for this level, or a functional or classes that were not
                calibrated.
        """
        axis = self.posterior.diagnostics.residual_chi_square.ndim - 1
        if of is None:
            factor = self.factor(level) if classes is None else self._by_class(level, classes)
            mean, reach = self.posterior.mean, factor * self.posterior.std
            return mean - reach, mean + reach
        if classes is not None:
            raise ValueError(
                "Recalibrated.interval: of= or classes=, not both; a functional is one number"
            )
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
        rank = math.ceil(_needed(level, self.count, "truths") * self.count - 1e-9)
        return self.scores[:, self.names[name]].sort(dim=0).values[rank - 1]

    def _by_class(self, level: float, given: Any) -> Tensor:
        """The factor of every pixel, ``(batch, *shape)`` or ``(*shape)``."""
        samples, caller = self.posterior.samples, "Recalibrated.interval"
        axis = self.posterior.diagnostics.residual_chi_square.ndim - 1
        asked = Classes.checked(caller, given, tuple(samples.shape[axis + 1 :]))
        known = self.classes
        if known is None or known.identity != asked.identity:
            raise ValueError(
                f"{caller}(classes=): these were not calibrated; the calibration has "
                f"{'none' if known is None else known.identity}, asked were {asked.identity}; give "
                "them to calibrate(classes=)"
            )
        labels = torch.stack([asked.of(one) for one in (samples if axis else samples[None])])
        factors = torch.full((len(known.counts),), torch.nan, dtype=torch.float64)
        for label in labels.unique().tolist():
            words = f"truths with pixels of class {label}"
            factors[label] = _factor(known.below[label], level, int(known.counts[label]), words)
        found = factors.to(samples)[labels.to(samples.device)]
        return found if axis else found[0]


def _factor(below: Tensor, level: float, count: int, words: str) -> float:
    """The smallest score that enough values are below of."""
    place = int(torch.searchsorted(below, _needed(level, count, words) - 1e-12))
    if place == len(GRID):
        raise ValueError(
            f"Recalibrated(level={level:g}): some {words} are more than {float(GRID[-1]):.0f} "
            "standard deviations away from the samples; no scaling of them is of use"
        )
    return float(GRID[place])


def _needed(level: float, count: int, words: str) -> float:
    """The share of the truths that must be covered; the new image would be one more."""
    level = number("Recalibrated", "level", level, above=0, high=1 - 1e-9)
    needed = level * (count + 1) / count if count else math.inf
    if needed > 1 + 1e-9:
        raise ValueError(
            f"Recalibrated(level={level:g}): {count} {words} are too few; it takes "
            f"{math.ceil(level / (1 - level) - 1e-9)} or more"
        )
    return min(needed, 1.0)


def _values(name: str, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return called(f"the statistic {name!r}", function, x).reshape(len(x), -1)
