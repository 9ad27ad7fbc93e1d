"""Conjugate gradients for a batch of systems, each stopped on its own.

A system that has converged is frozen, so its solution does not depend on its neighbours in the
batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Iterations of an accelerator to the first look at the systems, because at every look it waits for
# Python.  Iterations after the last system has converged change nothing.
_FIRST_LOOK = 8
# Bounds of the factor by which a step is taken to be shorter than the one before it.  The first few
# shrink fast, whatever is still to come in directions that converge late.
_FASTEST, _SLOWEST = 0.9, 0.97


class Solution(NamedTuple):
    """``solution``, like the right-hand side; ``residual (batch,)`` is what `tolerance` bounds.

    `needed` and `largest` are numbers, or tensors that Python has not asked for: `iterations` and
    `worst` are for it.
    """

    solution: Tensor
    residual: Tensor
    needed: int | Tensor
    largest: float | Tensor

    @property
    def iterations(self) -> int:
        """How many the slowest system took."""
        return int(self.needed)

    @property
    def worst(self) -> float:
        """The largest residual."""
        return float(self.largest)


def conjugate_gradient(
    apply: Callable[[Tensor], Tensor],
    rhs: Tensor,
    *,
    tolerance: float | Tensor,
    max_iterations: int,
    precondition: Callable[[Tensor], Tensor] = lambda r: r,
    weights: Tensor | None = None,
    size: Tensor | None = None,
    start: Tensor | None = None,
    reduction: float = 0.0,
    first_look: int = _FIRST_LOOK,
) -> Solution:
    """Solve ``M z = rhs`` for symmetric positive semidefinite M.

    Args:
        apply: M, on ``(batch, *shape)``.
        rhs: ``(batch, *shape)``.
        tolerance: number or ``(batch,)``; a system is solved when ``sqrt(r . P r / size)`` is at or
            below it.  Without a preconditioner that is the root mean square of the residual.
        precondition: P, an approximate inverse of M, symmetric positive definite.
        weights: broadcast against `rhs` and stand for P in that measure.
        start: like `rhs`; the iteration begins at the best multiple of it.
        reduction: a system is also solved when its measure is this share of the first one.
        first_look: iterations that an accelerator makes before Python asks whether it may stop.

    Source: Hestenes and Stiefel 1952, preconditioned form.
    """
    z, r = _begin(apply, rhs, start)
    s = precondition(r)
    p, rho = s.clone(), _dot(r, s)
    square = rho
    count = rhs[0].numel() if size is None else size
    goal = (reduction**2 * square).clamp(min=tolerance**2 * count)
    active = (square > goal) & (rho > 0)
    watch, made = _Watch(rhs, count, first_look), 0
    while made < max_iterations and watch.goes_on(made, active, square):
        mp = apply(p)
        curvature = _dot(p, mp)
        # Without curvature (a singular M, or rounding) there is nothing to gain along p.
        active = active & (curvature > 0)
        step = _column(torch.where(active, rho / curvature, 0.0), p)
        z.addcmul_(step, p)
        r.addcmul_(step, mp, value=-1)
        s = precondition(r)
        before, rho = rho, _dot(r, s)
        square = rho if weights is None else _ahead(weights, p, step, before, rho)
        active = active & (square > goal)
        p.mul_(_column(torch.where(active, rho / before, 0.0), p)).add_(s)
        made += 1
        del mp, s  # they would take memory while the next product is computed
    return watch.end(z, made, active, square)


def _begin(
    apply: Callable[[Tensor], Tensor], rhs: Tensor, start: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The best multiple of `start`, and what it leaves of `rhs`."""
    if start is None:
        return torch.zeros_like(rhs), rhs.clone()
    image = apply(start)
    curvature = _dot(start, image)
    share = _column(torch.where(curvature > 0, _dot(start, rhs) / curvature, 0.0), rhs)
    return share * start, torch.addcmul(rhs, share, image, value=-1)


def _ahead(weights: Tensor, p: Tensor, step: Tensor, before: Tensor, rho: Tensor) -> Tensor:
    """Squared length of all steps that are still to come, if they go on to shrink as this one did.

    Its length is the smaller one of that by `weights`, and of that by M, ``step^2 p . M p``.
    """
    alpha = step.flatten()
    last = torch.minimum(alpha**2 * _dot(p, weights * p), alpha * before)
    rate = (rho / before).clamp(min=0).sqrt().clamp(_FASTEST, _SLOWEST)
    return last * (rate / (1 - rate)) ** 2


class _Watch:
    """Whether any system is still to be solved, asked as seldom as it pays."""

    def __init__(self, rhs: Tensor, size: int | Tensor, first_look: int):
        self._waits, self._size = rhs.device.type != "cpu", size
        self._needed = torch.zeros((), dtype=torch.long, device=rhs.device)
        self._next = first_look
        self._numbers: tuple[float, ...] = ()

    def goes_on(self, made: int, active: Tensor, square: Tensor) -> bool:
        if not self._waits:
            return bool(active.any())
        if made == self._next:
            self._numbers = self._look(active, square)
            if not self._numbers[0]:
                return False
            self._next += max(_FIRST_LOOK, made // 2)
        self._needed = self._needed + active.any()
        return True

    def end(self, z: Tensor, made: int, active: Tensor, square: Tensor) -> Solution:
        residual = self._residual(square)
        if not self._waits:
            return Solution(z, residual, made, float(residual.max()))
        if not self._numbers or self._numbers[0]:  # the most iterations ended it
            return Solution(z, residual, self._needed, residual.max())
        return Solution(z, residual, int(self._numbers[1]), self._numbers[2])

    def _look(self, active: Tensor, square: Tensor) -> tuple[float, ...]:
        """Whether any is active, iterations that were needed, largest residual: read at once."""
        numbers = active.any(), self._needed, self._residual(square).max()
        return tuple(torch.stack([number.to(square.dtype) for number in numbers]).tolist())

    def _residual(self, square: Tensor) -> Tensor:
        return (square.clamp(min=0) / self._size).sqrt()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
