"""Conjugate gradients for a batch of systems, each stopped on its own.

A system that has converged is frozen, so its solution does not depend on its neighbours in the
batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Solution(NamedTuple):
    """``solution``, like the right-hand side; ``residual (batch,)`` is what `tolerance` bounds."""

    solution: Tensor
    iterations: int
    residual: Tensor


def conjugate_gradient(
    apply: Callable[[Tensor], Tensor],
    rhs: Tensor,
    *,
    tolerance: float | Tensor,
    max_iterations: int,
    precondition: Callable[[Tensor], Tensor] = lambda r: r,
) -> Solution:
    """Solve ``M z = rhs`` for symmetric positive semidefinite M.

    Args:
        apply: M, on ``(batch, *shape)``.
        rhs: ``(batch, *shape)``.
        tolerance: number or ``(batch,)``; a system is solved when ``sqrt(r . P r / size)`` is at or
            below it.  Without a preconditioner that is the root mean square of the residual.
        precondition: P, an approximate inverse of M, symmetric positive definite.

    Source: Hestenes and Stiefel 1952, preconditioned form.
    """
    z = torch.zeros_like(rhs)
    r = rhs.clone()
    p = s = precondition(r)
    rho = _dot(r, s)
    goal = tolerance**2 * rhs[0].numel()
    active = rho > goal
    iterations = 0
    while iterations < max_iterations and bool(active.any()):
        mp = apply(p)
        curvature = _dot(p, mp)
        # Without curvature (a singular M, or rounding) there is nothing to gain along p.
        active = active & (curvature > 0)
        step = torch.where(active, rho / curvature, torch.zeros_like(rho))
        z = z + _column(step, p) * p
        r = r - _column(step, p) * mp
        s = precondition(r)
        rho_next = _dot(r, s)
        active = active & (rho_next > goal)
        p = s + _column(torch.where(active, rho_next / rho, torch.zeros_like(rho)), p) * p
        rho = rho_next
        iterations += 1
        del mp, s  # they would take memory while the next product is computed
    return Solution(z, iterations, (rho.clamp(min=0) / rhs[0].numel()).sqrt())


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
