"""A linear map and its transpose as one differentiable function: each is the other's derivative."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _LinearMap(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, apply: Callable, transpose: Callable) -> Tensor:
        return apply(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, ctx.apply_map, ctx.transpose_map = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return linear_map(gradients[0], ctx.transpose_map, ctx.apply_map), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return linear_map(tangents[0], ctx.apply_map, ctx.transpose_map)


def linear_map(
    x: Tensor, apply: Callable[[Tensor], Tensor], transpose: Callable[[Tensor], Tensor]
) -> Tensor:
    """``apply(x)``, whose gradient is `transpose`, to any order.

    It is for maps that leave torch, and for maps whose derivative is slower than their adjoint.
    """
    return _LinearMap.apply(x, apply, transpose)
