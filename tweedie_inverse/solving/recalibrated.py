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
from typing import Any, Protocol

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import instance, number
from tweedie_inverse.boundary.contracts import called
from tweedie_inverse.priors.scaling import GRID, Scaling
from tweedie_inverse.solving.diagnostics import Diagnostics
from tweedie_inverse.solving.origin import Origin
from tweedie_inverse.solving.pixel_classes import Classes

_MAKE = (
    "make one, calibration = ti.calibrate(operator, prior, images=...), and solve with "
    "prior.with_calibration(calibration), or ask calibration.recalibrated(posterior)"
)


class Sampled(Protocol):
    """What is needed of a posterior, which is above this file."""

    @property
    def samples(self) -> Tensor: ...
    @property
    def mean(self) -> Tensor: ...
    @property
    def std(self) -> Tensor: ...
    @property
    def diagnostics(self) -> Diagnostics: ...


def words_of(origin: Origin) -> dict[str, str]:
    """How samples were made, as `Scaling.made_with` says it."""
    return {
        "operator": f"{origin.operator}, {origin.operator_checksum}",
        "noise": f"{origin.noise}, {origin.noise_checksum}",
        "walk": origin.walk,
        "steps": str(origin.steps),
        "num_samples": str(origin.num_samples),
    }


def differences(scaling: Scaling, origin: Origin) -> list[str]:
    """What samples were made with otherwise than those of a calibration; none if nothing was."""
    return [
        f"{name} {made}, where the calibration has {scaling.made_with[name]}"
        for name, made in words_of(origin).items()
        if made != scaling.made_with[name]
        # Posteriors of older files have no checksum of their operator.
        and not (made.endswith(", ") and scaling.made_with[name].startswith(made))
    ]


def closest(calibration: Mapping[str, Scaling], origin: Origin) -> Scaling | None:
    """The one that was made as these samples were, or differs least; None where there is none."""
    found = list(calibration.values())
    return min(found, key=lambda one: len(differences(one, origin)), default=None)


def recalibrated_by(
    posterior: Sampled, scaling: Scaling | None, origin: Origin | None
) -> "Recalibrated":
    """A posterior with the scaling that its prior kept; raises as `Posterior.recalibrated`."""
    if scaling is None or origin is None:
        raise ValueError(
            "Posterior.recalibrated: the prior that these samples were made with has no "
            f"calibration of it as it is; {_MAKE}"
        )
    other = differences(scaling, origin)
    if other:
        raise ValueError(
            f"Posterior.recalibrated: these samples were made with {'; '.join(other)}; solve as "
            f"for the calibration, or {_MAKE}"
        )
    return Recalibrated(posterior, scaling)


@dataclass(frozen=True, eq=False)
class Recalibrated:
    """A posterior whose intervals are scaled by what a calibration has seen.

    An interval of level 0.9 covers, on average over measurements of images like the calibration's
    truths, at least 0.9 of the pixels, or the functional in 0.9 of them.  No promise is made for
    each image, nor for each pixel.

    Attributes:
        posterior: as it was.
        scaling: the numbers of the calibration, and what it was made with.
    """

    posterior: Sampled
    scaling: Scaling

    def __repr__(self) -> str:
        return (
            f"Recalibrated({self.posterior!r}, intervals at 0.9 are mean +- {self._reach()} std, "
            f"by conformal prediction from {self.count} truths: {self.scaling.truths}; of "
            f"{' '.join(self.scaling.prior)} at {self.scaling.key})"
        )

    def _reach(self) -> str:
        try:
            return f"{self.factor(0.9):.3g}"
        except ValueError:
            return "beyond all"

    @property
    def count(self) -> int:
        """Truths of the calibration."""
        return self.scaling.count

    @property
    def _axis(self) -> int:
        return self.posterior.diagnostics.residual_chi_square.ndim - 1

    def factor(self, level: float = 0.9) -> float:
        """Half the width of the pixels' intervals, in standard deviations of the samples.

        Raises:
            ValueError: too few truths for this level.
        """
        return _factor(self.scaling.below, level, self.count, "truths")

    def interval(
        self,
        level: float = 0.9,
        of: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
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
        axis = self._axis
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
        names = self.scaling.names
        if name not in names:
            raise ValueError(
                f"Recalibrated.interval(of=): {name!r} was not calibrated; known are "
                f"{', '.join(names) or 'none'}; give it to calibrate(statistics=)"
            )
        rank = math.ceil(_needed(level, self.count, "truths") * self.count - 1e-9)
        return self.scaling.scores[:, slice(*names[name])].sort(dim=0).values[rank - 1]

    def _by_class(self, level: float, given: Any) -> Tensor:
        """The factor of every pixel, ``(batch, *shape)`` or ``(*shape)``."""
        samples, caller, axis = self.posterior.samples, "Recalibrated.interval", self._axis
        asked = Classes.checked(caller, given, tuple(samples.shape[axis + 1 :]))
        known = self.scaling
        if known.classes != asked.identity:
            raise ValueError(
                f"{caller}(classes=): these were not calibrated; the calibration has "
                f"{known.classes or 'none'}, asked were {asked.identity}; give them to "
                "calibrate(classes=)"
            )
        labels = torch.stack([asked.of(one) for one in (samples if axis else samples[None])])
        factors = torch.full((len(known.class_counts),), torch.nan, dtype=torch.float64)
        for label in labels.unique().tolist():
            words, count = f"truths with pixels of class {label}", int(known.class_counts[label])
            factors[label] = _factor(known.class_below[label], level, count, words)
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
