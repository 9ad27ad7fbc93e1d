"""Differences of two sets of numbers of the same images, and what may be concluded from many.

A difference is judged by Student's t of its mean over the images, which allows for few of them but
not for outliers.  Of many differences some are large by chance; Holm's procedure (1979) keeps the
probability that any of them is wrongly called one below the level, however they depend on another.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple


class Paired(NamedTuple):
    """The mean of paired differences.

    Attributes:
        pairs: how many.
        mean: of the differences.
        error: its standard error; NaN for one pair.
    """

    pairs: int
    mean: float
    error: float

    @property
    def t(self) -> float:
        """Mean over error; 0 where all differences are 0, NaN where there is no error."""
        if self.mean == 0 and self.error == 0:
            return 0.0
        if self.error == 0:
            return math.copysign(math.inf, self.mean)
        return self.mean / self.error

    @property
    def p_above(self) -> float:
        """Probability of a t as large or larger, if the true mean is 0; 1 for one pair."""
        from scipy.stats import t

        if self.pairs < 2 or math.isnan(self.error):
            return 1.0
        return float(t.sf(self.t, self.pairs - 1))

    @property
    def p_value(self) -> float:
        """Probability of a t as far from 0 or further, if the true mean is 0; 1 for one pair."""
        from scipy.stats import t

        if self.pairs < 2 or math.isnan(self.error):
            return 1.0
        return float(2 * t.sf(abs(self.t), self.pairs - 1))

    def upper(self, level: float) -> float:
        """The true mean is below this with confidence ``1 - level``; infinite for one pair."""
        from scipy.stats import t

        if self.pairs < 2 or math.isnan(self.error):
            return math.inf
        return self.mean + float(t.isf(level, self.pairs - 1)) * self.error


def paired(differences: Sequence[float]) -> Paired:
    """The mean of differences, with its standard error.

    Raises:
        ValueError: none at all.
    """
    if not differences:
        raise ValueError("paired: needs one difference or more")
    count = len(differences)
    error = stdev(differences) / math.sqrt(count) if count > 1 else math.nan
    return Paired(count, fmean(differences), error)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values raised for their number; significant is what is then at most the level.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none falls below one before
    it.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    raised, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        raised[index] = largest
    return raised
