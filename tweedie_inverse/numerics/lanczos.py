"""``tr log M`` of a symmetric positive definite M by stochastic Lanczos quadrature.

For a vector z of random signs ``z^T log(M) z`` is ``tr log M`` on average (Hutchinson 1990), and k
steps of Lanczos from z make a Gauss rule for it: with the tridiagonal T of the iteration it is
``|z|^2 e_1^T log(T) e_1`` (Ubaru, Chen and Saad 2017).  The Gauss rule is too large, and the Radau
rule with a node at the lower end of the spectrum too small (Golub and Meurant 1994): their middle
is taken, and half their distance is its error.  The scatter of the probes is the other one.

Nothing is orthogonalized again: what that costs the vectors, it does not cost the rules.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import normal

# Fewer where images are so large that their probes have more than so many numbers.
_PROBES, _NUMBERS = 32, 2**26
# Steps between the first looks at the rules, and the most steps.
_LOOK, _MOST_STEPS = 5, 200
# The rules are good enough if half their distance is this share of the scatter of the probes, or so
# many nats; the middle is much closer.
_SHARE, _NATS = 0.25, 1e-3
# The lower end of the spectrum is put a little below where it is, which rounding may cross.
_BELOW = 0.99
# Relative size of a residual below which an invariant subspace was found.
_BREAKDOWN = 1e-6

_SEED: ContextVar[int] = ContextVar("seed of the probes", default=0)


class LogTrace(NamedTuple):
    """An estimate of ``tr log M``.

    Attributes:
        value: ``()`` float64.
        error: standard error: the scatter of the probes, and half the distance of the two rules.
        steps: of Lanczos.
        unsettled: half the distance of the rules, where the steps ran out before it was small; 0
            elsewhere.  Other probes do not show it.
    """

    value: Tensor
    error: float
    steps: int
    unsettled: float


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


def log_trace(apply: Callable[[Tensor], Tensor], probes: Tensor, least: float) -> LogTrace:
    """Estimate ``tr log M``.

    Args:
        apply: M, on ``(probes, *shape)``; one call for each step.
        probes: ``(probes, *shape)`` of -1 and 1, two or more.  0 leaves an entry out, if M does not
            couple it to the others.
        least: a lower bound of the spectrum of M, positive.
    """
    norm, look = _dot(probes, probes).cpu().double(), _LOOK
    for steps, (diagonal, beside) in enumerate(_tridiagonal(apply, probes), 1):
        if steps < min(look, _MOST_STEPS):
            continue
        look = steps + max(_LOOK, steps // 4)
        gauss, radau = (norm * rule for rule in _rules(diagonal, beside, _BELOW * least))
        found = (gauss + radau) / 2
        scatter = float(found.std()) / math.sqrt(len(found))
        apart = abs(float((gauss - radau).mean())) / 2
        settled = apart <= max(_SHARE * scatter, _NATS)
        if settled or steps == _MOST_STEPS:
            error = math.hypot(scatter, apart)
            return LogTrace(found.mean(), error, steps, 0.0 if settled else apart)
    raise AssertionError("the last step returns")


def _tridiagonal(
    apply: Callable[[Tensor], Tensor], probes: Tensor
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """After each step, the diagonal of T and the entries beside it, ``(probes,)`` each.

    The last entry beside it leads beyond T.
    """
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    v = probes / _column(_dot(probes, probes).sqrt(), probes)
    before, beta = torch.zeros_like(v), v.new_zeros(len(v))
    alive = torch.ones_like(beta, dtype=torch.bool)
    while True:
        w = apply(v) - _column(beta, v) * before
        alpha = _dot(w, v)
        w = w - _column(alpha, v) * v
        # Decoupled from the first entry, whatever follows counts nothing: 1 has a logarithm.
        diagonal.append(torch.where(alive, alpha, torch.ones_like(alpha)))
        beta = _dot(w, w).sqrt()
        alive = alive & (beta > _BREAKDOWN * alpha)
        beta = torch.where(alive, beta, torch.zeros_like(beta))
        beside.append(beta)
        yield diagonal, beside
        divisor = torch.where(alive, beta, torch.ones_like(beta))
        before, v = v, w / _column(divisor, w) * _column(alive.to(w), w)


def _rules(diagonal: list[Tensor], beside: list[Tensor], least: float) -> tuple[Tensor, Tensor]:
    """Gauss and Radau rule of each probe, ``(probes,)`` float64 on the CPU."""
    main, off = (torch.stack(parts, 1).cpu().double() for parts in (diagonal, beside))
    inner = torch.diag_embed(main)
    if main.shape[1] > 1:
        inner = inner + torch.diag_embed(off[:, :-1], 1) + torch.diag_embed(off[:, :-1], -1)
    nodes, vectors = torch.linalg.eigh(inner)
    # Rounding may push a node below the end of the spectrum.
    nodes = nodes.clamp(min=least)
    gauss = (vectors[:, 0].square() * nodes.log()).sum(1)
    # The last entry of T, one larger, that makes `least` one of its eigenvalues.
    shifted = (nodes - least).clamp(min=1e-12 * least)
    corner = least + off[:, -1].square() * (vectors[:, -1].square() / shifted).sum(1)
    outer = torch.nn.functional.pad(inner, (0, 1, 0, 1))
    outer[:, -1, -1] = corner
    outer[:, -1, -2] = outer[:, -2, -1] = off[:, -1]
    nodes, vectors = torch.linalg.eigh(outer)
    radau = (vectors[:, 0].square() * nodes.clamp(min=least).log()).sum(1)
    return gauss, radau


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))
