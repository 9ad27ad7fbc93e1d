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
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional import systems
from tweedie_inverse.conditional.determinant import (
    Determinant,
    EstimatedDeterminant,
    is_affordable,
)
from tweedie_inverse.conditional.measurement import (
    DiagonalMeasurement,
    FactoredMeasurement,
    Measurement,
    Solved,
)
from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.krylov import Solution, conjugate_gradient
from tweedie_inverse.numerics.spectral import Basis

# Up to this many measurements a Cholesky factor is cheaper than iterating; the choice may depend
# on the operator only, or a sample would depend on the batch it is drawn in.
DIRECT_LIMIT = 512
# Error of the iterative solve of a draw, root mean square over the coefficients that the noise
# which follows does not hide, in standard deviations of the posterior widened by that noise.  It is
# an estimate, on the safe side by a factor of about two, and errors of many levels add up where few
# directions converge late: behind a mask of 80 % with noise of 1 / 200 the mean of a field is off
# by 0.04 posterior standard deviations with this, by 0.1 with twice as much.
TOLERANCE = 1e-2
# Where no noise follows, and of weights, whose errors add up over all coefficients.
_EXACT = 1e-3
MAX_ITERATIONS = 2000
# A secant may be taken along any direction, so that the pull of the data may be rough: a share of
# what there was at first, and so few iterations that an accelerator need not ask for their end.
_ROUGH, _FEW_ITERATIONS = 0.2, 8


class Draw(NamedTuple):
    """One draw a walker, ``(walkers, *shape)``, and what it took."""

    x: Tensor
    iterations: int
    error: float  # of the worst walker, root mean square, as `TOLERANCE` counts it


class Pull(NamedTuple):
    """``direction`` is s and ``change`` is ``V s``, ``(walkers, *shape)`` both."""

    direction: Tensor
    change: Tensor
    start: Tensor | None  # where an iteration for a draw may begin; None where there is none


def conditional_draw(
    mean: Tensor,
    covariance: Covariance,
    problem: Problem,
    prior_noise: Tensor,
    data_noise: Tensor,
    *,
    noise_after: float = 0.0,
    start: Tensor | None = None,
) -> Draw:
    """Draw images from the product of ``N(mean, covariance)`` and the likelihood, exactly.

    Args:
        mean: ``(walkers, *domain_shape)``.
        covariance: V, in the same units squared.
        problem: linear operator, Gaussian noise.
        prior_noise: standard normal, like `mean`.
        data_noise: standard normal, like ``problem.y``.
        noise_after: standard deviation of the white noise that the caller adds to the draw, which
            hides errors of an iterative solve.
        start: that of a `pull_of_data` with the same V up to secants.
    """
    if covariance.variance.ndim == 0:  # isotropic: take the basis that suits the operator
        covariance = Covariance(problem.basis, covariance.variance)
    free = mean + covariance.colour(prior_noise)
    residual = problem.gaussian_noise.whiten(problem.y - problem.forward(free)) - data_noise
    del prior_noise, data_noise  # they would take memory while the system is solved
    measurement = measurement_in(covariance.basis, problem, covariance)
    if isinstance(measurement, IterativeMeasurement):
        found = measurement.solve(covariance, residual, noise_after=noise_after, start=start)
        return Draw(free + covariance.filter(found.solution), found.iterations, found.worst)
    return Draw(free + _explained(measurement, covariance, residual), 0, 0.0)


def pull_of_data(mean: Tensor, covariance: Covariance, problem: Problem) -> Pull:
    """How ``N(mean, covariance)`` is corrected by the data, and what pulls it there.

    With ``s = A^T (A V A^T + S)^-1 (y - A m)`` the posterior mean is ``m + V s``.  Where a solve
    takes iterations, s is rough; `change` is ``V s`` all the same.

    Args:
        mean, covariance, problem: as of `conditional_draw`.
    """
    if covariance.variance.ndim == 0:
        covariance = Covariance(problem.basis, covariance.variance)
    noise = problem.gaussian_noise
    residual = noise.whiten(problem.y - problem.forward(mean))
    measurement = measurement_in(covariance.basis, problem, covariance)
    if isinstance(measurement, IterativeMeasurement):
        start = measurement.roughly(covariance, residual)
        change = covariance.filter(start)
    else:
        start, change = None, _explained(measurement, covariance, residual)
    left = residual - noise.whiten(problem.forward(change))
    direction = problem.adjoint(noise.whiten_transposed(left))
    return Pull(direction, change if start is None else covariance.apply(direction), start)


def _explained(measurement: "Measurement", covariance: Covariance, residual: Tensor) -> Tensor:
    """``V A^T (A V A^T + S)^-1`` times a residual, whitened, like an image."""
    found = measurement.correct(covariance, measurement.project(residual))
    return covariance.changed(covariance.basis.inverse(found.value))


class IterativeMeasurement(Measurement):
    """Many measurements and no spectrum: conjugate gradients in the coefficients of V.

    The correction is ``F q`` with ``(T^-2 + W^T W) q = W^T residual``, ``V = F T^2 F^T`` and ``W =
    R F``.  In coordinates that leave the scale T out, what differs from place to place stands alone
    in one term and what differs between frequencies in the other, so that ``1 / (mean T^-2 + v g)``
    preconditions well; v is the variance and g the diagonal of ``R^T R``.  The residual of the
    iteration is then measured in posterior standard deviations: no direction is solved further
    than it matters.

    The determinant takes a dense factor, or random probes where that would take too long
    (`conditional.determinant`); it is the same for all walkers, so that weights need none.
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
        found = self.solve(covariance, residual)
        change = found.solution * covariance.deviation(residual)
        return Solved(change, found.iterations, found.worst)

    def solve(
        self,
        covariance: Covariance,
        residual: Tensor,
        *,
        noise_after: float = 0.0,
        start: Tensor | None = None,
    ) -> Solution:
        """q, where white noise of this standard deviation will be added to ``F q``."""
        made = systems.made(self._problem, covariance, residual)
        measure, tolerance = None, _EXACT
        if noise_after:
            measure, tolerance = made.measure(noise_after), TOLERANCE
        found = conjugate_gradient(
            made.systems(None if measure is None else measure.weights),
            made.rhs,
            tolerance=tolerance,
            max_iterations=MAX_ITERATIONS,
            size=None if measure is None else measure.size,
            start=None if start is None else made.of_systems(start),
            first_look=self._problem.first_look(tolerance),
        )
        self._problem.note_end(tolerance, found.iterations)
        return found._replace(solution=made.of_walkers(found.solution))

    def roughly(self, covariance: Covariance, residual: Tensor) -> Tensor:
        """q, of which Python does not ask how good it is."""
        made = systems.made(self._problem, covariance, residual)
        found = conjugate_gradient(
            made.systems(None),
            made.rhs,
            tolerance=TOLERANCE,
            reduction=_ROUGH,
            max_iterations=_FEW_ITERATIONS,
            first_look=_FEW_ITERATIONS,
        )
        return made.of_walkers(found.solution)

    def _squared_norm(self, covariance: Covariance, residual: Tensor) -> Solved:
        # It is the minimum over q of |residual - W q|^2 + |q / T|^2, so that an error of q enters
        # it in second order only.
        found = self.solve(covariance, residual)
        q = found.solution
        rest = residual - self._push(covariance.deviation(q) * q)
        squares = rest.square(), q * covariance.precision(q)
        misfit, cost = (part.flatten(1).sum(1, dtype=torch.float64) for part in squares)
        return Solved(misfit + cost, found.iterations, found.worst)

    @cached_property
    def _determinant(self) -> Determinant | EstimatedDeterminant:
        if is_affordable(math.prod(self.noise_shape), math.prod(self.shape)):
            return Determinant(self._problem.whitened_matrix(self.basis))
        curvature = self._problem.curvature(self.basis).expand(self.shape)
        seen = torch.ones(self.noise_shape, dtype=torch.bool)
        if self._problem.operator.observed is not None:
            seen = self._problem.operator.observed.expand(self.noise_shape)
        return EstimatedDeterminant(self._push, self._pull, curvature, seen)

    def _log_determinant(self, covariance: Covariance) -> Tensor:
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
