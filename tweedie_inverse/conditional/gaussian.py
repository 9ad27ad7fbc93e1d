"""The linear-Gaussian kernel: exact draws from ``N(x; m, V) p(y | x)``, ``y = A x + noise``.

Perturb and correct: with ``x' ~ N(m, V)`` and ``y' = A x' + noise`` drawn from the model,

    x = x' + V A^T (A V A^T + S)^-1 (y - y')

has exactly the posterior law (Matheron's rule; Papandreou and Yuille 2010).  Where A has a spectrum
in the basis of V, the matrix in brackets is diagonal.  Else, with few measurements and one V for
all walkers, it is assembled and factored; with many, the same correction comes from conjugate
gradients in the coefficients of V, where a good preconditioner is diagonal.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.conditional.problem import Problem
from tweedie_inverse.numerics.covariance import Covariance
from tweedie_inverse.numerics.krylov import conjugate_gradient

# Up to this many measurements a Cholesky factor is cheaper than iterating; the choice may depend
# on the operator only, or a sample would depend on the batch it is drawn in.
DIRECT_LIMIT = 512
# Error of the iterative solve, in posterior standard deviations, root mean square.
TOLERANCE = 1e-3
MAX_ITERATIONS = 2000


class Draw(NamedTuple):
    """One draw a walker, ``(walkers, *shape)``, and what it took."""

    x: Tensor
    iterations: int
    error: float  # of the worst walker, in posterior standard deviations, root mean square


def conditional_draw(
    mean: Tensor,
    covariance: Covariance,
    problem: Problem,
    prior_noise: Tensor,
    data_noise: Tensor,
) -> Draw:
    """Draw from the product of ``N(mean, covariance)`` and the likelihood, exactly.

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
    misfit = problem.gaussian_noise.whiten(problem.y - problem.forward(free)) - data_noise
    if covariance.scale is None:
        if problem.is_diagonal(covariance.basis):
            return Draw(free + _correct_modes(covariance, problem, misfit), 0, 0.0)
        if misfit[0].numel() <= DIRECT_LIMIT:
            return Draw(free + _correct_directly(covariance, problem, misfit), 0, 0.0)
    correction, iterations, error = _correct_iteratively(covariance, problem, misfit)
    return Draw(free + correction, iterations, error)


def _correct_modes(covariance: Covariance, problem: Problem, misfit: Tensor) -> Tensor:
    """``A = U s W`` and ``V = W^T v W``: each mode on its own, ``v s / (v s^2 + std^2)``."""
    spectrum, noise = problem.spectrum, problem.gaussian_noise
    modes = spectrum.to_modes(noise.colour(misfit))
    v, s = covariance.variance.to(misfit), spectrum.singular.to(misfit)
    gain = v * s / (v * s**2 + noise.std.to(misfit).square().reshape(()))
    return covariance.basis.inverse(gain * modes)


def _correct_directly(covariance: Covariance, problem: Problem, misfit: Tensor) -> Tensor:
    """``V A^T S^-1/2 (I + S^-1/2 A V A^T S^-1/2)^-1 misfit``; factored in float64."""

    noise = problem.gaussian_noise

    def gain(z: Tensor) -> Tensor:
        return covariance.apply(problem.adjoint(noise.whiten_transposed(z)))

    size = misfit[0].numel()
    units = torch.eye(size, dtype=misfit.dtype, device=misfit.device)
    columns = noise.whiten(problem.forward(gain(units.reshape(size, *misfit.shape[1:]))))
    matrix = columns.reshape(size, size).double() + units.double()
    factor = torch.linalg.cholesky((matrix + matrix.mT) / 2)
    z = torch.cholesky_solve(misfit.flatten(1).double().mT, factor).mT
    return gain(z.to(misfit.dtype).reshape(misfit.shape))


def _correct_iteratively(
    covariance: Covariance, problem: Problem, misfit: Tensor
) -> tuple[Tensor, int, float]:
    """The same correction as ``F q`` with ``(T^-2 + W^T W) q = W^T misfit``, ``V = F T^2 F^T``.

    ``W = S^-1/2 A F``.  In coordinates that leave the scale T out, what differs from place to place
    stands alone in one term and what differs between frequencies in the other, so that
    ``1 / (mean T^-2 + v g)`` preconditions well; v is the variance and g the diagonal of ``B A^T
    S^-1 A B^T``, B the basis.  The residual is then measured in posterior standard deviations:
    no direction is solved further than it matters.
    """

    noise = problem.gaussian_noise

    def pull(z: Tensor) -> Tensor:
        return covariance.filter_transposed(problem.adjoint(noise.whiten_transposed(z)))

    def system(q: Tensor) -> Tensor:
        return covariance.precision(q) + pull(noise.whiten(problem.forward(covariance.filter(q))))

    information = covariance.variance.to(misfit) * problem.curvature(covariance.basis)
    diagonal = covariance.mean_precision().to(misfit) + information
    q, iterations, error = conjugate_gradient(
        system,
        pull(misfit),
        tolerance=TOLERANCE,
        max_iterations=MAX_ITERATIONS,
        precondition=lambda r: r / diagonal,
    )
    return covariance.filter(q), iterations, float(error.max())
