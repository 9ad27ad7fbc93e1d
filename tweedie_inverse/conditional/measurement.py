"""A measurement in a basis, and solves that take no iterations.

Draws, means and densities of `linear_gaussian` for one V that all walkers share: K is diagonal
where A has a spectrum in the basis, and few measurements let it be factored.
"""

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.residence import resident, resident_on
from tweedie_inverse.numerics.spectral import Basis


class Solved(NamedTuple):
    """What a solve with K led to, and how it went."""

    value: Tensor  # one entry a walker: coefficients (walkers, ...), or numbers (walkers,)
    iterations: int = 0
    error: float = 0.0  # of the worst walker, root mean square, in standard deviations


class Measurement(ABC):
    """A linear measurement with Gaussian noise, whitened, of an image written in `basis`.

    Attributes:
        noise_shape: of the whitened data z of one measurement, and of their noise.
    """

    noise_shape: tuple[int, ...]

    def __init__(self, problem: Problem, basis: Basis):
        self.basis, self._problem = basis, problem

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of the coefficients c of one image."""
        zeros = self._problem.y.new_zeros((1, *self._problem.operator.domain_shape))
        return tuple(self.basis.transform(zeros).shape[1:])

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

    def log_scale(self, covariance: Covariance) -> Tensor:
        """The part of ``log p(y)`` that no mean changes, ``()``."""
        return self._log_noise_density - 0.5 * self._log_determinant(covariance)

    @abstractmethod
    def _squared_norm(self, covariance: Covariance, residual: Tensor) -> Solved:
        """``|residual|^2`` in the metric K^-1, ``(walkers,)``."""

    @abstractmethod
    def _log_determinant(self, covariance: Covariance) -> Tensor:
        """``log det K``."""

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
        spectrum = problem.spectrum_in(basis)
        assert spectrum is not None
        self._std, self._spectrum = problem.gaussian_noise.std.reshape(()), spectrum
        self._r = problem.response_of(spectrum)

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

    def _log_determinant(self, covariance: Covariance) -> Tensor:
        information = resident(covariance.variance, self._r) * self._r**2
        return torch.log1p(information).double().expand(self.shape).sum()


class FactoredMeasurement(Measurement):
    """Few measurements: R is a matrix, and K is assembled and factored in float64."""

    def __init__(self, problem: Problem, basis: Basis):
        super().__init__(problem, basis)
        self.noise_shape = tuple(problem.y.shape[1:])
        self._matrix = problem.whitened_matrix(basis)  # (measurements, coefficients)
        self._latest: tuple[Tensor, Tensor] | None = None  # variances, and their factor

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

    def _log_determinant(self, covariance: Covariance) -> Tensor:
        return 2 * self._factor(covariance).diagonal().log().sum()

    def _factor(self, covariance: Covariance) -> Tensor:
        """The Cholesky factor of K; that of the latest variances is kept."""
        if self._latest is not None and self._latest[0] is covariance.variance:
            return self._latest[1]
        deviations = resident(covariance.variance, self._matrix).expand(self.shape).flatten().sqrt()
        scaled = (self._matrix * deviations).double()
        units = torch.eye(len(scaled), dtype=scaled.dtype, device=scaled.device)
        self._latest = covariance.variance, torch.linalg.cholesky(units + scaled @ scaled.mT)
        return self._latest[1]
