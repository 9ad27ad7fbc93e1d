"""Is it linear, is its adjoint the adjoint, how large is it: public, so users test their own.

All in float64 by default, on random inputs from a fixed seed.
"""

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import normal
from tweedie_inverse.operators.base import LinearOperator, Operator


def _draw(shape: tuple[int, ...], dtype: torch.dtype, key: tuple[int, ...]) -> Tensor:
    return normal(key, (1, *shape)).to(dtype)


@torch.no_grad()
def adjoint_error(
    operator: LinearOperator, *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> float:
    """``|<A x, y> - <x, A^T y>| / |<A x, y>|``, relative; rounding for a true adjoint.

    y is ``A x`` plus as much noise: a purely random y would be nearly orthogonal to ``A x`` and
    hide a wrong scale behind cancellation.
    """
    x = _draw(operator.domain_shape, dtype, (seed, 0))
    ax = operator.forward(x)
    y = _draw(operator.range_shape, dtype, (seed, 1))
    y = ax + y * (ax.norm() / y.norm())
    left, right = (ax * y).sum(), (x * operator.adjoint(y)).sum()
    if left == 0:
        return float(right.abs())
    return float((left - right).abs() / left.abs())


@torch.no_grad()
def linearity_error(
    operator: Operator, *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> float:
    """``|A(a x + b z) - a A x - b A z| / |A(a x + b z)|``; catches offsets and clipping."""
    x, z = (_draw(operator.domain_shape, dtype, (seed, i)) for i in (2, 3))
    a, b = 0.7, -1.9
    together = operator.forward(a * x + b * z)
    difference = together - a * operator.forward(x) - b * operator.forward(z)
    scale = together.norm()
    return float(difference.norm() / scale) if scale > 0 else float(difference.norm())


@torch.no_grad()
def operator_norm(
    operator: LinearOperator,
    *,
    iterations: int = 100,
    tolerance: float = 1e-4,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> float:
    """Largest singular value, by power iteration on ``A^T A`` until it changes by < `tolerance`."""
    x = _draw(operator.domain_shape, dtype, (seed, 4)).to(device)
    x, norm = x / x.norm(), 0.0
    for _ in range(iterations):
        x = operator.adjoint(operator.forward(x))
        previous, norm = norm, float(x.norm()) ** 0.5
        if norm == 0 or abs(norm - previous) < tolerance * norm / 2:
            break
        x = x / x.norm()
    return norm


def dense_matrix(operator: LinearOperator, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """The matrix ``(range size, domain size)`` of a small linear operator, column by column."""
    size = torch.Size(operator.domain_shape).numel()
    columns = operator.forward(torch.eye(size, dtype=dtype).reshape(size, *operator.domain_shape))
    return columns.reshape(size, -1).mT
