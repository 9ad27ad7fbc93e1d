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
from torch.nn import functional as F


class Basis(ABC):
    """An orthonormal real change of coordinates for tensors ``(batch, *shape)``."""

    @abstractmethod
    def transform(self, x: Tensor) -> Tensor:
        """Coefficients of x, as many as there are pixels."""

    @abstractmethod
    def inverse(self, coefficients: Tensor) -> Tensor:
        """The image with these coefficients."""

    def smooth(self, spectrum: Tensor) -> Tensor:
        """A rough spectrum with its neighbours averaged, where coefficients have neighbours."""
        return spectrum


@dataclass(frozen=True, eq=False)
class Pixels(Basis):
    """The standard basis."""

    def transform(self, x: Tensor) -> Tensor:
        return x

    def inverse(self, coefficients: Tensor) -> Tensor:
        return coefficients


@lru_cache(maxsize=32)
def _cosine_matrix(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal DCT-II matrix; rows are frequencies."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * k[:, None] * (k[None, :] + 0.5))
    matrix *= math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.to(dtype=dtype, device=device)


@dataclass(frozen=True, eq=False)
class Cosines(Basis):
    """Orthonormal 2-D DCT-II, after an optional orthogonal `mixing` ``(channels, channels)``.

    Coefficients are ``(batch, channels, height, width)``; rows are vertical frequencies.  As
    matrix products: up to a few hundred pixels a side they beat an FFT-based transform.
    """

    mixing: Tensor | None = None

    def transform(self, x: Tensor) -> Tensor:
        rows = _cosine_matrix(x.shape[-2], x.dtype, x.device)
        columns = _cosine_matrix(x.shape[-1], x.dtype, x.device)
        if self.mixing is not None:
            x = torch.einsum("kc,bchw->bkhw", self.mixing.to(x), x)
        return rows @ x @ columns.mT

    def inverse(self, coefficients: Tensor) -> Tensor:
        height, width = coefficients.shape[-2:]
        rows = _cosine_matrix(height, coefficients.dtype, coefficients.device)
        columns = _cosine_matrix(width, coefficients.dtype, coefficients.device)
        x = rows.mT @ coefficients @ columns
        if self.mixing is not None:
            x = torch.einsum("kc,bkhw->bchw", self.mixing.to(x), x)
        return x

    def smooth(self, spectrum: Tensor) -> Tensor:
        padded = F.pad(spectrum[None], (2, 2, 2, 2), mode="reflect")
        return F.avg_pool2d(padded, 5, stride=1)[0]


@dataclass(frozen=True, eq=False)
class Fourier(Basis):
    """Orthonormal 2-D Hartley transform, ``Re F x - Im F x``: the Fourier basis, kept real.

    A periodic field whose spectrum is even in frequency is diagonal here, in the layout of
    ``torch.fft.fft2``; the transform is its own inverse.
    """

    def transform(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(x, norm="ortho")
        return spectrum.real - spectrum.imag

    def inverse(self, coefficients: Tensor) -> Tensor:
        return self.transform(coefficients)


@dataclass(frozen=True, eq=False)
class Dense(Basis):
    """Columns of an orthogonal matrix `vectors` ``(n, n)``, for flattened images of `shape`."""

    vectors: Tensor
    shape: tuple[int, ...]

    def transform(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.vectors.to(x)

    def inverse(self, coefficients: Tensor) -> Tensor:
        flat = coefficients @ self.vectors.to(coefficients).mT
        return flat.reshape(len(coefficients), *self.shape)


@dataclass(frozen=True)
class Covariance:
    """``L L^T`` with ``L = basis^T diag(sqrt(variance))``.

    `variance` is non-negative, in squared data units, and broadcasts against the coefficients of
    one image.
    """

    basis: Basis
    variance: Tensor

    def factor(self, coefficients: Tensor) -> Tensor:
        """``L`` times coefficients."""
        return self.basis.inverse(coefficients * self.variance.to(coefficients).sqrt())

    def factor_transposed(self, x: Tensor) -> Tensor:
        """``L^T x``, coefficients."""
        return self.basis.transform(x) * self.variance.to(x).sqrt()

    def apply(self, x: Tensor) -> Tensor:
        """Covariance times x, ``(batch, *shape)``."""
        return self.basis.inverse(self.basis.transform(x) * self.variance.to(x))

    def colour(self, noise: Tensor) -> Tensor:
        """White noise ``(batch, *shape)`` turned into noise of this covariance."""
        return self.factor(self.basis.transform(noise))

    def map(self, function: Callable[[Tensor], Tensor]) -> "Covariance":
        """The same basis with other variances."""
        return Covariance(self.basis, function(self.variance))


_PIXELS, _COSINES, _FOURIER = Pixels(), Cosines(), Fourier()


def isotropic(variance: float) -> Covariance:
    """``variance * I``, a single number: diagonal in every basis."""
    return Covariance(_PIXELS, torch.tensor(float(variance), dtype=torch.float64))


def natural_basis(shape: tuple[int, ...], *, shift_invariant: bool) -> Basis:
    """The basis in which an operator on images of `shape` is closest to diagonal."""
    if len(shape) != 3:
        return _PIXELS
    return _FOURIER if shift_invariant else _COSINES
