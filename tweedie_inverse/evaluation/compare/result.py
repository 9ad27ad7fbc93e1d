"""What a comparison found: evidences with errors, probabilities, and what is not told apart."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

# Two candidates are told apart where their difference is beyond this two-sided interval.
_LEVEL = 0.95
_NOTHING = "-"


class Difference(NamedTuple):
    """Of two log evidences, in nats.

    Attributes:
        value: of the first less that of the second: the logarithm of their Bayes factor.
        error: standard error.
        is_told: whether it is beyond what the error explains, at 95 %.
    """

    value: float
    error: float
    is_told: bool


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Candidates by their evidence; print it.

    Attributes:
        kind: what is compared: "operator", "prior" or "noise".
        names: of the candidates.
        estimates: ``(candidates, repeats)`` float64, the log evidence of y by each population, in
            nats; repeat k has the same random numbers for all candidates.
        chi_square: of each candidate's samples, near 1 where they fit; averaged over measurements.
        fits: whether each candidate's samples fit every measurement.
        verdicts: of each candidate's posterior, one line.
        walkers: of each population.
    """

    kind: str
    names: tuple[str, ...]
    estimates: Tensor
    chi_square: tuple[float, ...]
    fits: tuple[bool, ...]
    verdicts: tuple[str, ...]
    walkers: int

    @property
    def log_evidence(self) -> dict[str, float]:
        """``log p(y)`` of each candidate in nats, the mean over the populations."""
        return dict(zip(self.names, self.estimates.mean(1).tolist(), strict=True))

    @property
    def standard_error(self) -> dict[str, float]:
        """Of each log evidence: its scatter between populations, and the bias of a logarithm.

        The estimate of ``p(y)`` is unbiased, so that its logarithm is low by half its variance.
        """
        return {name: _error(row, row.var()) for name, row in self._rows()}

    @property
    def probabilities(self) -> dict[str, float]:
        """Of each candidate, given y and that all were equally probable before."""
        weights = torch.softmax(self.estimates.mean(1), 0)
        return dict(zip(self.names, weights.tolist(), strict=True))

    @property
    def probability_error(self) -> dict[str, float]:
        """Standard error of each probability, from the populations."""
        each = torch.softmax(self.estimates, 0)
        errors = each.std(1) / math.sqrt(self.estimates.shape[1])
        return dict(zip(self.names, errors.tolist(), strict=True))

    @property
    def best(self) -> str:
        """The name of the candidate with the largest evidence."""
        return self.names[int(self.estimates.mean(1).argmax())]

    def difference(self, first: str, second: str) -> Difference:
        """Of two candidates' log evidences, by populations with the same random numbers.

        Raises:
            KeyError: there is no candidate of this name.
        """
        a, b = self._row(first), self._row(second)
        if first == second:
            return Difference(0.0, 0.0, False)
        error = _error(a - b, (a.var() - b.var()).abs())
        value = float((a - b).mean())
        told = abs(value) > max(error * self._quantile, 1e-9 * (1 + abs(float(a.mean()))))
        return Difference(value, error, told)

    @property
    def undecided(self) -> tuple[str, ...]:
        """Candidates that this run does not tell apart from the best."""
        others = (name for name in self.names if name != self.best)
        return tuple(name for name in others if not self.difference(self.best, name).is_told)

    def __str__(self) -> str:
        head = ("", "log p(y)", "below the best", "probability", "chi-square")
        order = sorted(self.names, key=lambda name: -self.log_evidence[name])
        lines = [head, *(self._cells(name) for name in order)]
        widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
        rows = [
            "  ".join(
                cell.ljust(width) if place == 0 else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([*rows, *self._remarks()])

    __repr__ = __str__

    def _cells(self, name: str) -> tuple[str, ...]:
        place = self.names.index(name)
        below, fit = self.difference(self.best, name), self.chi_square[place]
        return (
            name,
            _with_error(self.log_evidence[name], self.standard_error[name]),
            _NOTHING if name == self.best else _with_error(below.value, below.error),
            f"{self.probabilities[name]:.3f} ± {self.probability_error[name]:.3f}",
            f"{fit:.3g}" + ("" if self.fits[place] else " (!)"),
        )

    def _remarks(self) -> list[str]:
        count = self.estimates.shape[1]
        found = [f"{count} populations of {self.walkers} walkers for each; equal prior weights."]
        if self.undecided:
            found.append(
                f"Within the error of the best: {', '.join(self.undecided)}. More walkers tell "
                "more; more repeats tell the error better."
            )
        if not all(self.fits):
            found.append("(!) does not fit y by its residuals.")
        place = self.names.index(self.best)
        if not self.fits[place]:
            found.append(f"Even the best does not fit: {self.verdicts[place]}.")
        return found

    def _row(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(f"no candidate {name!r}; there are {', '.join(map(repr, self.names))}")
        return self.estimates[self.names.index(name)]

    def _rows(self) -> list[tuple[str, Tensor]]:
        return list(zip(self.names, self.estimates, strict=True))

    @cached_property
    def _quantile(self) -> float:
        """Of Student's law: a few populations tell their scatter badly."""
        from scipy.stats import t

        return float(t.ppf((1 + _LEVEL) / 2, self.estimates.shape[1] - 1))


def _error(values: Tensor, variance: Tensor) -> float:
    """Standard error of the mean of `values`, ``(repeats,)``, low by half of `variance`."""
    return math.hypot(float(values.std()) / math.sqrt(len(values)), float(variance) / 2)


def _with_error(value: float, error: float) -> str:
    """The value to the digits that its error leaves, one at least."""
    digits = 1 if error <= 0 else min(3, max(1, 1 - math.floor(math.log10(error))))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
