"""Conjugate gradients for a batch of systems, each stopped on its own.

A system that has converged is frozen, so its solution does not depend on its neighbours in the
batch; where that is possible, only those that have not are computed any further.
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


class Systems(NamedTuple):
    """Systems ``M z = rhs`` for symmetric positive semidefinite M, on tensors ``(batch, *shape)``.

    Attributes:
        apply: M.
        precondition: P, an approximate inverse of M, symmetric positive definite.
        weights: broadcast against `rhs`, see `conjugate_gradient`.
        of: some of these systems, by a tensor of their indices; None where they hang together.
    """

    apply: Callable[[Tensor], Tensor]
    precondition: Callable[[Tensor], Tensor] = lambda r: r
    weights: Tensor | None = None
    of: Callable[[Tensor], "Systems"] | None = None


class _Running(NamedTuple):
    """Systems that are iterated, ``(running, ...)``; fields as in `conjugate_gradient`."""

    place: Tensor  # among all systems
    z: Tensor
    r: Tensor
    p: Tensor
    rho: Tensor
    square: Tensor
    goal: Tensor
    active: Tensor

    def of(self, kept: Tensor) -> "_Running":
        return _Running(*(values[kept] for values in self))


def conjugate_gradient(
    systems: Systems | Callable[[Tensor], Tensor],
    rhs: Tensor,
    *,
    tolerance: float | Tensor,
    max_iterations: int,
    size: Tensor | None = None,
    start: Tensor | None = None,
    reduction: float = 0.0,
    first_look: int = _FIRST_LOOK,
) -> Solution:
    """Solve ``M z = rhs``.

    Args:
        systems: M and what is known about it, or M alone.
        rhs: ``(batch, *shape)``.
        tolerance: number or ``(batch,)``; a system is solved when ``sqrt(r . P r / size)`` is at or
            below it, P being the preconditioner.  Without one that is the root mean square of the
            residual.  With weights it is the length of the steps still to come, in their measure.
        size: ``(batch,)``; by default the numbers of a system.
        start: like `rhs`; the iteration begins at the best multiple of it.
        reduction: a system is also solved when its measure is this share of the first one.
        first_look: iterations that an accelerator makes before Python asks whether it may stop.

    Source: Hestenes and Stiefel 1952, preconditioned form.
    """
    if not isinstance(systems, Systems):
        systems = Systems(systems)
    z, r = _begin(systems.apply, rhs, start)
    s = systems.precondition(r)
    rho = _dot(r, s)
    count = rhs[0].numel() if size is None else size
    goal = (reduction**2 * rho).clamp(min=tolerance**2 * count)
    everyone = torch.arange(len(rhs), device=rhs.device)
    now = _Running(everyone, z, r, s.clone(), rho, rho, goal, (rho > goal) & (rho > 0))
    del s  # r itself, without a preconditioner
    watch, made = _Watch(rhs, count, first_look), 0
    solution, square = z, rho
    while made < max_iterations and watch.goes_on(made, now.active, now.square):
        if systems.of is not None and watch.is_worth_narrowing(now.active):
            solution, square = _put_back(solution, square, now)
            kept = now.active.nonzero().flatten()
            systems, now = systems.of(kept), now.of(kept)
        now = _iterated(systems, now)
        made += 1
    solution, square = _put_back(solution, square, now)
    return watch.end(solution, made, now.active, square)


def _iterated(systems: Systems, now: _Running) -> _Running:
    """After one more step of each system that is active."""
    mp = systems.apply(now.p)
    curvature = _dot(now.p, mp)
    # Without curvature (a singular M, or rounding) there is nothing to gain along p.
    active = now.active & (curvature > 0)
    step = _column(torch.where(active, now.rho / curvature, 0.0), now.p)
    now.z.addcmul_(step, now.p)
    now.r.addcmul_(step, mp, value=-1)
    del mp  # it would take memory while the next product is computed
    s = systems.precondition(now.r)
    rho = _dot(now.r, s)
    square = rho
    if systems.weights is not None:
        square = _ahead(systems.weights, now.p, step, now.rho, rho)
    active = active & (square > now.goal)
    now.p.mul_(_column(torch.where(active, rho / now.rho, 0.0), now.p)).add_(s)
    return now._replace(rho=rho, square=square, active=active)


def _put_back(solution: Tensor, square: Tensor, now: _Running) -> tuple[Tensor, Tensor]:
    """All systems, with those that are iterated as they are now."""
    if len(now.place) == len(solution):
        return now.z, now.square
    solution[now.place], square[now.place] = now.z, now.square
    return solution, square


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

    def is_worth_narrowing(self, active: Tensor) -> bool:
        """Whether at most half of the systems are active; an accelerator is not asked."""
        return not self._waits and 2 * int(active.sum()) <= len(active)

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
