"""The linear-Gaussian kernel: exact draws from ``N(x; m, V) p(y | x)``, and the density of y.

The image is written in an orthonormal basis B, ``x = B^T c``, and the data are whitened: ``z =
S^-1/2 y = R c + white`` with ``R = S^-1/2 A B^T``.  For ``c ~ N(m, V)`` and ``K = I + R V R^T``,

    c | y:          m + V R^T K^-1 (z - R m) is its mean
    log p(y | m) =  -1/2 |z - R m|^2_{K^-1} - 1/2 log det K + const

A draw is perturbed and corrected: with ``c' ~ N(m, V)`` and ``z' = R c' + white`` from the model,
``c' + V R^T K^-1 (z - z')`` has exactly the posterior law (Matheron's rule; Papandreou and Yuille
2010).

There are three ways to solve with K.  It is diagonal where A has a spectrum in the basis B
(`DiagonalMeasurement`).  Few measurements let it be factored (`FactoredMeasurement`).  Elsewhere
conjugate gradients are used (`IterativeMeasurement`); they are also the only way when each walker
has a scale, and with it a K, of its own.
"""

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.determinant import Determinant, is_affordable
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.krylov import Solution, conjugate_gradient
from tweedie_inverse.numerics.residence import resident, resident_on
from tweedie_inverse.numerics.spectral import Basis

# Up to this many measurements a Cholesky factor is cheaper than iterating; the choice may depend
# on the operator only, or a sample would depend on the batch it is drawn in.
DIRECT_LIMIT = 512
# Error of the iterative solve, in posterior standard deviations, root mean square.
TOLERANCE = 1e-3
MAX_ITERATIONS = 2000


class Solved(NamedTuple):
    """What a solve with K led to, and how it went."""

    value: Tensor  # one entry a walker: coefficients (walkers, ...), or numbers (walkers,)
    iterations: int = 0
    error: float = 0.0  # of the worst walker, in posterior standard deviations, root mean square


class Draw(NamedTuple):
    """One draw a walker, ``(walkers, *shape)``, and what it took."""

    x: Tensor
    iterations: int
    error: float  # of the worst walker, in posterior standard deviations, root mean square


class Pull(NamedTuple):
    """``direction`` is s and ``change`` is ``V s``, ``(walkers, *shape)`` both."""

    direction: Tensor
    change: Tensor
    iterations: int
    error: float


def conditional_draw(
    mean: Tensor,
    covariance: Covariance,
    problem: Problem,
    prior_noise: Tensor,
    data_noise: Tensor,
) -> Draw:
    """Draw images from the product of ``N(mean, covariance)`` and the likelihood, exactly.

    Args:
        mean: ``(walkers, *domain_shape)``.
        covariance: V, in the same units squared.
        problem: linear operator, Gaussian noise.
        prior_noise: standard normal, like `mean`.
        data_noise: standard normal, like ``problem.y``.
    """
    if covariance.variance.ndim == 0:  # isotropic: take the basis that suits the operator
        covariance = Covariance(problem.basis, covariance.variance)
    free = mean + covariance.colour(prior_noise)
    residual = problem.gaussian_noise.whiten(problem.y - problem.forward(free)) - data_noise
    change, iterations, error = _explained(covariance, problem, residual)
    return Draw(free + change, iterations, error)


def pull_of_data(mean: Tensor, covariance: Covariance, problem: Problem) -> Pull:
    """How ``N(mean, covariance)`` is corrected by the data, and what pulls it there.

    With ``s = A^T (A V A^T + S)^-1 (y - A m)`` the posterior mean is ``m + V s``.

    Args:
        mean, covariance, problem: as of `conditional_draw`.
    """
    if covariance.variance.ndim == 0:
        covariance = Covariance(problem.basis, covariance.variance)
    noise = problem.gaussian_noise
    residual = noise.whiten(problem.y - problem.forward(mean))
    change, iterations, error = _explained(covariance, problem, residual)
    left = residual - noise.whiten(problem.forward(change))
    direction = problem.adjoint(noise.whiten_transposed(left))
    return Pull(direction, change, iterations, error)


def _explained(
    covariance: Covariance, problem: Problem, residual: Tensor
) -> tuple[Tensor, int, float]:
    """``V A^T (A V A^T + S)^-1`` times a residual, whitened; with iterations and error."""
    measurement = measurement_in(covariance.basis, problem, covariance)
    found = measurement.correct(covariance, measurement.project(residual))
    change = covariance.changed(covariance.basis.inverse(found.value))
    return change, found.iterations, found.error


class Measurement(ABC):
    """A linear measurement with Gaussian noise, whitened, of an image written in `basis`.

    Attributes:
        shape: of the coefficients c of one image.
        noise_shape: of the whitened data z of one measurement, and of their noise.
    """

    noise_shape: tuple[int, ...]
    has_determinant = True  # whether that of K is worked out

    def __init__(self, problem: Problem, basis: Basis):
        self.basis, self._problem = basis, problem
        zeros = problem.y.new_zeros((1, *problem.operator.domain_shape))
        self.shape = tuple(basis.transform(zeros).shape[1:])

    @abstractmethod
    def residual(self, c: Tensor) -> Tensor:
        """``z - R c``, ``(walkers, *noise_shape)``."""

    @abstractmethod
    def correct(self, covariance: Covariance, residual: Tensor) -> Solved:
        """``V R^T K^-1 residual``: how c changes when the residual is explained."""

    def project(self, whitened: Tensor) -> Tensor:
        """``(walkers, *noise_shape)`` of whitened data in the shape of y."""
        return whitened

    def draw(
        self, mean: Tensor, covariance: Covariance, white: Tensor, data_white: Tensor
    ) -> Solved:
        """Draw from ``N(mean, covariance)`` given y.

        Args:
            mean: coefficients ``(walkers, *shape)``.
            covariance: V, in `basis`, the same for all walkers.
            white: standard normal, like `mean`.
            data_white: standard normal, ``(walkers, *noise_shape)``.
        """
        free = mean + covariance.variance.sqrt() * white
        correction = self.correct(covariance, self.residual(free) - data_white)
        return correction._replace(value=free + correction.value)

    def posterior_mean(self, mean: Tensor, covariance: Covariance) -> Solved:
        """Mean of ``N(mean, covariance)`` given y, like `mean`."""
        correction = self.correct(covariance, self.residual(mean))
        return correction._replace(value=mean + correction.value)

    def log_marginal(self, mean: Tensor, covariance: Covariance) -> Solved:
        """``log p(y)`` for ``c ~ N(mean, covariance)`` less `log_scale`, ``(walkers,)`` float64."""
        squared = self._squared_norm(covariance, self.residual(mean))
        return squared._replace(value=-0.5 * squared.value.double())

    def log_scale(self, covariance: Covariance) -> float:
        """The part of ``log p(y)`` that no mean changes; NaN unless `has_determinant`."""
        return self._log_noise_density - 0.5 * self._log_determinant(covariance)

    @abstractmethod
    def _squared_norm(self, covariance: Covariance, residual: Tensor) -> Solved:
        """``|residual|^2`` in the metric K^-1, ``(walkers,)``."""

    @abstractmethod
    def _log_determinant(self, covariance: Covariance) -> float:
        """``log det K``; NaN unless `has_determinant`."""

    @property
    def _log_noise_density(self) -> float:
        """Logarithm of the density of the noise at 0, in units of y; observed entries only."""
        operator, std = self._problem.operator, self._problem.gaussian_noise.std
        scale = std.expand(operator.range_shape).log()
        observed = operator.observed
        logs = (
            scale
            if observed is None
            else scale[resident_on(observed, scale.device).expand(scale.shape)]
        )
        return -float(logs.sum()) - 0.5 * logs.numel() * math.log(2 * math.pi)


class DiagonalMeasurement(Measurement):
    """``A = U s B`` and white noise: each coefficient is measured on its own, ``R = s / std``."""

    def __init__(self, problem: Problem, basis: Basis):
        super().__init__(problem, basis)
        self.noise_shape = self.shape
        self._std, self._spectrum = problem.gaussian_noise.std.reshape(()), problem.spectrum
        self._r = problem.response

    def project(self, whitened: Tensor) -> Tensor:
        return self._spectrum.to_modes(whitened)

    def residual(self, c: Tensor) -> Tensor:
        return self._z - self._r * c

    @cached_property
    def _z(self) -> Tensor:
        return self._spectrum.to_modes(self._problem.y) / resident(self._std, self._problem.y)

    def correct(self, covariance: Covariance, residual: Tensor) -> Solved:
        v = resident(covariance.variance, residual)
        return Solved(v * self._r / (1 + v * self._r**2) * residual)

    def _squared_norm(self, covariance: Covariance, residual: Tensor) -> Solved:
        squares = residual.square() / (1 + resident(covariance.variance, residual) * self._r**2)
        return Solved(squares.flatten(1).sum(1, dtype=torch.float64) + self._unexplained)

    @cached_property
    def _unexplained(self) -> Tensor:
        """The squared norm of the part of z that no image changes, ``(walkers,)``."""
        y = self._problem.y.double()
        beyond = y - self._spectrum.from_modes(self._spectrum.to_modes(y))
        return (beyond / resident(self._std, beyond)).square().flatten(1).sum(1)

    def _log_determinant(self, covariance: Covariance) -> float:
        information = resident(covariance.variance, self._r) * self._r**2
        return float(torch.log1p(information).double().expand(self.shape).sum())


class FactoredMeasurement(Measurement):
    """Few measurements: R is a matrix, and K is assembled and factored in float64."""

    def __init__(self, problem: Problem, basis: Basis):
        super().__init__(problem, basis)
        self.noise_shape = tuple(problem.y.shape[1:])
        self._matrix = problem.whitened_matrix(basis)  # (measurements, coefficients)

    def residual(self, c: Tensor) -> Tensor:
        return (self._z - c.flatten(1) @ self._matrix.mT).reshape(-1, *self.noise_shape)

    @cached_property
    def _z(self) -> Tensor:
        return self._problem.gaussian_noise.whiten(self._problem.y).flatten(1)

    def correct(self, covariance: Covariance, residual: Tensor) -> Solved:
        w = torch.cholesky_solve(residual.flatten(1).double().mT, self._factor(covariance)).mT
        pulled = (w.to(residual) @ self._matrix).reshape(-1, *self.shape)
        return Solved(resident(covariance.variance, residual) * pulled)

    def _squared_norm(self, covariance: Covariance, residual: Tensor) -> Solved:
        flat = residual.flatten(1).double().mT
        w = torch.linalg.solve_triangular(self._factor(covariance), flat, upper=False)
        return Solved(w.square().sum(0))

    def _log_determinant(self, covariance: Covariance) -> float:
        return float(2 * self._factor(covariance).diagonal().log().sum())

    def _factor(self, covariance: Covariance) -> Tensor:
        """The Cholesky factor of K."""
        deviations = resident(covariance.variance, self._matrix).expand(self.shape).flatten().sqrt()
        scaled = (self._matrix * deviations).double()
        units = torch.eye(len(scaled), dtype=scaled.dtype, device=scaled.device)
        return torch.linalg.cholesky(units + scaled @ scaled.mT)


class IterativeMeasurement(Measurement):
    """Many measurements and no spectrum: conjugate gradients in the coefficients of V.

    The correction is ``F q`` with ``(T^-2 + W^T W) q = W^T residual``, ``V = F T^2 F^T`` and ``W =
    R F``.  In coordinates that leave the scale T out, what differs from place to place stands alone
    in one term and what differs between frequencies in the other, so that ``1 / (mean T^-2 + v g)``
    preconditions well; v is the variance and g the diagonal of ``R^T R``.  The residual of the
    iteration is then measured in posterior standard deviations: no direction is solved further
    than it matters.

    The determinant takes a dense factor, and stays unknown where that would take too long; it is
    the same for all walkers, so that weights need none.
    """

    def __init__(self, problem: Problem, basis: Basis):
        super().__init__(problem, basis)
        self.noise_shape = tuple(problem.y.shape[1:])

    def residual(self, c: Tensor) -> Tensor:
        return self._z - self._push(c)

    @cached_property
    def _z(self) -> Tensor:
        return self._problem.gaussian_noise.whiten(self._problem.y)

    def correct(self, covariance: Covariance, residual: Tensor) -> Solved:
        found = self._solve(covariance, residual)
        change = found.solution * covariance.deviation(residual)
        return Solved(change, found.iterations, found.worst)

    def _solve(self, covariance: Covariance, residual: Tensor) -> Solution:
        """q."""
        problem, noise = self._problem, self._problem.gaussian_noise

        def pull(z: Tensor) -> Tensor:
            return covariance.filter_transposed(problem.adjoint(noise.whiten_transposed(z)))

        def push(q: Tensor) -> Tensor:
            return noise.whiten(problem.forward(covariance.filter(q)))

        v = resident(covariance.variance, residual)
        diagonal = resident(covariance.mean_precision(), v) + v * problem.curvature(self.basis)
        return conjugate_gradient(
            lambda q: covariance.precision(q) + pull(push(q)),
            pull(residual),
            tolerance=TOLERANCE,
            max_iterations=MAX_ITERATIONS,
            precondition=lambda r: r / diagonal,
        )

    def _squared_norm(self, covariance: Covariance, residual: Tensor) -> Solved:
        # It is the minimum over q of |residual - W q|^2 + |q / T|^2, so that an error of q enters
        # it in second order only.
        found = self._solve(covariance, residual)
        q = found.solution
        rest = residual - self._push(covariance.deviation(q) * q)
        squares = rest.square(), q * covariance.precision(q)
        misfit, cost = (part.flatten(1).sum(1, dtype=torch.float64) for part in squares)
        return Solved(misfit + cost, found.iterations, found.worst)

    @property
    def has_determinant(self) -> bool:  # type: ignore[override]
        return is_affordable(math.prod(self.noise_shape), math.prod(self.shape))

    @cached_property
    def _determinant(self) -> Determinant:
        return Determinant(self._problem.whitened_matrix(self.basis))

    def _log_determinant(self, covariance: Covariance) -> float:
        if not self.has_determinant:
            return math.nan
        return self._determinant.log(covariance.variance.expand(self.shape).flatten())

    def _push(self, c: Tensor) -> Tensor:
        """``R c``."""
        return self._problem.gaussian_noise.whiten(self._problem.forward(self.basis.inverse(c)))

    def _pull(self, z: Tensor) -> Tensor:
        """``R^T z``."""
        noise = self._problem.gaussian_noise
        return self.basis.transform(self._problem.adjoint(noise.whiten_transposed(z)))


def measurement_in(
    basis: Basis, problem: Problem, covariance: Covariance | None = None
) -> Measurement:
    """The measurement of `problem` in `basis`, with the cheapest solver that is exact.

    Args:
        covariance: what it is solved with; by default a V that is diagonal in `basis` and the same
            for all walkers.
    """
    diagonal = covariance is None or (covariance.scale is None and not covariance.secants)
    shared = covariance is None or covariance.is_diagonal_for(problem.operator.domain_shape)
    if diagonal and problem.is_diagonal(basis):
        return DiagonalMeasurement(problem, basis)
    if shared and problem.y[0].numel() <= DIRECT_LIMIT:
        return FactoredMeasurement(problem, basis)
    return IterativeMeasurement(problem, basis)
