"""What is known beforehand of a kernel: it is not negative, sums to 1, is smooth and centred.

The kernel is ``softmax(b + L n)`` of numbers n that are standard normal beforehand: the logarithm
of a kernel is a smooth Gaussian random field about that of a wide Gaussian.  An image that is moved
to one side and a kernel to the other make the same measurement, so that a kernel has its centre of
mass near its middle.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tweedie_inverse.numerics.random import normal

# Kernels from which the spread of an entry beforehand is told.
_DRAWS = 512


@dataclass(frozen=True)
class KernelPrior:
    """Of kernels ``(size, size)``; fields as of `BlindBlur`."""

    size: int
    contrast: float
    smoothness: float
    centring: float

    def kernels(self, numbers: Tensor) -> Tensor:
        """Kernels ``(..., size, size)`` of numbers ``(..., size^2)``, differentiable."""
        logs = numbers @ self.root.to(numbers).mT + self.trend.to(numbers)
        return torch.softmax(logs, -1).unflatten(-1, (self.size, self.size))

    @cached_property
    def offsets(self) -> Tensor:
        """Row and column of each entry from the middle of the kernel, ``(size^2, 2)``."""
        along = torch.arange(self.size, dtype=torch.float64) - self.size // 2
        return torch.cartesian_prod(along, along)

    @cached_property
    def trend(self) -> Tensor:
        """The logarithm of the kernel beforehand, on average, ``(size^2,)``."""
        return -0.5 * (self.offsets / (self.size / 4)).square().sum(1)

    @cached_property
    def root(self) -> Tensor:
        """L, ``(size^2, size^2)``: a root of the covariance of the logarithm."""
        squares = torch.cdist(self.offsets, self.offsets).square()
        covariance = torch.exp(-0.5 * squares / self.smoothness**2)
        covariance.diagonal().add_(1e-6)
        return self.contrast * torch.linalg.cholesky(covariance)

    def log_centring(self, kernels: Tensor) -> Tensor:
        """Logarithm of the prior of the centre of mass, ``(...)``, without its constant."""
        centre = kernels.flatten(-2) @ self.offsets.to(kernels)
        return -0.5 * (centre / self.centring).square().sum(-1)

    @cached_property
    def deviation(self) -> Tensor:
        """Standard deviation of each entry beforehand, the centring aside, ``(size, size)``."""
        return self.kernels(normal(("kernels",), (_DRAWS, self.size**2))).std(0)
