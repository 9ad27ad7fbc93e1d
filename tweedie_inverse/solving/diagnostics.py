"""What samples say about themselves: numbers, and one line of judgement.

Samples x of an exact posterior, with the truth drawn from the prior, leave residuals with the law
of the noise itself, because (x, y) then has the law of (truth, y).  The chi-square of n numbers is
therefore 1 on average and scatters by ``sqrt(2 / n)``, for linear and other instruments alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.linear_gaussian import TOLERANCE

# A chi-square is put down to the walk up to this factor beyond its expected range: on the benchmark
# suites it is up to 1.28 beyond with 20 steps (Fourier samples of a quarter of the columns), and
# within 1.02 with 50.
_ALLOWED = 1.5
# Below this acceptance the inner moves stand still.
_LEAST_ACCEPTANCE = 0.01
# Share of values outside the prior's range at which the samples have left it; up to 0.02 on the
# benchmark suites.
_LEFT = 0.1
# Effective walkers of a population at its worst step, below which one walker was all that counted.
_LEAST_WALKERS = 1.5


class PosteriorWarning(RuntimeWarning):
    """Samples that do not agree with their measurement, or a walk that was not exact."""


class Population(NamedTuple):
    """What a population of walkers went through; without `batch` when y came without one.

    Attributes:
        weights: ``(batch, walkers)`` float64, sum 1, of the walkers as they arrived.
        log_evidence: ``(batch,)``, estimate of ``log p(y)`` in nats: the probability density of
            the observed entries under prior and operator.  ``exp`` of it is unbiased for the
            walk's own prior, that of its discrete steps.  Where the measurements are too many for
            a determinant it is estimated, and a `RuntimeWarning` tells of an estimate that may be
            far off; `ti.compare` has a standard error.
        effective_sizes: ``(batch, steps)``, effective number of walkers at each step, before
            resampling.
        resamplings: ``(batch,)``, how often the population was resampled during the walk.
        ancestors: ``(batch, num_samples)``, the walker of the start that each sample descends from.
        chosen: ``(batch, num_samples)``, the arrived walker that each sample is.
    """

    weights: Tensor
    log_evidence: Tensor
    effective_sizes: Tensor
    resamplings: Tensor
    ancestors: Tensor
    chosen: Tensor

    def __repr__(self) -> str:
        return (
            f"Population({self.weights.shape[-1]} walkers, {self.effective_sizes.shape[-1]} steps)"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Diagnostics:
    """Signs of trouble, and the `verdict`; without `batch` when y came without one.

    Attributes:
        residual_chi_square: ``(batch, num_samples)``, the mean squared standardized residual of
            the observed entries: ``|y - A x|^2 / std^2`` for Gaussian noise, Pearson's chi-square
            for counts; near 1 for samples of the posterior.
        effective_sample_size: ``(batch,)``: the number of samples where they are independent,
            ``1 / sum(weights^2)`` of a population.
        expected: ``(batch, 2)``, the range that holds the chi-square of a posterior sample in 999
            of 1000 measurements of so many numbers; None for samples that were not judged.
        solver_error: worst error of the inner linear solves, in posterior standard deviations.
        acceptance: ``(batch, num_samples)``, mean acceptance of the inner moves; None where the
            draws are exact and nothing is refused.
        outside: ``(batch, num_samples)``, share of a sample's values that lie outside the prior's
            value range by more than 5 % of its width; None where that range is not known.
        population: of the particle walk; None for independent samples.
        causes: why the samples do not fit, the likeliest first; empty where they do.
        at_edge: unknown numbers of the instrument that lie at an end of their range, in words.
    """

    residual_chi_square: Tensor
    effective_sample_size: Tensor
    expected: Tensor | None = None
    solver_error: float = 0.0
    acceptance: Tensor | None = None
    outside: Tensor | None = None
    population: Population | None = None
    causes: tuple[str, ...] = ()
    at_edge: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Diagnostics({self.verdict})"

    @property
    def chi_square(self) -> Tensor:
        """`residual_chi_square` of each measurement, averaged over its samples, ``(batch,)``."""
        return self.residual_chi_square.mean(-1)

    @property
    def fits(self) -> Tensor:
        """Whether each measurement's chi-square is in its range, ``(batch,)``, boolean.

        The range is `expected`, half as wide again at both ends for what the walk may be off.
        """
        if self.expected is None:
            return torch.ones_like(self.chi_square, dtype=torch.bool)
        found, low, high = self._judged()
        return (found >= low / _ALLOWED) & (found <= high * _ALLOWED)

    @property
    def worst(self) -> int:
        """The measurement whose chi-square is furthest from its range; 0 without `batch`."""
        if self.expected is None or self.chi_square.ndim == 0:
            return 0
        found, low, high = self._judged()
        distance = torch.maximum(found / high, low / found.clamp(min=1e-30)).nan_to_num(
            nan=torch.inf
        )
        return int(distance.argmax())

    @property
    def is_consistent(self) -> bool:
        """Whether the samples fit their measurements, and the walk reports no trouble."""
        return bool(self.fits.all()) and not self.troubles

    @property
    def verdict(self) -> str:
        """One line: "consistent with the noise", or what is wrong and its likeliest cause."""
        if self.expected is None:
            return "not judged: no measurement was given"
        if not bool(self.fits.all()):
            return self._misfit()
        if self.troubles:
            return self.troubles[0]
        found, low, high = self._judged()
        if bool(((found >= low) & (found <= high)).all()):
            return "consistent with the noise"
        return f"consistent with the noise within the accuracy of the walk: {self._numbers()}"

    def _judged(self) -> tuple[Tensor, Tensor, Tensor]:
        """Chi-square and the ends of its range, ``(batch,)``, float64 on the CPU."""
        assert self.expected is not None
        low, high = self.expected.cpu().double().unbind(-1)
        return self.chi_square.cpu().double(), low, high

    def _misfit(self) -> str:
        fits, (low, _) = self.fits, self._range()
        many = fits.ndim and len(fits) > 1
        subject = f"{int((~fits).sum())} of {len(fits)} measurements: " if many else ""
        too_good = float(self.chi_square.reshape(-1)[self.worst]) < low
        what = "fits better than the noise allows" if too_good else "does not fit the measurement"
        cause = f": {self.causes[0]}" if self.causes else ""
        return f"{subject}{what}: {self._numbers()}{cause}"

    @property
    def leaves_range(self) -> bool:
        """Whether many values of some measurement's samples lie outside the prior's range."""
        return self.outside is not None and float(self.outside.mean(-1).max()) > _LEFT

    @property
    def troubles(self) -> tuple[str, ...]:
        """What went wrong on the way, whether it shows in the residuals or not."""
        found = []
        if self.solver_error > TOLERANCE:
            found.append(
                f"not exact: the inner linear solver stopped {self.solver_error:.1e} posterior "
                f"standard deviations short (aimed at {TOLERANCE:.0e}); a measured denoising error "
                "or a larger noise level makes it easier"
            )
        if self.acceptance is not None and float(self.acceptance.mean()) < _LEAST_ACCEPTANCE:
            found.append(
                f"not moving: the inner moves were accepted {float(self.acceptance.mean()):.1%} of "
                "the time; is the forward map smooth, and the noise level right?"
            )
        if self.at_edge:
            found.append(
                f"at the edge of its range: {'; '.join(self.at_edge)}. Is the range wide enough, "
                "and the truth one of this family of instruments?"
            )
        if self.leaves_range and bool(self.fits.all()):
            assert self.outside is not None
            found.append(
                f"outside the prior's value range: {float(self.outside.mean(-1).max()):.0%} of the "
                "values, though y is fitted; is y in that range, and without an offset?"
            )
        if self.population is not None and self.population.weights.shape[-1] > 1:
            least = float(self.population.effective_sizes.min())
            if least < _LEAST_WALKERS:
                found.append(
                    f"degenerate: at the worst step {least:.1f} of "
                    f"{self.population.weights.shape[-1]} walkers counted; take more walkers or "
                    "more steps"
                )
        return tuple(found)

    def _numbers(self) -> str:
        low, high = self._range()
        found = float(self.chi_square.reshape(-1)[self.worst])
        where = f" of measurement {self.worst}" if self.chi_square.numel() > 1 else ""
        return f"chi-square {number(found)}{where}, expected {number(low)} to {number(high)}"

    def _range(self) -> tuple[float, float]:
        assert self.expected is not None
        low, high = self.expected.reshape(-1, 2)[self.worst].tolist()
        return low, high

    @property
    def report(self) -> str:
        """The verdict, and where else to look if it is a bad one."""
        others = "".join(f"\n- {cause}" for cause in self.causes[1:])
        more = f"\nOther causes, the likelier first:{others}" if others else ""
        return f"verdict: {self.verdict}{more}"

    def tensors(self) -> dict[str, Tensor]:
        """All that is known, by name; those of a population begin with ``population.``."""
        found = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        if self.population is not None:
            history = self.population._asdict()
            found |= {f"population.{name}": value for name, value in history.items()}
        return found

    def notes(self) -> dict[str, Any]:
        """What is no tensor, for a file, with the verdict for those who read its header."""
        return {
            "solver_error": self.solver_error,
            "causes": list(self.causes),
            "at_edge": list(self.at_edge),
            "is_consistent": self.is_consistent,
            "verdict": self.verdict,
        }

    @staticmethod
    def of_file(tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> "Diagnostics":
        """From what `tensors` and `notes` gave."""
        names = [f"population.{name}" for name in Population._fields]
        return Diagnostics(
            residual_chi_square=tensors["residual_chi_square"],
            effective_sample_size=tensors["effective_sample_size"],
            expected=tensors.get("expected"),
            solver_error=notes["solver_error"],
            acceptance=tensors.get("acceptance"),
            outside=tensors.get("outside"),
            population=Population(*(tensors[name] for name in names))
            if names[0] in tensors
            else None,
            causes=tuple(notes["causes"]),
            at_edge=tuple(notes.get("at_edge", ())),
        )

    def because(self, causes: tuple[str, ...]) -> "Diagnostics":
        """The same with likely causes of what is wrong."""
        return replace(self, causes=causes)

    def of(self, index: int | slice | None) -> "Diagnostics":
        """Those of one measurement, or of some; None gives one of its own a batch axis."""
        return self._mapped(lambda field: field[index])

    def to(self, device: torch.device | str) -> "Diagnostics":
        """The same on another device."""
        return self._mapped(lambda field: field.to(device))

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "Diagnostics":
        fields: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        population = self.population and Population(*map(change, self.population))
        return replace(self, population=population, **fields)

    @staticmethod
    def joined(parts: Sequence["Diagnostics"]) -> "Diagnostics":
        """Those of several batches, one after the other; what one of them lacks is left out."""

        def together(values: list[Tensor | None]) -> Tensor | None:
            known = [value for value in values if value is not None]
            return torch.cat(known) if len(known) == len(parts) else None

        names = [name for name in vars(parts[0]) if isinstance(vars(parts[0])[name], Tensor)]
        fields: dict[str, Any] = {
            name: together([getattr(part, name) for part in parts]) for name in names
        }
        histories = [part.population for part in parts if part.population is not None]
        population = None
        if len(histories) == len(parts):
            population = Population(*map(torch.cat, zip(*histories, strict=True)))
        return replace(
            parts[0],
            **fields,
            population=population,
            solver_error=max(part.solver_error for part in parts),
            causes=next((part.causes for part in parts if part.causes), ()),
            at_edge=tuple(dict.fromkeys(text for part in parts for text in part.at_edge)),
        )


def number(value: float) -> str:
    """Digits as people read them: 43201, 101, 0.98, 0.0012."""
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.3g}" if size < 0.1 else f"{value:.2f}"
