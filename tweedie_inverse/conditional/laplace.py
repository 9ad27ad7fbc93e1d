"""The Gaussian nearest to ``N(x0; m, V) p(y | x0)``: its mode, and its curvature there.

In the coordinates u of ``x0 = m + L u``, ``V = L L^T``, the target is ``exp(-U(u))`` with ``U =
|u|^2 / 2 - log p(y | m + L u)``.  Gauss-Newton steps lead to a mode; there
``P = I + L^T J^T F J L``, with J the Jacobian of A and F the information of the noise.  P is
never assembled: systems with it are solved by conjugate gradients in the coordinates ``T u``, T the
scale of V, with a diagonal preconditioner as in `linear_gaussian`.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.krylov import Solution, Systems, conjugate_gradient
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.numerics.streams import Streams

# Errors of a solve, in standard deviations of the Gaussian, root mean square.  Only draws have to
# be exact: a Gauss-Newton step and a force may be rough, since neither changes the law of the
# moves.
_TOLERANCE, _MAX_ITERATIONS = 1e-3, 500
_ROUGH, _FEW_ITERATIONS = 1e-2, 60
# Fractions of a Gauss-Newton step that are tried, the best of which is taken; 0 is no step.
_FRACTIONS = (1.0, 0.3, 0.1)


class Target:
    """``U(u)`` and its gradient.

    Args:
        mean: m, ``(walkers, *shape)``.
        covariance: V.
    """

    def __init__(self, mean: Tensor, covariance: Covariance, problem: Problem):
        self.mean, self.covariance, self.problem = mean, covariance, problem

    def place(self, u: Tensor) -> Tensor:
        """x0 at u."""
        return self.mean + self.covariance.factor(u)

    def coordinates(self, x0: Tensor) -> Tensor:
        """u at x0; 0 along directions that V does not allow."""
        return self.covariance.factor_inverse(x0 - self.mean)

    def energy(self, u: Tensor) -> Tensor:
        """U ``(walkers,)`` in float64, because small differences of large values matter."""
        return 0.5 * dot(u, u) - self.problem.log_likelihood(self.place(u)).double()

    def energy_and_gradient(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """U ``(walkers,)``, and its gradient like u."""
        value, gradient = self.problem.value_and_gradient(self.place(u))
        return 0.5 * dot(u, u) - value.double(), u - self.covariance.factor_transposed(gradient)


class Precision(ABC):
    """P, the inverse covariance of a Gaussian in the coordinates u: products, solves and draws.

    Attributes:
        error: of the worst draw so far, in standard deviations.
    """

    error = 0.0

    @abstractmethod
    def apply(self, u: Tensor) -> Tensor:
        """``P u``."""

    @abstractmethod
    def solve(self, rhs: Tensor) -> Tensor:
        """``P^-1 rhs``, roughly."""

    @abstractmethod
    def draw(self, streams: Streams, like: Tensor) -> Tensor:
        """``N(0, P^-1)``, like u."""


class UnitPrecision(Precision):
    """``P = I``: that of ``N(m, V)`` alone, as if there were no measurement."""

    def apply(self, u: Tensor) -> Tensor:
        return u

    def solve(self, rhs: Tensor) -> Tensor:
        return rhs

    def draw(self, streams: Streams, like: Tensor) -> Tensor:
        return streams.normal(like.shape[1:], like=like)


class CurvaturePrecision(Precision):
    """``P = I + L^T J^T F J L``: the curvature of U at one place of every walker."""

    def __init__(self, target: Target, u: Tensor):
        self._covariance, self._noise = target.covariance, target.problem.noise
        self._problem = target.problem
        self._y = target.problem.y
        self._at = target.problem.linearize(target.place(u))
        self._range_shape = target.problem.operator.range_shape
        information = target.problem.information(self._at, target.covariance.basis)
        self._diagonal = (
            resident(target.covariance.mean_precision(), u)
            + resident(target.covariance.variance, u) * information
        )

    def apply(self, u: Tensor) -> Tensor:
        q = self._covariance.scaled(u)
        return u + self._covariance.scaled(self._measured(q))

    def solve(self, rhs: Tensor) -> Tensor:
        return self._solve(rhs, _ROUGH, _FEW_ITERATIONS).solution

    def _solve(self, rhs: Tensor, tolerance: float, iterations: int) -> Solution:
        found = conjugate_gradient(
            Systems(
                lambda q: self._covariance.precision(q) + self._measured(q),
                precondition=lambda r: r / self._diagonal,
            ),
            self._covariance.unscaled(rhs),
            tolerance=tolerance,
            max_iterations=iterations,
            first_look=self._problem.first_look(tolerance),
        )
        self._problem.note_end(tolerance, found.iterations)
        return found._replace(solution=self._covariance.unscaled(found.solution))

    def draw(self, streams: Streams, like: Tensor) -> Tensor:
        # The solution of P with a right-hand side of covariance P.
        white = streams.normal(like.shape[1:], like=like)
        data_white = streams.normal(self._range_shape, like=like)
        root = self._noise.information_root(data_white, self._y, self._at.ax)
        pulled = self._covariance.factor_transposed(self._at.pull(root))
        found = self._solve(white + pulled, _TOLERANCE, _MAX_ITERATIONS)
        self.error = max(self.error, found.worst)
        return found.solution

    def _measured(self, q: Tensor) -> Tensor:
        """``F^T J^T (information) J F q``."""
        measured = self._at.push(self._covariance.filter(q))
        information = self._noise.information(measured, self._y, self._at.ax)
        return self._covariance.filter_transposed(self._at.pull(information))


class Reference(NamedTuple):
    """``N(mode, precision^-1)`` in the coordinates u."""

    mode: Tensor
    precision: Precision


def laplace(target: Target, start: Tensor, *, iterations: int) -> Reference:
    """The Gaussian about the place where Gauss-Newton steps from `start` lead.

    A fraction of a step is taken where it leads lower than the whole step.
    """
    u = start
    for _ in range(iterations):
        energy, gradient = target.energy_and_gradient(u)
        step = CurvaturePrecision(target, u).solve(gradient)
        best = u
        for fraction in _FRACTIONS:
            tried = u - fraction * step
            found = target.energy(tried)
            better = found < energy
            best, energy = choose(better, tried, best), torch.where(better, found, energy)
        u = best
    return Reference(u, CurvaturePrecision(target, u))


def dot(a: Tensor, b: Tensor) -> Tensor:
    """``(walkers,)`` in float64."""
    return (a * b).flatten(1).sum(1, dtype=torch.float64)


def choose(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`yes` for the walkers ``(walkers,)`` where the condition holds, `no` for the others."""
    return torch.where(condition.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)
