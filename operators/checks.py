"""Is it linear, is its adjoint the adjoint, how large is it: public, so users test their own.

All in float64 by default, on random inputs from a fixed seed.  `adjoint_error` and
`linearity_error` draw these inputs; `dot_test` and `deviation_from_linear` are the same tests on
inputs that the caller gives, with functions in place of an operator.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tweedie_inverse.boundary.arguments import count, instance, number
from tweedie_inverse.boundary.arguments import seed as checked_seed
from tweedie_inverse.numerics.random import normal
from tweedie_inverse.operators.base import LinearOperator, Operator, linear_operator
from tweedie_inverse.runtime.devices import usable

# The factors of a sum whose image is compared with the sum of the images.
_FIRST, _SECOND = 0.7, -1.9
# Error of a dot test above which an adjoint of foreign code is not taken for one; single precision
# has 1e-6, and what `solve` allows is as much.
_MOST = 1e-3
# The most entries of a dense matrix: 8 GB in float64.
_ENTRIES = 2**30


class InnerProducts(NamedTuple):
    """``<A x, y>`` and ``<x, A^T y>``, which are equal where ``A^T`` is the adjoint of A."""

    of_measurements: float
    of_images: float

    @property
    def error(self) -> float:
        """Their difference, relative to the first where that is not 0."""
        difference = abs(self.of_measurements - self.of_images)
        return difference / (abs(self.of_measurements) or 1.0)


@torch.no_grad()
def dot_test(
    forward: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    x: Tensor,
    noise: Tensor,
) -> InnerProducts:
    """The two inner products for images x and ``y = A x`` plus as much noise.

    A purely random y would be nearly orthogonal to ``A x`` and hide a wrong scale behind
    cancellation.

    Args:
        forward, adjoint: A and ``A^T``, on batches.
        x: images ``(batch, *domain_shape)``, in the dtype and on the device to be tested.
        noise: random numbers ``(batch, *range_shape)``; its size does not matter.
    """
    ax = forward(x)
    y = ax + noise * (ax.norm() / noise.norm())
    return InnerProducts(_inner(ax, y), _inner(x, adjoint(y)))


@torch.no_grad()
def deviation_from_linear(forward: Callable[[Tensor], Tensor], x: Tensor, z: Tensor) -> float:
    """``|A(a x + b z) - a A x - b A z| / |A(a x + b z)|`` for images x and z, a batch each."""
    together = forward(_FIRST * x + _SECOND * z)
    difference = together - _FIRST * forward(x) - _SECOND * forward(z)
    return float(difference.norm()) / (float(together.norm()) or 1.0)


def adjoint_error(
    operator: LinearOperator,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> float:
    """``|<A x, y> - <x, A^T y>| / |<A x, y>|``, relative; rounding for a true adjoint."""
    linear_operator("adjoint_error", operator)
    seed, device = _checked("adjoint_error", seed, dtype, device)
    x = _draw(operator, operator.domain_shape, (seed, 0)).to(device, dtype)
    noise = _draw(operator, operator.range_shape, (seed, 1)).to(device, dtype)
    return dot_test(operator.forward, operator.adjoint, x, noise).error


def refuse_unmatched(caller: str, operator: LinearOperator, cure: str = "") -> None:
    """Raise a `ValueError` where the adjoint, in single precision, is not the adjoint."""
    error = adjoint_error(operator, dtype=torch.float32)
    if not error <= _MOST:
        raise ValueError(
            f"{caller}: its adjoint is off by {error:.1e}, relative (allowed {_MOST:.0e}){cure}"
        )


def linearity_error(
    operator: Operator,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> float:
    """``|A(a x + b z) - a A x - b A z| / |A(a x + b z)|``; catches offsets and clipping."""
    instance("linearity_error", "operator", operator, Operator, need="an operator")
    seed, device = _checked("linearity_error", seed, dtype, device)
    x, z = (
        _draw(operator, operator.domain_shape, (seed, place)).to(device, dtype) for place in (2, 3)
    )
    return deviation_from_linear(operator.forward, x, z)


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
    linear_operator("operator_norm", operator)
    seed, device = _checked("operator_norm", seed, dtype, device)
    iterations = count("operator_norm", "iterations", iterations)
    tolerance = number("operator_norm", "tolerance", tolerance, low=0)
    x = _draw(operator, operator.domain_shape, (seed, 4)).to(dtype).to(device)
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
    linear_operator("dense_matrix", operator)
    _checked("dense_matrix", 0, dtype, "cpu")
    size = torch.Size(operator.domain_shape).numel()
    entries = size * torch.Size(operator.range_shape).numel()
    if max(entries, size**2) > _ENTRIES:
        raise ValueError(
            f"dense_matrix: {operator!r} has {entries:.2g} entries, more than {_ENTRIES:.2g}; use "
            "forward and adjoint, or a smaller image"
        )
    columns = operator.forward(torch.eye(size, dtype=dtype).reshape(size, *operator.domain_shape))
    return columns.reshape(size, -1).mT


def _checked(
    caller: str, seed: int, dtype: torch.dtype, device: torch.device | str
) -> tuple[int, torch.device | str]:
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{caller}(dtype={dtype}): needs torch.float32 or torch.float64")
    return checked_seed(caller, "seed", seed), usable(device, caller)


def _draw(operator: Operator, shape: tuple[int, ...], key: tuple[int, ...]) -> Tensor:
    """Standard normal numbers for one image, or for as many as the operator is made for."""
    return normal(key, (operator.images or 1, *shape))


def _inner(a: Tensor, b: Tensor) -> float:
    # On the CPU in float64, which not every device has: rounding of the sum is no error of A.
    return float((a.cpu().double() * b.cpu().double()).sum())
