"""The linear-Gaussian measurement in the coordinates of a covariance: draws, and marginal laws.

With the image written as ``x0 = B^T c`` and the data whitened, ``z = S^-1/2 y = R c + white``,
every covariance diagonal in B is an array v like c.  For ``c ~ N(m, v)``,

    c | y:          m + v R^T K^-1 (z - R m) is its mean,   K = I + R v R^T
    log p(y | m, v) = -1/2 |z - R m|^2_{K^-1} - 1/2 log det K + const

K is diagonal where A has its spectrum in B, is factored where measurements are few, and is inverted
by conjugate gradients elsewhere.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.gaussian import DIRECT_LIMIT, MAX_ITERATIONS, TOLERANCE
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.krylov import Solution, conjugate_gradient
from tweedie_inverse.numerics.spectral import Basis


class Conditional(NamedTuple):
    """``N(m, v)`` given the measurement; both like the coefficients ``(walkers, ...)``."""

    mean: Tensor
    draw: Tensor


class Modes(ABC):
    """A linear measurement with Gaussian noise, seen in a basis.

    Attributes:
        error: of the worst solve so far, in posterior standard deviations, root mean square.
    """

    noise_shape: tuple[int, ...]  # of the white numbers that stand for the noise of one walker
    error = 0.0

    def __init__(self, problem: Problem, basis: Basis):
        self.basis, self._problem = basis, problem
        zeros = problem.y.new_zeros((1, *problem.operator.domain_shape))
        self.shape = tuple(basis.transform(zeros).shape[1:])

    @abstractmethod
    def _misfit(self, c: Tensor) -> Tensor:
        """``z - R c``."""

    @abstractmethod
    def _correct(self, v: Tensor, misfit: Tensor) -> Tensor:
        """``v R^T K^-1 misfit``."""

    @abstractmethod
    def _quadratic(self, v: Tensor, misfit: Tensor) -> Tensor:
        """``|misfit|^2`` in the metric K^-1, ``(walkers,)``."""

    @abstractmethod
    def _log_determinant(self, v: Tensor) -> float:
        """``log det K``, NaN where it is not known."""

    def condition(self, mean: Tensor, v: Tensor, white: Tensor, data_white: Tensor) -> Conditional:
        """Mean of ``N(mean, v)`` given y, and a draw (Matheron's rule).

        Args:
            mean: ``(walkers, ...)`` coefficients.
            v: variances; broadcasts to one walker's coefficients.
            white: standard normal, like `mean`.
            data_white: standard normal, ``(walkers, *noise_shape)``.
        """
        free = mean + v.sqrt() * white
        draw = free + self._correct(v, self._misfit(free) - data_white)
        return Conditional(mean + self._correct(v, self._misfit(mean)), draw)

    def draw(self, mean: Tensor, v: Tensor, white: Tensor, data_white: Tensor) -> Tensor:
        """`condition` without its mean."""
        free = mean + v.sqrt() * white
        return free + self._correct(v, self._misfit(free) - data_white)

    def log_marginal(self, mean: Tensor, v: Tensor) -> Tensor:
        """``log p(y)`` for ``c ~ N(mean, v)`` less `log_scale`, ``(walkers,)`` float64."""
        return -0.5 * self._quadratic(v, self._misfit(mean)).double()

    def log_scale(self, v: Tensor) -> float:
        """The part of ``log p(y)`` that no mean changes; NaN where K has no known determinant."""
        return self._constant - 0.5 * self._log_determinant(v)

    @property
    def _constant(self) -> float:
        """Logarithm of the density of the noise at 0, in units of y; observed entries only."""
        operator, std = self._problem.operator, self._problem.gaussian_noise.std
        scale = std.expand(operator.range_shape).log()
        seen = operator.observed
        logs = scale if seen is None else scale[seen.to(scale.device).expand(scale.shape)]
        return -float(logs.sum()) - 0.5 * logs.numel() * math.log(2 * math.pi)


class DiagonalModes(Modes):
    """A has its spectrum in the basis and the noise is white: mode by mode."""

    def __init__(self, problem: Problem, basis: Basis):
        super().__init__(problem, basis)
        std, spectrum, y = problem.gaussian_noise.std.reshape(()), problem.spectrum, problem.y
        self.noise_shape = self.shape
        self._r = (spectrum.singular / std).to(y)
        self._z = spectrum.to_modes(y) / std.to(y)
        # What no image explains: the same for all images, and lost in rounding beside the rest.
        exact = y.double()
        unexplained = exact - spectrum.from_modes(spectrum.to_modes(exact))
        self._beyond = (unexplained / std).square().flatten(1).sum(1)

    def _misfit(self, c: Tensor) -> Tensor:
        return self._z - self._r * c

    def _correct(self, v: Tensor, misfit: Tensor) -> Tensor:
        return v * self._r / (1 + v * self._r**2) * misfit

    def _quadratic(self, v: Tensor, misfit: Tensor) -> Tensor:
        squares = misfit.square() / (1 + v * self._r**2)
        return squares.flatten(1).sum(1, dtype=torch.float64) + self._beyond

    def _log_determinant(self, v: Tensor) -> float:
        return float(torch.log1p(v * self._r**2).double().expand(self.shape).sum())


class DirectModes(Modes):
    """Few measurements: R as a matrix, K factored in float64."""

    def __init__(self, problem: Problem, basis: Basis):
        super().__init__(problem, basis)
        noise, y = problem.gaussian_noise, problem.y
        self.noise_shape = tuple(y.shape[1:])
        size = y[0].numel()
        units = torch.eye(size, dtype=torch.float64, device=y.device)
        pulled = problem.adjoint(
            noise.whiten_transposed(units.to(y).reshape(size, *self.noise_shape))
        )
        self._matrix = basis.transform(pulled).flatten(1)  # (measurements, coefficients)
        self._units = units
        self._z = noise.whiten(y).flatten(1)

    def _misfit(self, c: Tensor) -> Tensor:
        return (self._z - c.flatten(1) @ self._matrix.mT).reshape(-1, *self.noise_shape)

    def _factor(self, v: Tensor) -> Tensor:
        scaled = (self._matrix * v.expand(self.shape).flatten().sqrt()).double()
        return torch.linalg.cholesky(self._units + scaled @ scaled.mT)

    def _correct(self, v: Tensor, misfit: Tensor) -> Tensor:
        w = torch.cholesky_solve(misfit.flatten(1).double().mT, self._factor(v)).mT
        return v * (w.to(misfit) @ self._matrix).reshape(-1, *self.shape)

    def _quadratic(self, v: Tensor, misfit: Tensor) -> Tensor:
        flat = misfit.flatten(1).double().mT
        w = torch.linalg.solve_triangular(self._factor(v), flat, upper=False)
        return w.square().sum(0)

    def _log_determinant(self, v: Tensor) -> float:
        return float(2 * self._factor(v).diagonal().log().sum())


class IterativeModes(Modes):
    """Many measurements and no spectrum: conjugate gradients for ``I + v^1/2 R^T R v^1/2``.

    The determinant stays unknown; it is the same for all walkers, so that weights need none.
    """

    def __init__(self, problem: Problem, basis: Basis):
        super().__init__(problem, basis)
        self.noise_shape = tuple(problem.y.shape[1:])
        self._z = problem.gaussian_noise.whiten(problem.y)

    def _push(self, c: Tensor) -> Tensor:
        return self._problem.gaussian_noise.whiten(self._problem.forward(self.basis.inverse(c)))

    def _pull(self, z: Tensor) -> Tensor:
        noise = self._problem.gaussian_noise
        return self.basis.transform(self._problem.adjoint(noise.whiten_transposed(z)))

    def _misfit(self, c: Tensor) -> Tensor:
        return self._z - self._push(c)

    def _solve(self, v: Tensor, misfit: Tensor) -> Solution:
        root = v.sqrt()
        diagonal = 1 + v * self._problem.curvature(self.basis)
        found = conjugate_gradient(
            lambda u: u + root * self._pull(self._push(root * u)),
            root * self._pull(misfit),
            tolerance=TOLERANCE,
            max_iterations=MAX_ITERATIONS,
            precondition=lambda r: r / diagonal,
        )
        self.error = max(self.error, float(found.residual.max()))
        return found

    def _correct(self, v: Tensor, misfit: Tensor) -> Tensor:
        return v.sqrt() * self._solve(v, misfit).solution

    def _quadratic(self, v: Tensor, misfit: Tensor) -> Tensor:
        # The minimum over u of |misfit - R v^1/2 u|^2 + |u|^2: second order in the error of u.
        u = self._solve(v, misfit).solution
        rest = misfit - self._push(v.sqrt() * u)
        return sum(a.flatten(1).square().sum(1, dtype=torch.float64) for a in (rest, u))  # type: ignore[return-value]

    def _log_determinant(self, v: Tensor) -> float:
        return math.nan


def modes_of(problem: Problem, basis: Basis) -> Modes:
    """The cheapest exact way to see the measurement of `problem` in `basis`."""
    if problem.is_diagonal(basis):
        return DiagonalModes(problem, basis)
    if problem.y[0].numel() <= DIRECT_LIMIT:
        return DirectModes(problem, basis)
    return IterativeModes(problem, basis)
