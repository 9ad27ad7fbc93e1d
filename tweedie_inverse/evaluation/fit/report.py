"""The report of `check_fit`: the verdict, what is unusual, and what that usually means."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tweedie_inverse.boundary.arguments import number
from tweedie_inverse.evaluation.fit.judge import Judgement
from tweedie_inverse.evaluation.fit.statistics import DATA, DENOISER, FAMILIES, IMAGE, RESIDUAL

_SHOWN = 5
# Deviations of this many standard deviations and more are worth a line.
_LARGE = 3.0
_MEANING = {
    (RESIDUAL, True): "the prior's images cannot explain y: an operator that is off, more noise "
    "than told, or structure that the prior does not know",
    (RESIDUAL, False): "y is explained too well: less noise than told",
    (DENOISER, True): "the denoiser changes the image more than its own: structure that it takes "
    "for noise, such as another kind of image or wrong units",
    (DENOISER, False): "the denoiser changes the image less than its own: plainer images than the "
    "prior's",
    (IMAGE, True): "brighter, or with more contrast or detail, than the prior's images",
    (IMAGE, False): "darker, or with less contrast or detail, than the prior's images",
    (DATA, True): "larger values than measurements of the prior's images have: another kind of "
    "image, units, gain or an offset",
    (DATA, False): "smaller values than measurements of the prior's images have: another kind of "
    "image, units, gain or an offset",
}


class Deviation(NamedTuple):
    """One statistic of the measurement.

    Attributes:
        name: what is looked at.
        family: of `FitReport.p_values`.
        deviation: from the mean of the references, in their standard deviations.
    """

    name: str
    family: str
    deviation: float

    @property
    def meaning(self) -> str:
        """What usually makes such a deviation."""
        return _MEANING[self.family, self.deviation > 0]

    def __str__(self) -> str:
        side = "above" if self.deviation > 0 else "below"
        size = f"{abs(self.deviation):.1f}" if abs(self.deviation) < 1e3 else "over 1000"
        return f"{self.name}: {size} standard deviations {side} the references"


class Columned(Protocol):
    """Names and families of statistics."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def families(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class FitReport:
    """Whether prior, operator and noise would have made a measurement; print it.

    Attributes:
        p_value: the share of measurements like the references that are as unusual, in multiples of
            ``1 / (references + 1)``: exact, at any number of statistics.
        level: at or below which it is an alarm.
        references: how many there are.
        p_values: of each family by itself, for reading; the smallest is not the verdict.
        deviations: of all statistics, the largest first.
        truths: where the images behind the references come from.
    """

    p_value: float
    level: float
    references: int
    p_values: dict[str, float]
    deviations: tuple[Deviation, ...]
    truths: str

    @property
    def passed(self) -> bool:
        """No alarm."""
        return self.p_value > self.level + 1e-9

    @property
    def verdict(self) -> str:
        """One line."""
        p = f"p = {self.p_value:.3f}, {self.references} references"
        if self.passed:
            return f"prior, operator and noise could have made this measurement ({p})"
        return (
            f"prior, operator and noise would not have made this measurement ({p}): {self.worst[0]}"
        )

    @property
    def worst(self) -> tuple[Deviation, ...]:
        """The largest deviations, at least one; those of families that are unusual come first."""
        odd = [one for one in self.deviations if self.p_values[one.family] <= self.level + 1e-9]
        rest = odd or self.deviations
        large = [one for one in rest if abs(one.deviation) >= _LARGE]
        return tuple((large or rest[:1])[:_SHOWN])

    def __str__(self) -> str:
        lines = [f"check of fit: {'passed' if self.passed else 'ALARM'}", f"  {self.verdict}"]
        lines += [f"  p = {p:.3f}  {family}" for family, p in self.p_values.items()]
        if not self.passed:
            lines += [f"  {one}" for one in self.worst]
            lines += [f"  may be: {text}" for text in dict.fromkeys(w.meaning for w in self.worst)]
        lines.append(f"  references are measurements of {self.truths}")
        return "\n".join(lines)


def report_of(
    found: Judgement, columns: Columned, level: float, references: int, truths: str
) -> FitReport:
    """In words."""
    triples = zip(columns.names, columns.families, found.deviations.tolist(), strict=True)
    deviations = [Deviation(*one) for one in triples]
    return FitReport(
        found.p_value,
        level,
        references,
        dict(zip(FAMILIES, found.p_values, strict=True)),
        tuple(sorted(deviations, key=lambda one: -abs(one.deviation))),
        truths,
    )


def checked_level(level: float, references: int) -> float:
    """The share of false alarms; raises a `ValueError` where so few references cannot show it."""
    level = number("check", "level", level, above=0, high=0.5)
    need = math.ceil(1 / level - 1e-9) - 1
    if references < need:
        raise ValueError(
            f"check(level={level:g}): needs {need} references or more, there are {references}; "
            f"the smallest p-value of these is 1/{references + 1}"
        )
    return level
