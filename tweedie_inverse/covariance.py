"""Covariances that are diagonal in an orthonormal basis: pixels, cosines, Fourier, or any matrix.

A denoising error, a Gaussian random field and a plain ``sigma^2 I`` are all of this kind.  The
variances may depend on nothing but frequency (``(height, width)``), or on channel and frequency;
for colour images an orthogonal mixing of the channels can come first.  A scale then lets the size
differ from place to place.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from operators.spectral import Basis, Pixels


@dataclass(frozen=True)
class Covariance:
    """``L L^T`` with ``L = diag(scale) basis^T diag(sqrt(variance))``.

    `variance` is non-negative, and broadcasts against the coefficients of one image; `scale` is
    positive, and broadcasts against ``(batch, *shape)``: each image of a batch may have its own.
    Their product ``scale^2 variance`` is in squared data units.
    """

    basis: Basis
    variance: Tensor
    scale: Tensor | None = None

    def factor(self, coefficients: Tensor) -> Tensor:
        """``L`` times coefficients."""
        x = self.basis.inverse(coefficients * self.variance.to(coefficients).sqrt())
        return x if self.scale is None else self.scale * x

    def factor_transposed(self, x: Tensor) -> Tensor:
        """``L^T x``, coefficients."""
        scaled = x if self.scale is None else self.scale * x
        return self.basis.transform(scaled) * self.variance.to(x).sqrt()

    def factor_inverse(self, x: Tensor) -> Tensor:
        """``L^-1 x``, coefficients; 0 along directions without variance."""
        white = self.basis.transform(x if self.scale is None else x / self.scale)
        deviation = self.variance.to(white).sqrt().expand_as(white)
        return torch.where(deviation > 0, white / deviation, torch.zeros_like(white))

    def apply(self, x: Tensor) -> Tensor:
        """Covariance times x, ``(batch, *shape)``."""
        return self.factor(self.factor_transposed(x))

    def colour(self, noise: Tensor) -> Tensor:
        """White noise ``(batch, *shape)`` turned into noise of this covariance."""
        return self.factor(self.basis.transform(noise))

    def map(self, function: Callable[[Tensor], Tensor]) -> "Covariance":
        """The same basis and scale with other variances."""
        return Covariance(self.basis, function(self.variance), self.scale)

    def spectrum(self) -> Tensor:
        """Variances of the coefficients, averaged over the image; of each image, with a scale."""
        if self.scale is None:
            return self.variance
        return self.variance.to(self.scale) * self.scale.square().mean(dim=(-2, -1), keepdim=True)


def isotropic(variance: float) -> Covariance:
    """``variance * I``, a single number: diagonal in every basis."""
    return Covariance(Pixels(), torch.tensor(float(variance), dtype=torch.float64))


# Up to this many numbers an image, a covariance is looked at along another basis through a matrix.
_LARGEST_DENSE = 4096


def common_basis(
    first: Covariance, second: Covariance, preferred: Basis, shape: tuple[int, ...]
) -> Basis:
    """A basis for both: `preferred` if both are isotropic, else that of the first that is not.

    Raises:
        ValueError: they differ, and images of `shape` are too large for `along`.
    """
    if first.variance.ndim == 0:
        return preferred if second.variance.ndim == 0 else second.basis
    if second.variance.ndim and second.basis != first.basis and math.prod(shape) > _LARGEST_DENSE:
        raise ValueError(
            f"two covariances of images of shape {tuple(shape)} are diagonal in different bases "
            f"({first.basis!r}, {second.basis!r}), which needs matrices of that size squared; up "
            f"to {_LARGEST_DENSE} numbers an image will do. Write both in one basis"
        )
    return first.basis


def along(covariance: Covariance, basis: Basis, shape: tuple[int, ...]) -> Tensor:
    """Variances of images of `shape` along the vectors of `basis`, like one image's coefficients.

    Correlations between these are left out; there are none where the bases are the same.
    """
    if covariance.variance.ndim == 0 or covariance.basis == basis:
        return covariance.variance
    size = math.prod(shape)
    units = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    coefficients = basis.transform(units)
    vectors = coefficients.flatten(1).mT.reshape(size, *shape)
    variance = covariance.factor_transposed(vectors).flatten(1).square().sum(1)
    return variance.reshape(coefficients.shape[1:])
