"""What is known beforehand of an unknown number of an instrument: a range, or a weak prior.

Moves are made in a coordinate u, the number itself or its logarithm, in which the prior is flat or
normal, between two ends.
"""

import math
from dataclasses import dataclass
from typing import Any

from tweedie_inverse.boundary.arguments import number, positive


@dataclass(frozen=True)
class ScalarPrior:
    """The prior of one number; made by `uniform`, `log_uniform`, `normal` or `log_normal`.

    Attributes:
        low, high: ends of its range, in its own units; a normal prior has them 8 deviations off.
        is_logarithmic: whether u is the logarithm of the number.
        centre, spread: mean and standard deviation of u; None where the prior is flat in u.
    """

    low: float
    high: float
    is_logarithmic: bool = False
    centre: float | None = None
    spread: float | None = None

    @classmethod
    def uniform(cls, low: float, high: float) -> "ScalarPrior":
        """Flat between two ends.

        Raises:
            ValueError: not ``low < high``, or not finite.
        """
        return cls(*_ends("uniform", low, high))

    @classmethod
    def log_uniform(cls, low: float, high: float) -> "ScalarPrior":
        """Flat in the logarithm between two positive ends.

        Raises:
            ValueError: not ``0 < low < high``, or not finite.
        """
        low, high = _ends("log_uniform", low, high)
        if low <= 0:
            raise ValueError(f"ScalarPrior.log_uniform(low={low:g}): needs positive ends")
        return cls(low, high, is_logarithmic=True)

    @classmethod
    def normal(cls, mean: float, std: float) -> "ScalarPrior":
        """Normal, cut off 8 standard deviations from its mean.

        Raises:
            ValueError: a std that is not positive, or not finite.
        """
        mean = number("ScalarPrior.normal", "mean", mean)
        std = positive("ScalarPrior.normal", "std", std)
        return cls(mean - _FAR * std, mean + _FAR * std, False, mean, std)

    @classmethod
    def log_normal(cls, median: float, factor: float) -> "ScalarPrior":
        """Two thirds of it lie within a `factor` of the `median`.

        Raises:
            ValueError: a median that is not positive, or a factor that is not above 1.
        """
        median = positive("ScalarPrior.log_normal", "median", median)
        factor = number("ScalarPrior.log_normal", "factor", factor, above=1.0)
        centre, spread = math.log(median), math.log(factor)
        low, high = (math.exp(centre + side * _FAR * spread) for side in (-1, 1))
        return cls(low, high, True, centre, spread)

    @staticmethod
    def of(caller: str, name: str, given: Any) -> "ScalarPrior":
        """A prior as a user writes it: a `ScalarPrior`, or two ends of a flat one.

        Raises:
            TypeError, ValueError: neither, or no range.
        """
        if isinstance(given, ScalarPrior):
            return given
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise TypeError(
                f"{caller}({name}={given!r}): needs its range (low, high), or a prior such as "
                "ops.ScalarPrior.log_normal(median, factor)"
            )
        return ScalarPrior(*_ends(f"{caller}: {name}", *given))

    def coordinate(self, value: float) -> float:
        """u of a number."""
        return math.log(value) if self.is_logarithmic else value

    @property
    def middle(self) -> float:
        """The number in the middle of the range of u: where moves begin."""
        u = (self.coordinate(self.low) + self.coordinate(self.high)) / 2
        return math.exp(u) if self.is_logarithmic else u

    @property
    def deviation(self) -> float:
        """Standard deviation of u."""
        if self.spread is not None:
            return self.spread
        return (self.coordinate(self.high) - self.coordinate(self.low)) / math.sqrt(12)

    def __repr__(self) -> str:
        if self.centre is None or self.spread is None:
            kind = ", logarithmic" if self.is_logarithmic else ""
            return f"[{self.low:g}, {self.high:g}]{kind}"
        if self.is_logarithmic:
            return f"{math.exp(self.centre):g} within a factor {math.exp(self.spread):g}"
        return f"{self.centre:g} +- {self.spread:g}"


_FAR = 8.0


def _ends(caller: str, low: Any, high: Any) -> tuple[float, float]:
    low, high = number(caller, "low", low), number(caller, "high", high)
    if not low < high:
        raise ValueError(f"{caller}: needs low < high, got {low:g} and {high:g}")
    return low, high
