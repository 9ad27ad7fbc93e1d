"""``tr log M`` of a symmetric positive definite M by stochastic Lanczos quadrature.

For a vector z of random signs ``z^T log(M) z`` is ``tr log M`` on average (Hutchinson 1990), and k
steps of Lanczos from z make a Gauss rule for it: with the tridiagonal T of the iteration it is
``|z|^2 e_1^T log(T) e_1`` (Ubaru, Chen and Saad 2017).  The scatter of the probes tells the error.

Nothing is orthogonalized again: what that costs the vectors, it does not cost the rule.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import normal

# Fewer where images are so large that their probes have more than so many numbers.
_PROBES, _NUMBERS = 32, 2**26
# Steps between the first looks at the rule, and the most steps.
_LOOK, _MOST_STEPS = 5, 200
# A rule is good enough if further steps will change it by this share of the scatter of the probes,
# or by so many nats.
_SHARE, _NATS = 0.1, 1e-3
# Bounds of the factor by which changes are taken to shrink from look to look.
_FASTEST, _SLOWEST = 0.4, 0.95
# Relative size of a residual below which an invariant subspace was found.
_BREAKDOWN = 1e-6

_SEED: ContextVar[int] = ContextVar("seed of the probes", default=0)


class LogTrace(NamedTuple):
    """An estimate of ``tr log M``.

    Attributes:
        value: ``()`` float64.
        error: standard error: the scatter of the probes, and what further steps would change.
        steps: of Lanczos.
    """

    value: Tensor
    error: float
    steps: int


@contextmanager
def other_probes(seed: int) -> Iterator[None]:
    """Within it, probes are those of another seed: what differs between seeds is their error."""
    token = _SEED.set(seed)
    try:
        yield
    finally:
        _SEED.reset(token)


def signs(like: Tensor) -> Tensor:
    """Probes ``(count, *like.shape)`` of -1 and 1: the same in every call with one seed."""
    seed, count = _SEED.get(), max(2, min(_PROBES, _NUMBERS // like.numel()))
    key = ("signs of a trace", seed) if seed else ("signs of a trace",)
    return normal(key, (count, *like.shape)).sign().to(like)


def log_trace(apply: Callable[[Tensor], Tensor], probes: Tensor) -> LogTrace:
    """Estimate ``tr log M``.

    Args:
        apply: M, on ``(probes, *shape)``; one call for each step.
        probes: ``(probes, *shape)`` of -1 and 1, two or more.
    """
    size = probes[0].numel()
    values: list[float] = []
    look = _LOOK
    for steps, (diagonal, beside) in enumerate(_tridiagonal(apply, probes), 1):
        if steps < min(look, _MOST_STEPS):
            continue
        look = steps + max(_LOOK, steps // 4)
        found = size * _first_entry_of_log(diagonal, beside)
        values.append(float(found.mean()))
        scatter = float(found.std()) / math.sqrt(len(found))
        left = _still_to_come(values)
        if steps == _MOST_STEPS or left <= max(_SHARE * scatter, _NATS):
            return LogTrace(found.mean(), math.hypot(scatter, left), steps)
    raise AssertionError("the last step returns")


def _still_to_come(values: list[float]) -> float:
    """How much further steps will change the rule, from its last values: they fall off as powers.

    Looks that lie further and further apart make it too much rather than too little.
    """
    changes = [abs(after - before) for before, after in pairwise(values)]
    if len(changes) < 2:
        return math.inf
    rates = [after / before if before else 0.0 for before, after in pairwise(changes[-3:])]
    rate = min(_SLOWEST, max(_FASTEST, *rates))
    return changes[-1] * rate / (1 - rate)


def _tridiagonal(
    apply: Callable[[Tensor], Tensor], probes: Tensor
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """After each step, the diagonal of T and the entries beside it, ``(probes,)`` each."""
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    v = probes / math.sqrt(probes[0].numel())
    before, beta = torch.zeros_like(v), v.new_zeros(len(v))
    alive = torch.ones_like(beta, dtype=torch.bool)
    while True:
        w = apply(v) - _column(beta, v) * before
        alpha = _dot(w, v)
        w = w - _column(alpha, v) * v
        # Decoupled from the first entry, whatever follows counts nothing: 1 has a logarithm.
        diagonal.append(torch.where(alive, alpha, torch.ones_like(alpha)))
        yield diagonal, beside
        beta = _dot(w, w).sqrt()
        alive = alive & (beta > _BREAKDOWN * alpha)
        beta = torch.where(alive, beta, torch.zeros_like(beta))
        beside.append(beta)
        divisor = torch.where(alive, beta, torch.ones_like(beta))
        before, v = v, w / _column(divisor, w) * _column(alive.to(w), w)


def _first_entry_of_log(diagonal: list[Tensor], beside: list[Tensor]) -> Tensor:
    """``e_1^T log(T) e_1`` of each probe, ``(probes,)`` float64 on the CPU."""
    main = torch.stack(diagonal, 1).cpu().double()
    matrix = torch.diag_embed(main)
    if beside[: len(diagonal) - 1]:
        off = torch.stack(beside[: len(diagonal) - 1], 1).cpu().double()
        matrix = matrix + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    nodes, vectors = torch.linalg.eigh(matrix)
    # Rounding may push a node of a nearly singular M to 0.
    nodes = nodes.clamp(min=1e-30)
    return (vectors[:, 0].square() * nodes.log()).sum(1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
