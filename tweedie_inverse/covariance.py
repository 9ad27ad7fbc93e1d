"""Covariances that are diagonal in an orthonormal basis: pixels, cosines, Fourier, or any matrix.

A denoising error, a Gaussian random field and a plain ``sigma^2 I`` are all of this kind.  The
variances may depend on nothing but frequency (``(height, width)``), or on channel and frequency;
for colour images an orthogonal mixing of the channels can come first.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


class Basis(ABC):
    """An orthonormal change of coordinates for tensors ``(batch, *shape)``."""

    @abstractmethod
    def multiply(self, x: Tensor, factor: Tensor) -> Tensor:
        """``B^T diag(factor) B x``; `factor` broadcasts against the coordinates of x."""


@dataclass(frozen=True)
class Pixels(Basis):
    """The standard basis."""

    def multiply(self, x: Tensor, factor: Tensor) -> Tensor:
        return x * factor


@lru_cache(maxsize=32)
def _cosine_matrix(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal DCT-II matrix; rows are frequencies."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * k[:, None] * (k[None, :] + 0.5))
    matrix *= math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(dtype=dtype, device=device)


@dataclass(frozen=True)
class Cosines(Basis):
    """Orthonormal 2-D DCT-II, after an optional orthogonal `mixing` ``(channels, channels)``.

    As matrix products: up to a few hundred pixels a side they beat an FFT-based transform.
    """

    mixing: Tensor | None = None

    def transform(self, x: Tensor) -> Tensor:
        """Coefficients ``(batch, channels, height, width)``; row = vertical frequency."""
        rows = _cosine_matrix(x.shape[-2], x.dtype, x.device)
        columns = _cosine_matrix(x.shape[-1], x.dtype, x.device)
        if self.mixing is not None:
            x = torch.einsum("kc,bchw->bkhw", self.mixing.to(x), x)
        return rows @ x @ columns.mT

    def inverse(self, coefficients: Tensor) -> Tensor:
        """The image with these coefficients."""
        height, width = coefficients.shape[-2:]
        rows = _cosine_matrix(height, coefficients.dtype, coefficients.device)
        columns = _cosine_matrix(width, coefficients.dtype, coefficients.device)
        x = rows.mT @ coefficients @ columns
        if self.mixing is not None:
            x = torch.einsum("kc,bkhw->bchw", self.mixing.to(x), x)
        return x

    def multiply(self, x: Tensor, factor: Tensor) -> Tensor:
        return self.inverse(self.transform(x) * factor)


@dataclass(frozen=True)
class Fourier(Basis):
    """Orthonormal 2-D DFT; factors in the layout of ``torch.fft.fft2`` and even in frequency."""

    def multiply(self, x: Tensor, factor: Tensor) -> Tensor:
        half = factor[..., : x.shape[-1] // 2 + 1]  # real images: half the spectrum tells all
        return torch.fft.irfft2(torch.fft.rfft2(x) * half, s=x.shape[-2:])


@dataclass(frozen=True)
class Dense(Basis):
    """Columns of an orthogonal matrix `vectors` ``(n, n)``, for flattened images."""

    vectors: Tensor

    def multiply(self, x: Tensor, factor: Tensor) -> Tensor:
        vectors = self.vectors.to(x)
        return ((x.flatten(1) @ vectors * factor) @ vectors.mT).reshape(x.shape)


@dataclass(frozen=True)
class Covariance:
    """``basis^T diag(variance) basis``; `variance` non-negative, in squared data units."""

    basis: Basis
    variance: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Covariance times x, ``(batch, *shape)``."""
        return self.basis.multiply(x, self.variance.to(x))

    def sqrt(self, x: Tensor) -> Tensor:
        """Symmetric square root times x: maps white noise to noise of this covariance."""
        return self.basis.multiply(x, self.variance.to(x).sqrt())

    def map(self, function: Callable[[Tensor], Tensor]) -> "Covariance":
        """The same basis with other variances."""
        return Covariance(self.basis, function(self.variance))


def isotropic(variance: float) -> Covariance:
    """``variance * I``."""
    return Covariance(Pixels(), torch.tensor(float(variance), dtype=torch.float64))
