"""Conjugate gradients for a batch of systems, each stopped on its own.

A system that has converged is frozen, so its solution does not depend on its neighbours in the
batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Iterations of an accelerator from one look at the systems to the next, because at every look it
# waits for Python.  Iterations after the last system has converged change nothing.
_BETWEEN_LOOKS = 8


class Solution(NamedTuple):
    """``solution``, like the right-hand side; ``residual (batch,)`` is what `tolerance` bounds.

    `iterations` is how many the slowest system took, and `worst` the largest residual.
    """

    solution: Tensor
    iterations: int
    residual: Tensor
    worst: float


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
    watch, made = _Watch(rhs), 0
    while made < max_iterations and watch.goes_on(made, active, rho):
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
        made += 1
        del mp, s  # they would take memory while the next product is computed
    return watch.end(z, made, active, rho)


class _Watch:
    """Whether any system is still to be solved, asked as seldom as it pays."""

    def __init__(self, rhs: Tensor):
        self._waits, self._size = rhs.device.type != "cpu", rhs[0].numel()
        self._needed = torch.zeros((), dtype=torch.long, device=rhs.device)
        self._last: tuple[float, ...] | None = None

    def goes_on(self, made: int, active: Tensor, rho: Tensor) -> bool:
        if not self._waits:
            return bool(active.any())
        if made and made % _BETWEEN_LOOKS == 0:
            self._last = self._look(active, rho)
            if not self._last[0]:
                return False
        self._needed = self._needed + active.any()
        return True

    def end(self, z: Tensor, made: int, active: Tensor, rho: Tensor) -> Solution:
        residual = self._residual(rho)
        if not self._waits:
            return Solution(z, made, residual, float(residual.max()))
        if self._last is None or self._last[0]:  # the most iterations ended it
            self._last = self._look(active, rho)
        return Solution(z, int(self._last[1]), residual, self._last[2])

    def _look(self, active: Tensor, rho: Tensor) -> tuple[float, ...]:
        """Whether any is active, iterations that were needed, largest residual: read at once."""
        numbers = active.any(), self._needed, self._residual(rho).max()
        return tuple(torch.stack([number.to(rho.dtype) for number in numbers]).tolist())

    def _residual(self, rho: Tensor) -> Tensor:
        return (rho.clamp(min=0) / self._size).sqrt()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
