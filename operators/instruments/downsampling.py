"""Super-resolution: a separable anti-aliasing filter and fewer pixels, as two matrices."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tweedie_inverse.boundary.arguments import choice, number, volume_sizes
from tweedie_inverse.numerics.residence import resident
from tweedie_inverse.numerics.spectral import Separable, Spectrum, along_axes
from tweedie_inverse.operators.base import LinearOperator
from tweedie_inverse.operators.noise.base import NoiseModel


def _cubic(t: Tensor) -> Tensor:
    """Keys 1981 with a = -1/2, support 2."""
    t = t.abs()
    inner = (1.5 * t - 2.5) * t**2 + 1
    outer = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t < 1, inner, torch.where(t < 2, outer, torch.zeros_like(t)))


def _lanczos(t: Tensor) -> Tensor:
    return torch.where(t.abs() < 3, torch.sinc(t) * torch.sinc(t / 3), torch.zeros_like(t))


# Each function of the distance, in units of the small pixel, and the distance where it ends.
_KERNELS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "bicubic": (_cubic, 2),
    "lanczos": (_lanczos, 3),
}
_NAMES = (*_KERNELS, "block_mean")
_BOUNDARIES = ("renormalize", "circular")


class Downsampling(LinearOperator):
    """``y = R x C^T`` with one filter matrix for rows and one for columns; volumes have a third.

    Args:
        image_shape: ``(channels, height, width)``, or ``(channels, depth, height, width)``.
        factor: 1 or more, whole or not; the small image has ``floor(side / factor)`` pixels a
            side and covers the same field.  A tuple has one for each axis, such as ``(4, 1, 1)``
            for thick slices.
        kernel: ``"bicubic"`` (anti-aliased, a = -1/2), ``"lanczos"`` (three lobes) or
            ``"block_mean"`` (the mean over the area of the large pixel); stretched by the factor.
        boundary: ``"renormalize"`` drops what lies outside and scales the rest up to one, as
            image libraries do; ``"circular"`` takes it from the other side.
    """

    def __init__(
        self,
        image_shape: tuple[int, ...],
        factor: float | tuple[float, ...],
        *,
        kernel: str = "bicubic",
        boundary: str = "renormalize",
        noise: NoiseModel | None = None,
    ):
        choice("Downsampling", "kernel", kernel, _NAMES)
        choice("Downsampling", "boundary", boundary, _BOUNDARIES)
        channels, *size = volume_sizes("Downsampling", image_shape)
        several = isinstance(factor, tuple | list)
        factors = [
            number("Downsampling", "factor", one)
            for one in (factor if several else [factor] * len(size))  # type: ignore[union-attr]
        ]
        pairs = zip(factors, size, strict=False)
        if len(factors) != len(size) or not all(1 <= f <= n for f, n in pairs):
            raise ValueError(
                "Downsampling: needs image_shape (channels, height, width) and a factor from 1 to "
                "the shorter side, or one for each axis; got "
                f"{(channels, *size)} and {tuple(factors) if several else factors[0]}"
            )
        small = [math.floor(n / f) for f, n in zip(factors, size, strict=True)]
        super().__init__(
            domain_shape=(channels, *size), range_shape=(channels, *small), noise=noise
        )
        self.matrices = tuple(
            _filter_matrix(*pair, kernel, boundary) for pair in zip(size, small, strict=True)
        )

    @cached_property
    def _decomposition(self) -> Spectrum:
        modes, values, bases = zip(*map(torch.linalg.svd, self.matrices), strict=True)
        size, small = self.domain_shape[1:], self.range_shape[1:]
        beyond = [part for n, m in zip(size[::-1], small[::-1], strict=True) for part in (0, n - m)]
        kept: tuple[Any, ...] = (..., *(slice(m) for m in small))

        def to_modes(y: Tensor) -> Tensor:
            return F.pad(along_axes([resident(one, y).mT for one in modes], y), beyond)

        def from_modes(c: Tensor) -> Tensor:
            return along_axes([resident(one, c) for one in modes], c[kept])

        singular = torch.stack(torch.meshgrid(*values, indexing="ij")).prod(0)
        return Spectrum(Separable(bases), F.pad(singular, beyond), to_modes, from_modes)

    @property
    def treats_channels_alike(self) -> bool:
        # A subclass may have another forward.
        return super().treats_channels_alike or type(self) is Downsampling

    @property
    def spectrum(self) -> Spectrum:
        return self._decomposition

    def forward(self, x: Tensor) -> Tensor:
        return along_axes([resident(matrix, x) for matrix in self.matrices], x)

    def adjoint(self, y: Tensor) -> Tensor:
        return along_axes([resident(matrix, y).mT for matrix in self.matrices], y)


def _filter_matrix(size: int, small: int, kernel: str, boundary: str) -> Tensor:
    """``(small, size)``, rows sum to one."""
    factor = size / small
    centre = (torch.arange(small, dtype=torch.float64)[:, None] + 0.5) * factor - 0.5
    function, support = _KERNELS.get(kernel, (None, 1))
    reach = math.ceil(support * factor) + 1
    index = centre.round().long() + torch.arange(-reach, reach + 1)
    if function is None:  # block mean: the share of each pixel that lies inside the large one
        upper = torch.minimum(index + 0.5, centre + factor / 2)
        weight = (upper - torch.maximum(index - 0.5, centre - factor / 2)).clamp(min=0)
    else:
        weight = function((index - centre) / factor)
    if boundary == "circular":
        place = index.remainder(size)
    else:
        place = index.clamp(0, size - 1)
        weight = weight * ((index >= 0) & (index < size))
    matrix = torch.zeros(small, size, dtype=torch.float64)
    matrix.scatter_add_(1, place, weight)
    return matrix / matrix.sum(1, keepdim=True)
