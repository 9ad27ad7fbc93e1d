"""The linear-Gaussian kernel: exact draws from ``N(x; m, V) p(y | x)``, ``y = A x + noise``.

Perturb and correct: with ``x' ~ N(m, V)`` and ``y' = A x' + noise`` drawn from the model,

    x = x' + V A^T (A V A^T + S)^-1 (y - y')

has exactly the posterior law (Matheron's rule; Papandreou and Yuille 2010).  The system is solved
in measurement space, directly when it is small and by conjugate gradients otherwise.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from operators import GaussianNoise
from operators.krylov import conjugate_gradient

from .covariance import Covariance
from .problem import Problem

# Up to this many measurements a Cholesky factor is cheaper than iterating; the choice may depend
# on the operator only, or a sample would depend on the batch it is drawn in.
DIRECT_LIMIT = 512
# Residual of the iterative solve in noise standard deviations: changes a draw by less than a
# thousandth of its spread.
RESIDUAL = 1e-3
MAX_ITERATIONS = 1000


class Draw(NamedTuple):
    """One draw a walker, ``(walkers, *shape)``, and what it took."""

    x: Tensor
    iterations: int
    worst_residual: float  # in noise standard deviations


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
    noise = problem.noise
    assert isinstance(noise, GaussianNoise)
    std = noise.std.to(mean)
    free = mean + covariance.sqrt(prior_noise)
    misfit = (problem.y - problem.forward(free)) / std - data_noise

    # Whitened by the noise: M = I + W W^T with W = S^-1/2 A V^1/2.
    def system(z: Tensor) -> Tensor:
        return z + problem.forward(covariance.apply(problem.adjoint(z / std))) / std

    if misfit[0].numel() <= DIRECT_LIMIT:
        z, iterations, worst = _solve_directly(system, misfit), 0, 0.0
    else:
        z, iterations, residual = conjugate_gradient(
            system, misfit, tolerance=RESIDUAL, max_iterations=MAX_ITERATIONS
        )
        worst = float(residual.max())
    return Draw(free + covariance.apply(problem.adjoint(z / std)), iterations, worst)


def _solve_directly(system, rhs: Tensor) -> Tensor:
    """Solve with the assembled matrix, factored in float64 whatever the dtype of rhs."""
    size = rhs[0].numel()
    units = torch.eye(size, dtype=rhs.dtype, device=rhs.device).reshape(size, *rhs.shape[1:])
    matrix = system(units).reshape(size, size).double()
    factor = torch.linalg.cholesky((matrix + matrix.mT) / 2)
    solution = torch.cholesky_solve(rhs.flatten(1).double().mT, factor).mT
    return solution.to(rhs.dtype).reshape(rhs.shape)
