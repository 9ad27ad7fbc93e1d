"""The posterior of a functional of the image: its moments, quantiles, and their accuracy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import number, share
from tweedie_inverse.boundary.arrays import real_tensor
from tweedie_inverse.solving.blocks import over_pixels
from tweedie_inverse.solving.diagnostics import Diagnostics
from tweedie_inverse.solving.directions import PrincipalDirections, principal_directions_of
from tweedie_inverse.solving.exceedance import Exceedance, exceedance_of
from tweedie_inverse.solving.interval import central_interval, quantiles_along
from tweedie_inverse.solving.moments import OfSamples
from tweedie_inverse.solving.origin import Origin
from tweedie_inverse.solving.quantity import answers_of, values_of


@dataclass(frozen=True, eq=False, repr=False)
class Functional(OfSamples):
    """Samples of a functional under the posterior, equally weighted; without `batch` like y.

    Monte Carlo errors are those of finitely many samples: how far an estimate is from what
    infinitely many would give.  They say nothing of whether the posterior is right.

    Attributes:
        samples: ``(batch, num_samples, ...)``.
        effective_sample_size: ``(batch,)``, what the samples are worth in independent ones.
        sources: ``(batch, num_samples, k)``, numbers of what each sample was made from; samples
            that share one depend on each other.
        units: of the values, where they are known.
        value_range: of the values, where it is known.
    """

    samples: Tensor
    effective_sample_size: Tensor
    sources: Tensor
    units: str = ""
    value_range: tuple[float, float] | None = None

    @property
    def _axis(self) -> int:
        return self.effective_sample_size.ndim

    def __repr__(self) -> str:
        count, shape = self.samples.shape[self._axis], tuple(self.samples.shape[self._axis + 1 :])
        start = f"Functional({count} sample{'s' * (count > 1)}"
        if self._axis or shape:
            many = f" for each of {len(self.samples)} measurements" if self._axis else ""
            return f"{start}{f' of {shape}' if shape else ''}{many})"
        lower, upper = self.interval()
        return (
            f"{start}: mean {float(self.mean):.4g} +- {float(self.standard_error):.2g}, std "
            f"{float(self.std):.3g}, 90 % in {float(lower):.4g} to {float(upper):.4g})"
        )

    @property
    def standard_error(self) -> Tensor:
        """Monte Carlo standard error of `mean`: ``std / sqrt(n)``; NaN for a single sample.

        n is the effective number of samples.  0 where all samples agree, which is no proof: of an
        event seen in none of n samples the probability may be ``3 / n`` (with 95 % confidence).
        """
        return self.std / self._size.sqrt()

    @property
    def standard_error_of_std(self) -> Tensor:
        """Monte Carlo standard error of `std`; NaN for a single sample.

        ``Var(s^2) = (m4 - s^4 (n - 3) / (n - 1)) / n`` with the fourth central moment m4, and
        ``sd(s) = sd(s^2) / (2 s)``; n is the effective number of samples.
        """
        size = self._size
        variance = self.std.square()

        def fourth_moment(samples: Tensor) -> Tensor:
            centred = samples - samples.mean(self._axis, keepdim=True)
            return centred.square().square().mean(self._axis)

        fourth = over_pixels(fourth_moment, self.samples, self._axis)
        scatter = (fourth - variance.square() * (size - 3) / (size - 1)) / size
        spread = scatter.clamp(min=0).sqrt() / (2 * self.std)
        return torch.where(variance > 0, spread, variance)  # 0 where all agree

    @property
    def _size(self) -> Tensor:
        """The effective number of samples, as it divides ``(batch, ...)``."""
        size = self.effective_sample_size.to(self.samples)
        return size[(..., *[None] * (self.samples.ndim - self._axis - 1))]

    def quantile(self, q: float | Sequence[float] | Tensor) -> Tensor:
        """Quantiles, as `Posterior.quantile` gives them: ``(batch, ...)``, a list's first."""
        batch = len(self.samples) if self._axis else 1
        return quantiles_along(self.samples, self._axis, *levels_of(q, batch))

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Lower and upper end of a central interval, as `Posterior.interval` gives it."""
        need = "a share between 0 and 1, such as 0.9"
        level = number("interval", "level", level, above=0, high=1 - 1e-9, need=need)
        return central_interval(self.samples, self._axis, level, self.effective_sample_size)

    def probability(self, event: Callable[[Tensor], Tensor]) -> Tensor:
        """Share of the samples for which something holds, as `Posterior.probability` gives it."""
        return share_of(event, self.samples, self._axis, "values")

    def exceedance(self, threshold: float | Tensor = 0.0) -> Exceedance:
        """Where the values lie above a threshold, as `Posterior.exceedance` gives it."""
        return exceedance_of(
            self.samples,
            self.sources,
            self.effective_sample_size,
            threshold,
            units=self.units,
            value_range=self.value_range,
        )

    def principal_directions(self, count: int = 4) -> PrincipalDirections:
        """Directions of largest variance, as `Posterior.principal_directions` gives them."""
        return principal_directions_of(
            self.samples, self.sources, count, units=self.units, value_range=self.value_range
        )


def functional_of(
    caller: str, of: Any, samples: Tensor, diagnostics: Diagnostics, origin: Origin | None
) -> Functional:
    """A functional of a posterior's samples ``(batch, num_samples, *shape)``, or without batch.

    Args:
        of: a function or a mask, as of `Posterior.functional`; None for the image itself.
    """
    axis = diagnostics.effective_sample_size.ndim
    values = samples if of is None else values_of(caller, of, samples, axis)
    lead = samples.shape[: axis + 1]
    names = torch.arange(lead[-1]).expand(lead)
    if diagnostics.population is not None:
        names = diagnostics.population.chosen  # copies of one walker have one name
    is_image = of is None or not callable(of)  # a region's mean has the units of the image
    return Functional(
        values,
        diagnostics.effective_sample_size,
        names[..., None],
        origin.units if origin is not None and is_image else "",
        origin.value_range if origin is not None and of is None else None,
    )


def share_of(event: Any, values: Tensor, axis: int, what: str) -> Tensor:
    """Share of the samples for which an event holds, ``(batch, ...)``.

    Args:
        what: the event is a function of, for messages.

    Raises:
        ValueError: the answer is not boolean, or does not keep the first axis.
    """
    found = answers_of("probability(event)", event, values, axis, what=what)
    if found.dtype != torch.bool:
        raise ValueError(
            "probability(event): needs a function with boolean values, such as lambda x: x > 0.5; "
            f"it returned {found.dtype}"
        )
    return over_pixels(lambda part: part.to(values.dtype).mean(axis), found, axis)


def levels_of(q: Any, batch: int) -> tuple[Tensor, bool]:
    """Levels of quantiles in float64, and whether they are a list, for all measurements.

    Raises:
        TypeError: no numbers.
        ValueError: outside [0, 1], an empty list, or a tensor not of one for each measurement.
    """
    if isinstance(q, list | tuple):
        if not q:
            raise ValueError("quantile(q=[]): needs one number in [0, 1] or more")
        need = "numbers in [0, 1]"
        found = [share("quantile", "q", one, need=need) for one in q]
        return torch.tensor(found, dtype=torch.float64), True
    levels = real_tensor("quantile", "q", q, finite=False).double()
    if isinstance(q, bool) or levels.ndim > 1 or (levels.ndim and len(levels) != batch):
        raise ValueError(
            f"quantile(q={q}): needs a number in [0, 1], or one for each of {batch} "
            "measurements; a list asks for several of all"
        )
    if not bool(((levels >= 0) & (levels <= 1)).all()):
        raise ValueError(f"quantile(q={q}): needs a number in [0, 1]")
    return levels, False
