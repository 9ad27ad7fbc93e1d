"""What is known beforehand of the phase of complex images: it is a polynomial of low degree.

In magnetic resonance images most of the phase is that of the main field: a constant, slopes of
echoes that come early or late, and the first shims.  The polynomials are products of Legendre's,
which are 1 at the edges of the image.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor

from tweedie_inverse.numerics.residence import resident

# Turns of the constant: it is uniform on the circle, and may begin anywhere on it.
_TURNS = 2.0
# Where normal priors are cut off, in standard deviations.
_FAR = 8.0
# Rounds of the fit to what slopes leave.
_ROUNDS = 4


@dataclass(frozen=True)
class PhasePrior:
    """Of phases ``(*size)`` in radians.

    Attributes:
        size: of the image, without channels.
        degree: the largest total degree.
        spread: standard deviation of each coefficient but the constant, in radians at the edges.
    """

    size: tuple[int, ...]
    degree: int
    spread: float

    @staticmethod
    def of_notes(notes: Any) -> "PhasePrior | None":
        """What `dataclasses.asdict` made of one, after JSON."""
        if notes is None:
            return None
        return PhasePrior(tuple(notes["size"]), notes["degree"], notes["spread"])

    @cached_property
    def powers(self) -> tuple[tuple[int, ...], ...]:
        """Degrees along each axis, the constant first."""
        along = product(range(self.degree + 1), repeat=len(self.size))
        kept = [each for each in along if sum(each) <= self.degree]
        return tuple(sorted(kept, key=lambda each: (sum(each), *(-one for one in each))))

    @cached_property
    def basis(self) -> Tensor:
        """Phases of numbers that are one, ``(count, *size)`` float64."""
        found = []
        for degrees in self.powers:
            image = torch.full((), self.spread if sum(degrees) else 1.0, dtype=torch.float64)
            for axis, (n, degree) in enumerate(zip(self.size, degrees, strict=True)):
                line = _legendre(torch.linspace(-1, 1, n, dtype=torch.float64), degree)
                image = image * line.reshape(-1, *[1] * (len(self.size) - 1 - axis))
            found.append(image)
        return torch.stack(found)

    @property
    def reach(self) -> float:
        """No phase is further from 0 than this."""
        return _TURNS * math.pi + _FAR * self.spread * (len(self.powers) - 1)

    @property
    def turns(self) -> tuple[float, float]:
        """Ends of the constant."""
        return -_TURNS * math.pi, _TURNS * math.pi

    def maps(self, numbers: Tensor) -> Tensor:
        """Phases ``(..., *size)`` of numbers ``(..., count)``."""
        return torch.tensordot(numbers, resident(self.basis, numbers), dims=1)

    def fitted(self, image: Tensor) -> Tensor:
        """Numbers ``(count,)`` of the phase of a complex image ``(*size)``, float64.

        Phases of neighbours differ by less than half a turn, so that their differences need no
        unwrapping: the polynomial is fitted to them, then the constant, then to what is left, all
        weighted by the squared magnitude.
        """
        basis, image = self.basis.to(image.device), image.to(torch.complex128)
        if not float(image.abs().max()):
            return basis.new_zeros(len(basis))
        slopes, weights, differences = [], [], []
        for axis, n in enumerate(self.size):
            if n == 1:
                continue
            before, after = (image.narrow(axis, start, n - 1) for start in (0, 1))
            step = after * before.conj_physical()
            left, right = (basis.narrow(1 + axis, start, n - 1) for start in (0, 1))
            differences.append((right - left).flatten(1))
            slopes.append(step.angle().flatten())
            weights.append(step.abs().flatten())
        ridge = torch.ones(len(basis), dtype=torch.float64, device=basis.device)
        numbers = _least_squares(
            torch.cat(differences, 1), torch.cat(slopes), torch.cat(weights), ridge
        )
        for _ in range(_ROUNDS):
            left_over = image * torch.polar(torch.ones_like(image.real), -self.maps(numbers))
            numbers[0] += (left_over * left_over.abs()).sum().angle()
            left_over = image * torch.polar(torch.ones_like(image.real), -self.maps(numbers))
            numbers = numbers + _least_squares(
                basis.flatten(1), left_over.angle().flatten(), image.abs().square().flatten(), ridge
            )
        numbers[0] = math.remainder(float(numbers[0]), 2 * math.pi)
        return numbers

    def __iter__(self) -> Iterator[str]:
        """Names of the numbers."""
        return iter(f"phase {' '.join(map(str, degrees))}" for degrees in self.powers)


def _legendre(x: Tensor, degree: int) -> Tensor:
    before, here = torch.zeros_like(x), torch.ones_like(x)
    for k in range(degree):
        before, here = here, ((2 * k + 1) * x * here - k * before) / (k + 1)
    return here


def _least_squares(design: Tensor, target: Tensor, weights: Tensor, ridge: Tensor) -> Tensor:
    """Coefficients of the rows of `design` ``(count, places)``."""
    weights = weights / weights.mean()
    weighted = design * weights
    matrix = weighted @ design.mT + 1e-9 * ridge.diag() * weights.numel()
    return torch.linalg.solve(matrix, weighted @ target)
