"""Super-resolution: a separable anti-aliasing filter and every factor-th pixel, as two matrices."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .base import LinearOperator
from .noise import NoiseModel


def _cubic(t: Tensor) -> Tensor:
    """Keys 1981 with a = -1/2, support 2."""
    t = t.abs()
    inner = (1.5 * t - 2.5) * t**2 + 1
    outer = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t < 1, inner, torch.where(t < 2, outer, torch.zeros_like(t)))


def _lanczos(t: Tensor) -> Tensor:
    return torch.where(t.abs() < 3, torch.sinc(t) * torch.sinc(t / 3), torch.zeros_like(t))


def _box(t: Tensor) -> Tensor:
    return (t.abs() < 0.5).to(t)


_KERNELS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "bicubic": (_cubic, 2),
    "block_mean": (_box, 1),
    "lanczos": (_lanczos, 3),
}


class Downsampling(LinearOperator):
    """``y = R x C^T`` with one filter matrix for rows and one for columns.

    Args:
        image_shape: ``(channels, height, width)``, sides divisible by `factor`.
        factor: integer, 2 or more.
        kernel: ``"bicubic"`` (anti-aliased, a = -1/2), ``"lanczos"`` (three lobes) or
            ``"block_mean"``; stretched by the factor, renormalized at the borders.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        factor: int,
        *,
        kernel: str = "bicubic",
        noise: NoiseModel | None = None,
    ):
        if kernel not in _KERNELS:
            raise ValueError(
                f"Downsampling(kernel={kernel!r}): choose one of {', '.join(_KERNELS)}"
            )
        if len(image_shape) != 3 or factor < 2 or any(side % factor for side in image_shape[1:]):
            raise ValueError(
                "Downsampling: needs image_shape (channels, height, width) with sides divisible by "
                f"an integer factor of 2 or more; got {tuple(image_shape)} and {factor}"
            )
        channels, height, width = image_shape
        super().__init__(
            domain_shape=image_shape,
            range_shape=(channels, height // factor, width // factor),
            noise=noise,
        )
        self.rows = _filter_matrix(height, factor, kernel)
        self.columns = _filter_matrix(width, factor, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows.to(x) @ x @ self.columns.to(x).mT

    def adjoint(self, y: Tensor) -> Tensor:
        return self.rows.to(y).mT @ y @ self.columns.to(y)


def _filter_matrix(size: int, factor: int, kernel: str) -> Tensor:
    """``(size / factor, size)``, rows sum to one."""
    function, support = _KERNELS[kernel]
    centre = (torch.arange(size // factor, dtype=torch.float64) + 0.5) * factor - 0.5
    reach = math.ceil(support * factor) + 1
    offset = torch.arange(-reach, reach + 1)
    index = centre.round().long()[:, None] + offset
    weight = function((index - centre[:, None]) / factor)
    weight = weight * ((index >= 0) & (index < size))
    matrix = torch.zeros(size // factor, size, dtype=torch.float64)
    matrix.scatter_add_(1, index.clamp(0, size - 1), weight)
    return matrix / matrix.sum(1, keepdim=True)
