"""Covariances that are diagonal in an orthonormal basis: pixels, cosines, Fourier, or any matrix.

A denoising error, a Gaussian random field and a plain ``sigma^2 I`` are all of this kind.  The
variances may depend on nothing but frequency (``(height, width)``), or on channel and frequency;
for colour images an orthogonal mixing of the channels can come first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from operators.spectral import Basis, Pixels


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


def isotropic(variance: float) -> Covariance:
    """``variance * I``, a single number: diagonal in every basis."""
    return Covariance(Pixels(), torch.tensor(float(variance), dtype=torch.float64))
